//! Questions about extended attributes, and how long their answers may be.

use std::sync::Arc;

use bytes::Bytes;

use super::abi::{self, Field, Reader};
use super::reply::Reply;
use crate::Errno;
use crate::tree::{Node, PodTree};

/// GETXATTR with a name, LISTXATTR without.
#[derive(Debug)]
pub(crate) struct Question {
    /// Room for the answer in bytes; 0 asks for its length.
    size: u32,
    name: Option<Box<[u8]>>,
}

/// `None`: cut short.
pub(crate) fn decode(reader: &mut Reader<'_>, named: bool) -> Option<Question> {
    let abi::GetXattrIn { size, .. } = Field::read(reader)?;
    let name = if named { Some(reader.name()?.into()) } else { None };
    Some(Question { size, name })
}

/// # Errors
/// `ERANGE` when the answer does not fit; those of [`PodTree::xattr`] and [`PodTree::xattr_names`].
pub(crate) async fn answer(tree: &PodTree, node: &Arc<Node>, question: &Question) -> Result<Reply, Errno> {
    let found = match &question.name {
        Some(name) => tree.xattr(node, name).await?,
        None => tree.xattr_names(node).await?,
    };
    if question.size == 0 {
        let size = u32::try_from(found.len()).map_err(|_| Errno::IO)?;
        return Ok(Reply::of(&abi::GetXattrOut { size, padding: 0 }));
    }
    if found.len() > question.size as usize {
        return Err(Errno::RANGE);
    }
    Ok(Reply::Data(vec![Bytes::from(found)]))
}
