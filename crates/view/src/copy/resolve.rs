//! A path of the app, symlinks followed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rules::Place;
use wire::message::Attributes;

use super::{CopyView, FRESH, REMEMBERED};
use crate::Errno;
use crate::remote::{MOST_LINKS, read_link, stat_all, to_bytes};

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
            let known = self.attributes(&above).await?;
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

    /// Attributes of paths, those that are not known freshly in one round trip. After the first that fails the rest is
    /// of no interest.
    async fn attributes(&self, paths: &[&Path]) -> Result<Vec<Result<Attributes, Errno>>, Errno> {
        let mut answers: Vec<Option<Result<Attributes, Errno>>> = {
            let state = self.state();
            let fresh = |path: &&Path| {
                let (at, answer) = state.known.get(*path)?;
                (at.elapsed() < FRESH).then_some(*answer)
            };
            paths.iter().map(fresh).collect()
        };
        let missing: Vec<usize> = (0..paths.len()).filter(|&at| answers[at].is_none()).collect();
        if !missing.is_empty() {
            let asked = missing
                .iter()
                .map(|&at| to_bytes(&self.rules.in_pod(paths[at])))
                .collect();
            let now = Instant::now();
            let fetched = stat_all(&self.pod, asked).await?;
            let mut state = self.state();
            if state.known.len() > REMEMBERED {
                state.known.retain(|_, (at, _)| at.elapsed() < FRESH);
            }
            for (at, answer) in missing.into_iter().zip(fetched) {
                state.known.insert(paths[at].to_owned(), (now, answer));
                answers[at] = Some(answer);
            }
        }
        Ok(answers
            .into_iter()
            .map(|answer| answer.unwrap_or(Err(Errno::IO)))
            .collect())
    }
}
