//! What the kernel was found to allow.

use std::sync::{Mutex, PoisonError};

/// Remembers that something works. Whoever asks while it is being tried waits for that answer; a reason why it does not work
/// may pass, so it is looked for again each time.
#[derive(Debug, Default)]
pub(crate) struct Tried(Mutex<bool>);

impl Tried {
    /// `None`: it works.
    pub(crate) fn limit(&self, attempt: impl FnOnce() -> Option<String>) -> Option<String> {
        // A panic leaves a flag that is right or was never set.
        let mut works = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *works {
            return None;
        }
        let why = attempt();
        *works = why.is_none();
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_is_remembered() {
        let tried = Tried::default();
        assert_eq!(tried.limit(|| Some("held".to_owned())).as_deref(), Some("held"));
        assert_eq!(tried.limit(|| None), None);
        assert_eq!(tried.limit(|| panic!("it is known to work")), None);
    }
}
