//! Environment variables: the pod's, over the machine's, minus what would break local toolchains.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use globset::GlobMatcher;

/// Variables of the pod that are never taken unless `include` names them: with the pod's value the local toolchain, shell
/// or loader would stop working. A trailing `*` matches any rest. The documentation prints this table.
pub const EXCLUDED: &[&str] = &[
    "PATH",
    "HOME",
    "HOMEPATH",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "SHELL",
    "USER",
    "LOGNAME",
    "TERM",
    "TMPDIR",
    "TEMP",
    "TMP",
    "_",
    "LD_*",
    "DYLD_*",
    "GLIBC_TUNABLES",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "JAVA_HOME",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "JAVA_EXE",
    "CLASSPATH",
    "MAVEN_*",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "VIRTUAL_ENV",
    "CONDA_*",
    "GEM_*",
    "BUNDLE_*",
    "RUBYOPT",
    "RUBYLIB",
    "RUBY_*",
    "GOPATH",
    "GOROOT",
    "GOFLAGS",
    "GOCACHE",
    "GOBIN",
    "GOTOOLCHAIN",
    "CARGO_*",
    "RUSTUP_*",
    "RUSTFLAGS",
    "PERL5LIB",
    "PERL5OPT",
    "DOTNET_*",
    "PHP_INI_SCAN_DIR",
    "NPM_CONFIG_*",
    "npm_config_*",
    "PIP_*",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "BASH_ENV",
    "ENV",
    "IFS",
    "HOSTNAME_COMMAND",
    "XDG_*",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// How the app's environment is made.
#[derive(Debug, Clone, Default)]
pub struct EnvRules {
    /// Patterns; when not empty only these are taken, and they win over [`EXCLUDED`].
    pub include: Vec<GlobMatcher>,
    pub exclude: Vec<GlobMatcher>,
    /// Set last, whatever the pod says.
    pub overrides: BTreeMap<OsString, OsString>,
    /// The pod's variable (key) arrives under another name (value).
    pub map: BTreeMap<OsString, OsString>,
    pub unset: Vec<GlobMatcher>,
}

impl EnvRules {
    /// Why the pod's variable `name` is not taken, or `None` when it is. A variable that `map` names is asked for: only
    /// `exclude` drops it.
    #[must_use]
    pub fn dropped(&self, name: &OsStr) -> Option<&'static str> {
        if self.exclude.iter().any(|pattern| pattern.is_match(name)) {
            return Some("env.exclude");
        }
        if self.map.contains_key(name) {
            return None;
        }
        if !self.include.is_empty() {
            return (!self.include.iter().any(|pattern| pattern.is_match(name))).then_some("not in env.include");
        }
        let bytes = name.as_encoded_bytes();
        EXCLUDED
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => bytes.starts_with(prefix.as_bytes()),
                None => bytes == pattern.as_bytes(),
            })
            .then_some("would break local toolchains")
    }

    /// The app's environment: `local` with the pod's variables over it, then `unset`, then `overrides`. Where a mapped
    /// variable and another one arrive under the same name, the mapped one stays.
    #[must_use]
    pub fn apply(
        &self,
        local: impl IntoIterator<Item = (OsString, OsString)>,
        pod: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> BTreeMap<OsString, OsString> {
        let mut result: BTreeMap<_, _> = local.into_iter().collect();
        let taken = pod.into_iter().filter(|(name, _)| self.dropped(name).is_none());
        let (mapped, plain): (Vec<_>, Vec<_>) = taken.partition(|(name, _)| self.map.contains_key(name));
        result.extend(plain);
        result.extend(
            mapped
                .into_iter()
                .map(|(name, value)| (self.map.get(&name).cloned().unwrap_or(name), value)),
        );
        result.retain(|name, _| !self.unset.iter().any(|pattern| pattern.is_match(name)));
        result.extend(self.overrides.clone());
        result
    }
}
