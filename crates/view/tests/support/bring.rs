//! What the agent's answers bring along.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use wire::message::{Branch, Bytes, FileAnswer, Step, Whole};

use super::pod::{LocalPod, denied, read};

impl LocalPod {
    pub(super) fn walk(&self, path: &Bytes, first: u32) -> FileAnswer {
        let names = |path: &[u8]| -> Vec<PathBuf> {
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            path.iter().map(PathBuf::from).collect()
        };
        let (mut way, mut here, mut steps) = (VecDeque::from(names(&path.0)), PathBuf::from("/"), Vec::new());
        while let Some(name) = way.pop_front() {
            if name == Path::new("..") {
                here.pop();
                continue;
            }
            here.push(name);
            let bytes = here.as_os_str().as_bytes();
            let found = if denied(bytes, b"unseen") {
                Err(libc::EACCES)
            } else {
                self.stat(bytes).map(|found| {
                    (
                        found,
                        self.link(bytes)
                            .ok()
                            .filter(|_| found.mode & libc::S_IFMT == libc::S_IFLNK),
                    )
                })
            };
            let link = found.as_ref().ok().and_then(|(_, link)| link.clone());
            let failed = found.is_err();
            steps.push(Step {
                path: Bytes(bytes.to_vec()),
                found,
            });
            if failed || steps.len() > 256 {
                return FileAnswer::Walk { steps, content: None };
            }
            if let Some(link) = link {
                here.pop();
                names(&link.0).into_iter().rev().for_each(|name| way.push_front(name));
            }
        }
        let whole = self.whole(here.as_os_str().as_bytes(), first);
        FileAnswer::Walk {
            steps,
            content: whole.ok().map(|whole| whole.data),
        }
    }

    pub(super) fn tree(&self, paths: &[Bytes], below: bool, bytes: u32) -> Vec<Branch> {
        let (mut queue, mut left) = (VecDeque::from(paths.to_vec()), bytes.max(768 << 10) as usize);
        let mut branches = Vec::new();
        while let Some(path) = queue.pop_front() {
            let (Ok(attributes), Ok(entries)) = (self.stat(&path.0), self.entries(&path.0)) else {
                continue;
            };
            let Some(rest) = left.checked_sub(entries.len() * 100) else {
                continue;
            };
            left = rest;
            for entry in entries
                .iter()
                .filter(|entry| below && entry.attributes.mode & libc::S_IFMT == libc::S_IFDIR)
            {
                queue.push_back(Bytes([&path.0, b"/".as_slice(), &entry.name.0].concat()));
            }
            branches.push(Branch {
                path,
                attributes,
                entries,
            });
        }
        branches
    }

    pub(super) fn whole(&self, path: &[u8], most: u32) -> Result<Whole, i32> {
        if denied(path, b"denied") {
            return Err(libc::EACCES);
        }
        let attributes = self.stat(path)?;
        if attributes.mode & libc::S_IFMT != libc::S_IFREG || !(1..=u64::from(most)).contains(&attributes.size) {
            return Err(libc::EFBIG);
        }
        let file = std::fs::File::from(self.open(path, OFlags::RDONLY)?);
        Ok(Whole {
            attributes,
            data: Bytes(read(&file, 0, most as usize)?),
        })
    }
}
