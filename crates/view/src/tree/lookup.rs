//! Names, attributes and symlinks.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use wire::message::Attributes;

use super::brought::Seen;
use super::node::{Node, Stamp};
use super::place::Place;
use super::{Answers, Door, FRESH, Listed, PRIMED, PodTree, caller};
use crate::Errno;
use crate::remote::{MOST_LINKS, read_link, stat};

/// A name that was looked up.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) node: Arc<Node>,
    pub(crate) attributes: Attributes,
    /// How long the kernel may believe it.
    pub(crate) valid: Duration,
}

impl PodTree {
    /// # Errors
    /// `ENOENT` where nothing is there or the rules hide it; the pod's; `EIO` when the link is gone.
    pub(crate) async fn lookup(&self, parent: &Arc<Node>, name: &[u8], caller: u32) -> Result<Found, Errno> {
        if parent.is_root()
            && let Some(door) = Door::of(name)
        {
            return self.behind(parent, name, door).await;
        }
        if name.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        if !crate::remote::is_name(name) {
            return Err(Errno::NOENT);
        }
        let path = parent.path().join(OsStr::from_bytes(name));
        let place = self.places.decide(parent.place, &path).ok_or(Errno::NOENT)?;
        if place == Place::Placeholder {
            let attributes = self.places.made_up(&path).ok_or(Errno::NOENT)?;
            return Ok(self.found(parent, name, place, attributes, Duration::ZERO));
        }
        let known = self.table.at(parent, name);
        if let Some(node) = &known
            && let Some((attributes, valid)) = node.state().fresh()
        {
            return Ok(Found {
                node: Arc::clone(node),
                attributes,
                valid,
            });
        }
        if let Some((listed, age)) = Self::listed(parent, name) {
            let listed = listed.ok_or(Errno::NOENT)?;
            return Ok(self.found_listed(parent, &listed, age));
        }
        if let Some(node) = known
            && let Some((attributes, valid)) = self.renewed_near(&node).await
        {
            return Ok(Found {
                node,
                attributes,
                valid,
            });
        }
        let asked = Instant::now();
        let seen = match self.primed(&path).await {
            Some(found) => Seen {
                found,
                link: None,
                age: asked.elapsed(),
            },
            None => {
                let path = parent.child_in_pod(&path, name, &self.places);
                let above = parent.path();
                let above = above.file_name().unwrap_or_default();
                let intent = || caller::intent(caller, above.as_bytes(), name);
                self.supply.look(&path, intent).await?
            }
        };
        match seen.found {
            Ok(attributes) => {
                let found = self.found(parent, name, place, attributes, seen.age);
                if let Some(link) = seen.link {
                    found.node.state().link.get_or_insert(link);
                }
                Ok(found)
            }
            // A directory on the way to something of this machine.
            Err(Errno::NOENT) => match self.places.made_up(&path) {
                Some(attributes) => Ok(self.found(parent, name, place, attributes, Duration::ZERO)),
                None => Err(Errno::NOENT),
            },
            Err(errno) => Err(errno),
        }
    }

    /// What a door leads to.
    async fn behind(&self, root: &Arc<Node>, name: &[u8], door: Door) -> Result<Found, Errno> {
        if self.places.decide(Place::Walked, &door.path) != Some(Place::Pod) {
            return Err(Errno::NOENT);
        }
        let asked = Instant::now();
        let mut pod = None;
        let attributes = if door.followed {
            let (leads, attributes) = self.follow(self.places.in_pod(&door.path)).await?;
            pod = Some(leads);
            Ok(attributes)
        } else if let Some(answer) = self.primed(&door.path).await {
            answer
        } else {
            stat(&self.pod, &self.places.in_pod(&door.path)).await
        };
        let attributes = match attributes {
            Err(Errno::NOENT) => self.places.made_up(&door.path).ok_or(Errno::NOENT),
            other => other,
        }?;
        let link = self.primed_link(&door.path);
        let (age, origin) = (asked.elapsed(), Some((door.path, pod)));
        let node = self.table.found_behind(root, name, origin, Place::Pod, attributes, age);
        if attributes.mode & libc::S_IFMT == libc::S_IFLNK {
            node.state().link = link;
        }
        Ok(Found {
            node,
            attributes,
            valid: FRESH.saturating_sub(age),
        })
    }

    /// Where a path of the pod leads in the end.
    async fn follow(&self, mut path: PathBuf) -> Result<(PathBuf, Attributes), Errno> {
        for _ in 0..MOST_LINKS {
            let attributes = stat(&self.pod, &path).await?;
            if attributes.mode & libc::S_IFMT != libc::S_IFLNK {
                return Ok((path, attributes));
            }
            let target = read_link(&self.pod, &path).await?;
            path = rules::normal(&path.parent().unwrap_or(Path::new("/")).join(OsStr::from_bytes(&target)));
        }
        Err(Errno::LOOP)
    }

    pub(super) fn found(
        &self,
        parent: &Arc<Node>,
        name: &[u8],
        place: Place,
        attributes: Attributes,
        age: Duration,
    ) -> Found {
        let node = self.table.found(parent, name, place, attributes, age);
        // What the app has changed meanwhile is known better.
        let (attributes, valid) = node.state().fresh().unwrap_or((attributes, Duration::ZERO));
        Found {
            node,
            attributes,
            valid,
        }
    }

    /// A node for an entry of a listing that is `age` old.
    pub(crate) fn found_listed(&self, parent: &Arc<Node>, listed: &Listed, age: Duration) -> Found {
        let found = self.found(parent, &listed.name, listed.place, listed.attributes, age);
        if let Some(link) = &listed.link {
            found.node.state().link.get_or_insert_with(|| link.clone());
        }
        found
    }

    /// What is known of a name without asking anybody, to be believed by nobody.
    pub(crate) fn known(&self, parent: u64, name: &[u8]) -> Option<Found> {
        let node = self.table.at(&self.table.get(parent)?, name)?;
        let attributes = node.state().attributes;
        Some(Found {
            node,
            attributes,
            valid: Duration::ZERO,
        })
    }

    /// Drops a node that the kernel was not told of after all.
    pub(crate) fn unwanted(&self, node: &Arc<Node>) {
        self.table.forget_unknown(node);
    }

    /// What a fresh listing of the directory says of a name; the outer `None`: there is no such listing.
    fn listed(parent: &Node, name: &[u8]) -> Option<(Option<Listed>, Duration)> {
        let state = parent.state();
        let listing = state.listing.as_ref()?;
        let age = listing.fetched.elapsed();
        (age < FRESH).then(|| (listing.get(name).cloned(), age))
    }

    /// What was asked for before the app started; waits for it where it is on its way.
    async fn primed(&self, path: &Path) -> Option<Result<Attributes, Errno>> {
        let mut answers = {
            let primed = self.primed.lock().unwrap_or_else(PoisonError::into_inner);
            let primed = primed.as_ref()?;
            primed.paths.binary_search_by(|known| known.as_path().cmp(path)).ok()?;
            primed.answers.clone()
        };
        let answers: Arc<Answers> = answers.wait_for(Option::is_some).await.ok()?.clone()?;
        if answers.at.elapsed() > PRIMED {
            *self.primed.lock().unwrap_or_else(PoisonError::into_inner) = None;
            return None;
        }
        answers.attributes.get(path).copied()
    }

    /// A symlink's target from the same answers.
    fn primed_link(&self, path: &Path) -> Option<Box<[u8]>> {
        let primed = self.primed.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = primed.as_ref()?.answers.borrow().clone()?;
        answers.links.get(path).cloned()
    }

    /// # Errors
    /// `ESTALE` when something of another type is there now and nobody has the old one open; the pod's; `EIO` when the link is gone.
    pub(crate) async fn attributes(&self, node: &Arc<Node>) -> Result<(Attributes, Duration), Errno> {
        if let Some(fresh) = node.state().fresh() {
            return Ok(fresh);
        }
        if node.is_gone() {
            return Ok(gone(node.state().attributes));
        }
        let path = node.path();
        if node.place == Place::Placeholder {
            let attributes = self.places.made_up(&path).ok_or(Errno::STALE)?;
            node.state().refresh(attributes, Duration::ZERO);
            return Ok((attributes, FRESH));
        }
        if let Some(fresh) = self.renewed_near(node).await {
            return Ok(fresh);
        }
        let asked = Instant::now();
        let (answer, age) = match self.primed(&path).await {
            Some(answer) => (answer, asked.elapsed()),
            None => {
                let seen = self.supply.look(&node.in_pod(&self.places), || None).await?;
                (seen.found, seen.age)
            }
        };
        let attributes = match answer {
            Err(Errno::NOENT) => self.places.made_up(&path).ok_or(Errno::NOENT),
            other => other,
        };
        let known = node.state().attributes;
        match attributes {
            // Replaced or removed: who has it open still holds the old one.
            Ok(attributes) if self.may_be_open(node) && !same_file(&known, &attributes) => Ok(gone(known)),
            Err(Errno::NOENT) if self.may_be_open(node) => Ok(gone(known)),
            // The root of a mount is never looked up again, so it follows what is at its path (a file that was renamed over).
            Ok(attributes) if same_type(&known, &attributes) => {
                let mut state = node.state();
                state.refresh(attributes, age);
                Ok(state.fresh().unwrap_or((attributes, Duration::ZERO)))
            }
            Ok(_) => Err(Errno::STALE),
            Err(errno) => Err(errno),
        }
    }

    /// # Errors
    /// `EINVAL` for what is no symlink; the pod's; `EIO` when the link is gone.
    pub(crate) async fn link(&self, node: &Arc<Node>) -> Result<Box<[u8]>, Errno> {
        if node.state().attributes.mode & libc::S_IFMT != libc::S_IFLNK {
            return Err(Errno::INVAL);
        }
        if let Some(link) = &node.state().link {
            return Ok(link.clone());
        }
        let path = node.path();
        if let Some(link) = self.places.link(&path).filter(|_| node.place == Place::Placeholder) {
            return Ok(link);
        }
        let link = read_link(&self.pod, &node.in_pod(&self.places)).await?;
        node.state().link = Some(link.clone());
        Ok(link)
    }
}

pub(super) fn gone(known: Attributes) -> (Attributes, Duration) {
    (Attributes { links: 0, ..known }, FRESH)
}

pub(super) fn same_file(known: &Attributes, now: &Attributes) -> bool {
    Stamp::of(known).same_file(Stamp::of(now))
}

fn same_type(known: &Attributes, now: &Attributes) -> bool {
    known.mode & libc::S_IFMT == now.mode & libc::S_IFMT
}
