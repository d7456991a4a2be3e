//! What the pod's spec gives where the target itself may not be looked into: better than nothing, and said to be less.

use std::collections::BTreeSet;

use target::{Connector, EnvFromSpec, VolumeMount};
use wire::message::{Bytes, Facts};

type Env = Vec<(Vec<u8>, Vec<u8>)>;

/// Fills in what the agent could not read; what to warn of.
pub(crate) async fn instead(connector: &Connector, facts: &mut Facts, env: &mut Env) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(reason) = &facts.limits.files {
        warnings.push(files(reason, &connector.pod_volume_mounts(), &mut facts.volumes));
    }
    if let Some(reason) = &facts.limits.env {
        let (warning, variables) = environment(reason, connector.pod_env().await);
        env.extend(variables);
        warnings.push(warning);
    }
    warnings
}

/// The volumes stay the pod's, so that what was to be read there is refused and not looked for on this machine.
fn files(reason: &str, mounts: &[VolumeMount], volumes: &mut Vec<Bytes>) -> String {
    let known: BTreeSet<Vec<u8>> = volumes.iter().map(|volume| volume.0.clone()).collect();
    let mounted = mounts.iter().map(|mount| mount.path.as_bytes().to_vec());
    volumes.extend(mounted.filter(|path| !known.contains(path)).map(Bytes));
    let mut warning = format!("files of the target cannot be read, its resolver settings among them: {reason}");
    if !mounts.is_empty() {
        let paths: Vec<_> = mounts.iter().map(|mount| mount.path.as_str()).collect();
        warning.push_str(&format!("; the pod's volumes are missing too: {}", paths.join(", ")));
    }
    warning
}

fn environment(reason: &str, spec: Option<EnvFromSpec>) -> (String, Env) {
    let mut warning = format!("the environment of the target cannot be read: {reason}");
    let Some(spec) = spec else {
        return (warning, Env::new());
    };
    warning.push_str("; it is taken from the pod's spec, without what the image sets and the variables for services");
    if !spec.missing.is_empty() {
        warning.push_str(&format!(", and without {}", spec.missing.join(", ")));
    }
    let variables = spec.variables.into_iter();
    (
        warning,
        variables
            .map(|(name, value)| (name.into_bytes(), value.into_bytes()))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_names_what_is_missing() {
        let spec = EnvFromSpec {
            variables: [("HOST".to_owned(), "db".to_owned())].into(),
            missing: vec!["PASSWORD (secret/db key password: no permission to get secrets)".to_owned()],
        };
        let (warning, env) = environment("it hides", Some(spec));
        assert_eq!(
            warning,
            "the environment of the target cannot be read: it hides; it is taken from the pod's spec, without what the image \
             sets and the variables for services, and without PASSWORD (secret/db key password: no permission to get secrets)"
        );
        assert_eq!(env, [(b"HOST".to_vec(), b"db".to_vec())]);
        let (warning, env) = environment("it hides", None);
        assert_eq!(warning, "the environment of the target cannot be read: it hides");
        assert!(env.is_empty());
    }

    #[test]
    fn volumes_of_the_spec_stay_the_pods() {
        let mount = |path: &str| VolumeMount {
            volume: "v".to_owned(),
            path: path.to_owned(),
            read_only: true,
        };
        let mut volumes = vec![Bytes(b"/a".to_vec())];
        let warning = files("it hides", &[mount("/a"), mount("/etc/app")], &mut volumes);
        assert_eq!(volumes, [Bytes(b"/a".to_vec()), Bytes(b"/etc/app".to_vec())]);
        assert!(
            warning.ends_with("the pod's volumes are missing too: /a, /etc/app"),
            "{warning}"
        );
    }
}
