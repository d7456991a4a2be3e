//! Host names: which are looked up in the pod.

use crate::{Place, Verdict};

/// A host name or `*.suffix`, compared without case and without the final dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.trim_end_matches('.').to_ascii_lowercase())
    }

    /// `*.corp` matches every name below `corp`, not `corp` itself; `*` matches everything.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        if self.0 == "*" {
            return true;
        }
        match self.0.strip_prefix('*') {
            Some(suffix) => {
                name.len() > suffix.len()
                    && name.is_char_boundary(name.len() - suffix.len())
                    && name[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
            }
            None => name.eq_ignore_ascii_case(&self.0),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which names are answered by the pod's resolver.
#[derive(Debug, Clone)]
pub struct NameRules {
    pub on: bool,
    pub local: Vec<NamePattern>,
    /// When not empty, only these are remote.
    pub remote: Vec<NamePattern>,
}

impl Default for NameRules {
    fn default() -> Self {
        Self { on: true, local: Vec::new(), remote: Vec::new() }
    }
}

impl NameRules {
    #[must_use]
    pub fn decide(&self, name: &str) -> Verdict {
        if !self.on {
            return Verdict::new(Place::Local, "dns is switched off");
        }
        if let Some(pattern) = self.local.iter().find(|pattern| pattern.matches(name)) {
            return Verdict::new(Place::Local, format!("dns.local lists {}", pattern.as_str()));
        }
        if let Some(pattern) = self.remote.iter().find(|pattern| pattern.matches(name)) {
            return Verdict::new(Place::Remote, format!("dns.remote lists {}", pattern.as_str()));
        }
        if self.remote.is_empty() {
            Verdict::new(Place::Remote, "names are remote by default")
        } else {
            Verdict::new(Place::Local, "dns.remote does not list it")
        }
    }
}
