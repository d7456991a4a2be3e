//! A path of the app, symlinks followed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rules::Place;
use wire::message::Attributes;

use super::{CopyView, FRESH, REMEMBERED};
use crate::Errno;
use crate::remote::{MOST_LINKS, read_link};
use crate::tree::{Intent, Seen};

pub(super) enum Resolved {
    /// A link of the pod's led to a path of this machine.
    Machine(PathBuf),
    Pod(PathBuf, Attributes),
}

impl CopyView {
    /// Follows links in all components, in the last one only if `follow`. One round trip, and two more for each link that
    /// is not known yet.
    pub(super) async fn resolve(&self, path: &Path, follow: bool) -> Result<Resolved, Errno> {
        if !path.is_absolute() || path.as_os_str().len() >= wire::message::MAX_PATH {
            return Err(Errno::INVAL);
        }
        let mut path = rules::normal(path);
        for _ in 0..MOST_LINKS {
            match self.rules.decide(&path).place {
                Place::Hidden => return Err(Errno::NOENT),
                Place::Local => return Ok(Resolved::Machine(path)),
                Place::Remote => {}
            }
            let mut above: Vec<&Path> = path
                .ancestors()
                .filter(|path| self.rules.decide(path).place == Place::Remote)
                .collect();
            above.reverse();
            let known = self.attributes(&above, follow).await?;
            let mut link = None;
            for (at, attributes) in above.iter().zip(known) {
                let last = *at == path;
                let attributes = attributes?;
                match attributes.mode & libc::S_IFMT {
                    libc::S_IFLNK if !last || follow => {
                        link = Some(*at);
                        break;
                    }
                    libc::S_IFDIR => {}
                    _ if !last => return Err(Errno::NOTDIR),
                    _ => {}
                }
                if last {
                    return Ok(Resolved::Pod(path.clone(), attributes));
                }
            }
            let link = link.ok_or(Errno::IO)?;
            let target = read_link(&self.pod, &self.rules.in_pod(link)).await?;
            let rest = path.strip_prefix(link).unwrap_or(Path::new(""));
            let led = link
                .parent()
                .unwrap_or(Path::new("/"))
                .join(OsStr::from_bytes(&target))
                .join(rest);
            path = rules::normal(&led);
        }
        Err(Errno::LOOP)
    }

    /// Attributes of a path and of the directories above it, to the first that is none. `reads`: the last one is to be read.
    async fn attributes(&self, paths: &[&Path], reads: bool) -> Result<Vec<Result<Attributes, Errno>>, Errno> {
        let mut answers = Vec::with_capacity(paths.len());
        for (at, path) in paths.iter().enumerate() {
            let name = |path: &&Path| Some(path.file_name()?.as_bytes().into());
            let intent = || {
                let rest = paths.iter().skip(at + 1).filter_map(name).collect();
                Some(Intent { rest, reads })
            };
            let answer = match self.known(path) {
                Some(answer) => answer,
                None => self.note(path, &self.supply.look(&self.rules.in_pod(path), intent).await?),
            };
            answers.push(answer);
            if !answer.is_ok_and(|found| found.mode & libc::S_IFMT == libc::S_IFDIR) {
                break;
            }
        }
        Ok(answers)
    }

    fn known(&self, path: &Path) -> Option<Result<Attributes, Errno>> {
        let state = self.state();
        let (at, answer) = state.known.get(path)?;
        (at.elapsed() < FRESH).then_some(*answer)
    }

    fn note(&self, path: &Path, seen: &Seen) -> Result<Attributes, Errno> {
        let now = Instant::now();
        let mut state = self.state();
        if state.known.len() > REMEMBERED {
            state.known.retain(|_, (at, _)| at.elapsed() < FRESH);
        }
        let at = now.checked_sub(seen.age).unwrap_or(now);
        state.known.insert(path.to_owned(), (at, seen.found));
        seen.found
    }
}
