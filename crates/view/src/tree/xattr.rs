//! Extended attributes. Whether a file has any is known with its attributes, so that only those are asked for that are there;
//! the answer brings the names, short values, and those of files around.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use wire::message::{
    Attributes, Bytes, Change, FileAnswer, FileOperation, MAX_XATTR_LIST, MAX_XATTR_NAME, MAX_XATTR_VALUE, Xattr,
    XattrKind,
};

use super::node::Stamp;
use super::place::Place;
use super::{FRESH, Node, PodTree};
use crate::Errno;
use crate::remote::{ask, to_bytes};

/// Files whose attributes are asked for in one question.
const BATCH: usize = 256;

/// What the pod said of a node's extended attributes.
pub(crate) struct Known {
    asked: Instant,
    stamp: Stamp,
    all: Vec<Xattr>,
}

impl Known {
    /// They belong to the node's change time: while that is the same, nobody has changed them but within one tick of the
    /// pod's clock.
    fn fresh(&self, attributes: &Attributes) -> bool {
        self.asked.elapsed() < FRESH && self.stamp == Stamp::of(attributes)
    }
}

impl PodTree {
    /// What the kernel may be told of.
    fn kind(&self, name: &[u8]) -> Option<XattrKind> {
        // The kernel keeps access lists to itself in a user namespace (fuse_no_acl).
        XattrKind::of(name).filter(|kind| self.identity.owner.is_none() || !kind.is_acl())
    }

    /// # Errors
    /// `ENODATA` for what is not there or only means something to the pod's kernel; the pod's; `EIO` when the link is gone.
    pub(crate) async fn xattr(&self, node: &Arc<Node>, name: &[u8]) -> Result<Box<[u8]>, Errno> {
        // Who is told this of a label does not ask again for the next file (ls).
        let none = if name.starts_with(b"security.") {
            Errno::OPNOTSUPP
        } else {
            Errno::NODATA
        };
        let kind = self.kind(name).ok_or(none)?;
        let with = self.with_xattrs(node).await?;
        let Some(attributes) = with.filter(|attributes| attributes.xattrs.has(kind)) else {
            return Err(self.absent(kind));
        };
        let known = self.xattrs_of(node, &attributes).await?;
        let found = known
            .all
            .iter()
            .find(|xattr| xattr.name.0 == name)
            .ok_or(Errno::NODATA)?;
        if let Some(value) = &found.value {
            return Ok(value.0.as_slice().into());
        }
        let operation = FileOperation::Xattr {
            path: to_bytes(&node.in_pod(&self.places)),
            name: Bytes(name.to_vec()),
        };
        match ask(&self.pod, operation).await? {
            FileAnswer::Xattr(value) if value.0.len() <= MAX_XATTR_VALUE => Ok(value.0.into()),
            _ => Err(Errno::IO),
        }
    }

    /// What is said of a kind that a file has none of. As long as no file with an access list was seen, and none can be
    /// made, `EOPNOTSUPP`: ls(1) then asks for no further file's.
    fn absent(&self, kind: XattrKind) -> Errno {
        let none = kind.is_acl() && !self.places.may_change() && !self.lists.load(Ordering::Relaxed);
        if none { Errno::OPNOTSUPP } else { Errno::NODATA }
    }

    /// Notes access lists.
    pub(super) fn note_lists<'a>(&self, mut all: impl Iterator<Item = &'a Attributes>) {
        let has =
            |attributes: &Attributes| [XattrKind::Access, XattrKind::Default].map(|kind| attributes.xattrs.has(kind));
        if !self.lists.load(Ordering::Relaxed) && all.any(|attributes| has(attributes).contains(&true)) {
            self.lists.store(true, Ordering::Relaxed);
        }
    }

    /// The names, each with its NUL.
    ///
    /// # Errors
    /// The pod's; `EIO` when the link is gone.
    pub(crate) async fn xattr_names(&self, node: &Arc<Node>) -> Result<Box<[u8]>, Errno> {
        let Some(attributes) = self.with_xattrs(node).await? else {
            return Ok(Box::default());
        };
        let known = self.xattrs_of(node, &attributes).await?;
        let shown = known.all.iter().filter(|xattr| self.kind(&xattr.name.0).is_some());
        let names: Vec<u8> = shown.flat_map(|xattr| [&xattr.name.0[..], b"\0"].concat()).collect();
        Ok(names.into())
    }

    /// The attributes of what has extended ones.
    async fn with_xattrs(&self, node: &Arc<Node>) -> Result<Option<Attributes>, Errno> {
        if node.place != Place::Pod || node.is_gone() {
            return Ok(None);
        }
        let (attributes, _) = self.attributes(node).await?;
        self.note_lists(std::iter::once(&attributes));
        Ok(Some(attributes).filter(|attributes| !attributes.xattrs.is_empty()))
    }

    async fn xattrs_of(&self, node: &Arc<Node>, attributes: &Attributes) -> Result<Arc<Known>, Errno> {
        if let Some(known) = node.state().xattrs.clone()
            && known.fresh(attributes)
        {
            return Ok(known);
        }
        let mut nodes = vec![(Arc::clone(node), Stamp::of(attributes))];
        nodes.extend(self.around(node));
        let paths = nodes
            .iter()
            .map(|(node, _)| to_bytes(&node.in_pod(&self.places)))
            .collect();
        let asked = Instant::now();
        let FileAnswer::Xattrs(answers) = ask(&self.pod, FileOperation::Xattrs(paths)).await? else {
            return Err(Errno::IO);
        };
        if answers.len() != nodes.len() {
            return Err(Errno::IO);
        }
        let mut own = None;
        for ((other, stamp), answer) in nodes.into_iter().zip(answers) {
            let answer = answer.map_err(Errno::from_pod).and_then(checked);
            let known = answer.map(|all| Arc::new(Known { asked, stamp, all }));
            if let Ok(known) = &known {
                let mut state = other.state();
                if !state.is_older(asked) {
                    state.xattrs = Some(Arc::clone(known));
                }
            }
            own.get_or_insert(known);
        }
        own.unwrap_or(Err(Errno::IO))
    }

    /// Others of the same directory whose attributes are not known: a program that asks for one's will ask for theirs.
    fn around(&self, node: &Arc<Node>) -> Vec<(Arc<Node>, Stamp)> {
        let Some(parent) = node.parent() else { return Vec::new() };
        let others = self.table.below(&parent);
        let wanted = others.into_iter().filter_map(|other| {
            let state = other.state();
            let (attributes, _) = state.fresh()?;
            let unknown = state.xattrs.as_ref().is_none_or(|known| !known.fresh(&attributes));
            let wanted = unknown && !attributes.xattrs.is_empty() && other.place == Place::Pod && other.id != node.id;
            drop(state);
            wanted.then(|| (other, Stamp::of(&attributes)))
        });
        wanted.take(BATCH - 1).collect()
    }

    /// `flags` as in setxattr(2).
    ///
    /// # Errors
    /// `EOPNOTSUPP` for what is not passed on; `EROFS` where the rules let nothing be written; the pod's; `EIO` when the link
    /// is gone.
    pub(crate) async fn set_xattr(&self, node: &Arc<Node>, name: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
        let change = Change::SetXattr {
            path: self.changeable(node, name)?,
            name: Bytes(name.to_vec()),
            value: Bytes(value.to_vec()),
            flags,
        };
        if value.len() > MAX_XATTR_VALUE {
            return Err(Errno::TOOBIG);
        }
        let outcome = self.now(change).await;
        self.learn(node, false, outcome).map(drop)
    }

    /// # Errors
    /// As [`Self::set_xattr`].
    pub(crate) async fn remove_xattr(&self, node: &Arc<Node>, name: &[u8]) -> Result<(), Errno> {
        let change = Change::RemoveXattr {
            path: self.changeable(node, name)?,
            name: Bytes(name.to_vec()),
        };
        let outcome = self.now(change).await;
        self.learn(node, false, outcome).map(drop)
    }

    fn changeable(&self, node: &Node, name: &[u8]) -> Result<Bytes, Errno> {
        let path = self.path(node)?;
        self.kind(name).map(|_| path).ok_or(Errno::OPNOTSUPP)
    }
}

/// What a kernel can take and may be told.
fn checked(all: Vec<Xattr>) -> Result<Vec<Xattr>, Errno> {
    let is_good = |xattr: &Xattr| {
        let value = xattr.value.as_ref().map_or(0, |value| value.0.len());
        xattr.name.0.len() <= MAX_XATTR_NAME && XattrKind::of(&xattr.name.0).is_some() && value <= MAX_XATTR_VALUE
    };
    let all: Vec<Xattr> = all.into_iter().filter(is_good).collect();
    if all.iter().map(|xattr| xattr.name.0.len() + 1).sum::<usize>() > MAX_XATTR_LIST {
        return Err(Errno::TOOBIG);
    }
    Ok(all)
}
