//! Where the rules change: the paths at which something has to be mounted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rules::{FileRules, Place};

/// A path that is served from elsewhere than the directory it is in, or written elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Boundary {
    pub(crate) path: PathBuf,
    pub(crate) place: Place,
    /// What is changed below it stays on this machine ([`FileRules::is_kept_here`]).
    pub(crate) kept_here: bool,
}

/// All boundaries on the way to the paths that rules name and to `more` paths, those above before those below. The root
/// itself counts as the machine's. Globs name no path: they are decided inside the mount, for what lies in a directory of
/// the pod.
pub(crate) fn boundaries(rules: &FileRules, more: impl Iterator<Item = PathBuf>) -> Vec<Boundary> {
    let points = rules.named_paths().chain(more);
    let mut found = BTreeMap::new();
    for point in points.filter(|point| point.is_absolute()) {
        for path in point.ancestors().filter(|path| path.parent().is_some()) {
            let served = |path: &Path| (place(rules, path), rules.is_kept_here(path));
            let here = served(path);
            if path.parent().is_some_and(|parent| served(parent) != here) {
                found.insert(path.to_owned(), here);
            }
        }
    }
    // A path sorts before what is below it.
    found
        .into_iter()
        .map(|(path, (place, kept_here))| Boundary { path, place, kept_here })
        .collect()
}

/// The rules' decision, but for what a namespace cannot do without.
pub(crate) fn place(rules: &FileRules, path: &Path) -> Place {
    let machine = path.parent().is_none() || rules::KERNEL.iter().any(|kernel| path.starts_with(kernel));
    if machine {
        Place::Local
    } else {
        rules.decide(path).place
    }
}

#[cfg(test)]
mod tests {
    use rules::PathPattern;

    use super::*;

    fn check(rules: &FileRules, pod: &[&str], expect: &[(&str, Place)]) {
        let all = boundaries(rules, pod.iter().map(PathBuf::from));
        for (path, place) in expect {
            let found = all.iter().find(|boundary| boundary.path == Path::new(path));
            assert_eq!(found.map(|boundary| boundary.place), Some(*place), "{path} in {all:?}");
        }
        let mut seen: Vec<&Path> = Vec::new();
        for boundary in &all {
            assert!(
                !seen.iter().any(|before| before.starts_with(&boundary.path)),
                "{} comes after what is below it",
                boundary.path.display()
            );
            seen.push(&boundary.path);
        }
    }

    #[test]
    fn the_pods_directories_and_volumes() {
        let rules = FileRules {
            volumes: vec!["/data/cache".into(), "/var/lib/db".into(), "/etc/app".into()],
            kept: vec!["/work/project".into()],
            ..FileRules::default()
        };
        check(
            &rules,
            &["/app", "/data", "/usr", "/work"],
            &[
                ("/app", Place::Remote),
                ("/data", Place::Remote),
                ("/work", Place::Remote),
                ("/work/project", Place::Local),
                ("/var", Place::Remote),
                ("/var/lib", Place::Local),
                ("/var/lib/db", Place::Remote),
                ("/etc/app", Place::Remote),
                ("/etc/hosts", Place::Remote),
                ("/run/secrets", Place::Remote),
                ("/run/nscd", Place::Hidden),
            ],
        );
        let all = boundaries(&rules, [PathBuf::from("/usr")].into_iter());
        for inside in ["/usr", "/data/cache", "/etc", "/proc"] {
            assert!(
                !all.iter().any(|boundary| boundary.path == Path::new(inside)),
                "{inside} is no boundary"
            );
        }
    }

    #[test]
    fn kernel_interfaces_stay_whatever_is_remote() {
        let rules = FileRules {
            remote: vec![PathPattern::Prefix("/".into())],
            ..FileRules::default()
        };
        check(&rules, &["/proc", "/usr"], &[("/usr", Place::Remote)]);
        assert_eq!(place(&rules, Path::new("/proc/self")), Place::Local);
    }
}
