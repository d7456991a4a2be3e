//! A mount that every program of the user can see is for the session alone: others are told so at once, and nobody asks the
//! pod for them. What a program has open already is its own, whoever gave it.

use std::time::Duration;

use super::abi;
use super::answer::Answer;
use super::decode::Operation;
use super::reply::{self, Reply};
use super::serve::Connection;
use crate::Errno;

/// `FUSE_ROOT_ID`.
const ROOT: u64 = 1;
const REFUSED: Answer = Answer::Failed(Errno::ACCES);

impl Connection {
    /// The answer for who does not belong; `None`: it is to be answered as it should be.
    pub(super) fn turned_away(&self, node: u64, caller: u32, operation: &Operation<'_>) -> Option<Answer> {
        let members = self.members.as_ref()?;
        // Walks of the machine's files look at the mount itself and go round it then (`find -xdev`, `rsync -x`): no error.
        let shown: &dyn Fn() -> Answer = match operation {
            Operation::StatFs => &|| Answer::Plain(Reply::of(&abi::StatfsOut::default())),
            Operation::Attributes if node == ROOT => &|| {
                let root = self.tree.shown(&crate::tree::root_attributes());
                Answer::Plain(Reply::of(&reply::attributes(&root, Duration::ZERO)))
            },
            // The kernel takes a name that it knows out of its cache when it is refused (fuse_dentry_revalidate), and a
            // working directory there would be gone for the session.
            Operation::Lookup { name } => &|| match self.tree.known(node, name) {
                Some(found) => Answer::Entry(found),
                None => REFUSED,
            },
            // Of what it was given open; and the kernel writes mapped pages back in nobody's name.
            Operation::Attributes | Operation::Read(_) | Operation::ReadDirectory { .. } => return None,
            Operation::Change(change) if change.is_of_open_file() => return None,
            _ => &|| REFUSED,
        };
        (!members.has(caller)).then(shown)
    }
}
