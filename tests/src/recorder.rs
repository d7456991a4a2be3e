//! A session whose app writes down every request it gets (tests/guests/record.py).

use std::path::{Path, PathBuf};

use crate::{Session, Stage, guests, scratch};

impl Stage {
    /// A session whose app is the recorder, and the file it writes; the claim is in force.
    #[must_use]
    pub fn with_recorder(&self, flags: &[&str]) -> (Session, PathBuf) {
        let file = scratch(&format!("{}.requests", self.pod.name));
        let program = ["python3", &guests::script("record.py"), &file.display().to_string()];
        let mut session = self.session(flags, &program);
        session.wait_for_claim(self.address().port());
        (session, file)
    }
}

/// The requests that the recorder wrote.
#[must_use]
pub fn recorded(file: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let mut rest = bytes.as_slice();
    let mut requests = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        // The last one may still be on its way to the file.
        let Some(request) = behind.get(..length) else { break };
        requests.push(request.to_vec());
        rest = &behind[length..];
    }
    requests
}
