//! The new root: the machine's entries, and the pod's parts over them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rules::Place;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::boundary::{Boundary, place};
use super::enter::{NEW, OLD, POD, STAGE, tmpfs};
use super::error::{Doing, NsError};
use super::mount::{attach, attach_at, clone, copy_entry, create, directory, dup, for_each_entry, open_in};
use super::overlay::Upper;
use super::{Layout, Skipped};
use crate::tree::Door;

/// Symlinks that a path of the machine may lead through.
const MOST_LINKS: usize = 40;

pub(crate) struct Builder<'a> {
    layout: &'a Layout,
    old: OwnedFd,
    new: OwnedFd,
    pod: OwnedFd,
    /// The devices of the directories made here: names can be created in them.
    ours: Vec<u64>,
    /// Where changes are kept that stay on this machine.
    upper: Option<Upper>,
    /// The devices of the pod's directories that have an overlay.
    overlays: Vec<u64>,
    staged: u32,
    /// What is mounted already: a copy of the directory it is in takes it along.
    placed: BTreeSet<PathBuf>,
    skipped: Vec<Skipped>,
}

/// Where something is to be mounted: an existing directory, and a name in it.
struct Spot {
    directory: OwnedFd,
    name: OsString,
    /// The path of both in the new root, without links.
    path: PathBuf,
    /// What is there now.
    there: Option<Stat>,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(layout: &'a Layout) -> Result<Self, NsError> {
        let new = directory(Path::new(NEW))?;
        let ours = vec![rustix::fs::fstat(&new).doing("look at", NEW)?.st_dev];
        let old = directory(Path::new(OLD))?;
        let upper = layout.changes.as_deref();
        Ok(Self {
            upper: upper.map(|changes| Upper::open(&old, changes)).transpose()?,
            layout,
            old,
            new,
            pod: directory(Path::new(POD))?,
            ours,
            overlays: Vec::new(),
            staged: 0,
            placed: BTreeSet::new(),
            skipped: Vec::new(),
        })
    }

    pub(crate) fn build(mut self) -> Result<Vec<Skipped>, NsError> {
        let (old, new) = (dup(&self.old)?, dup(&self.new)?);
        self.copy_entries(&old, &new, Path::new("/"))?;
        for boundary in &self.layout.boundaries {
            match boundary.place {
                Place::Remote => self.put_pod(boundary)?,
                Place::Local => self.put_machine(boundary)?,
                Place::Hidden => self.mask(&boundary.path)?,
            }
        }
        if let Some(text) = &self.layout.nsswitch {
            self.put_text(Path::new("/etc/nsswitch.conf"), text)?;
        }
        Ok(self.skipped)
    }

    fn skip(&mut self, path: &Path, why: impl Into<String>) {
        self.skipped.push(Skipped {
            path: path.to_owned(),
            why: why.into(),
        });
    }

    /// Fills `to` with every local entry of `from`, the directory at `path`. Others are left out: they are put there later,
    /// or do not exist for the app.
    fn copy_entries(&self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> Result<(), NsError> {
        for_each_entry(from, path, |name, kind| {
            let child = path.join(name);
            if place(&self.layout.rules, &child) != Place::Local && !self.placed.contains(&child) {
                return Ok(());
            }
            match copy_entry(from, to, name, kind, &child) {
                // Removed meanwhile, or not to be seen by this user: as absent.
                Err(error) if matches!(error.source.raw_os_error(), Some(libc::ENOENT | libc::EACCES)) => Ok(()),
                other => other,
            }
        })
    }

    /// Binds a part of the pod to its place.
    fn put_pod(&mut self, boundary: &Boundary) -> Result<(), NsError> {
        let path = &boundary.path;
        let found = match self.through_door(path, false) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.report_absent(path);
                return Ok(());
            }
            Err(Errno::ACCESS | Errno::PERM) => {
                self.skip(path, "the target's user may not see it in the pod");
                return Ok(());
            }
            Err(error) => return Err(error).doing("look in the pod for", path),
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&found).doing("look in the pod at", path)?.st_mode);
        if kind != FileType::Symlink {
            return self.put_found(boundary, found, kind);
        }
        // A link to where the pod's files are works as it is; one to elsewhere would show the machine's file.
        let target = rustix::fs::readlinkat(&found, "", Vec::new()).doing("read the link in the pod", path)?;
        let above = path.parent().unwrap_or(Path::new("/"));
        let leads = rules::normal(&above.join(OsStr::from_bytes(target.to_bytes())));
        if place(&self.layout.rules, &leads) == Place::Remote
            && let Some(spot) = self.spot(path, self.is_ours_above(path))?
            && spot.there.is_none()
            && self.is_ours(&spot.directory)
        {
            return rustix::fs::symlinkat(target.as_c_str(), &spot.directory, &spot.name).doing("link", path);
        }
        match self.through_door(path, true) {
            Ok(leads_to) => {
                let stat = rustix::fs::fstat(&leads_to).doing("look in the pod at", path)?;
                self.put_found(boundary, leads_to, FileType::from_raw_mode(stat.st_mode))
            }
            Err(error @ (Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::PERM | Errno::LOOP)) => {
                self.skip(path, format!("a link in the pod that leads nowhere: {error}"));
                Ok(())
            }
            Err(error) => Err(error).doing("follow in the pod", path),
        }
    }

    /// Binds what was found in the pod, a directory whose changes are kept here with an overlay over it.
    fn put_found(&mut self, boundary: &Boundary, found: OwnedFd, kind: FileType) -> Result<(), NsError> {
        let path = &boundary.path;
        let is_directory = kind == FileType::Directory;
        let kept = boundary.kept_here && is_directory;
        let at = kept.then(|| self.stage_directory(path)).transpose()?;
        let found = match (&self.upper, at) {
            (Some(upper), Some(at)) => {
                let over = upper.over(&found, path, self.staged, &at, self.layout.user)?;
                self.overlays
                    .push(rustix::fs::fstat(&over).doing("look at the overlay of", path)?.st_dev);
                over
            }
            _ => found,
        };
        self.put(path, &found, is_directory)
    }

    /// Opens a path of the pod, not following it when it is a link, or following it to its end.
    fn through_door(&self, path: &Path, followed: bool) -> rustix::io::Result<OwnedFd> {
        let name = Door::name(path, followed).ok_or(Errno::NAMETOOLONG)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.pod, name, flags, Mode::empty())
    }

    /// What the pod does not have does not exist for the app, but where hiding the machine's would need a copy of a whole
    /// directory for one missing name.
    fn report_absent(&mut self, path: &Path) {
        let shown = open_in(&self.new, path, OFlags::PATH | OFlags::NOFOLLOW);
        if shown.is_ok_and(|shown| !self.is_pods(&shown)) {
            self.skip(path, "the pod has no such file: the machine's is seen");
        }
    }

    /// Binds a part of the machine inside the pod's to its place.
    fn put_machine(&mut self, boundary: &Boundary) -> Result<(), NsError> {
        let path = &boundary.path;
        let Ok(found) = open_in(&self.old, path, OFlags::PATH | OFlags::NOFOLLOW) else {
            return Ok(());
        };
        match FileType::from_raw_mode(rustix::fs::fstat(&found).doing("look at", path)?.st_mode) {
            // Shown by the mount itself.
            FileType::Symlink => Ok(()),
            kind => self.put(path, &found, kind == FileType::Directory),
        }
    }

    /// An empty directory or file over something hidden.
    fn mask(&mut self, path: &Path) -> Result<(), NsError> {
        let Ok(there) = open_in(&self.new, path, OFlags::PATH) else {
            return Ok(());
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&there).doing("look at", path)?.st_mode);
        let mask = self.stage(path, kind == FileType::Directory)?;
        let tree = clone(&mask, path)?;
        attach(&tree, &there, path)
    }

    fn put_text(&mut self, path: &Path, text: &[u8]) -> Result<(), NsError> {
        let file = self.stage(path, false)?;
        let writable = rustix::fs::open(
            format!("{STAGE}/{}", self.staged),
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let writable = writable.doing("write", path)?;
        std::io::Write::write_all(&mut std::fs::File::from(writable), text).doing("write", path)?;
        self.put(path, &file, false)
    }

    /// An empty file or directory of ours.
    fn stage(&mut self, path: &Path, is_directory: bool) -> Result<OwnedFd, NsError> {
        self.staged += 1;
        let at = PathBuf::from(format!("{STAGE}/{}", self.staged));
        create(CWD, at.as_os_str(), is_directory, path)?;
        rustix::fs::open(&at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).doing("prepare", path)
    }

    /// Mounts a copy of `source` at `path` of the new root, which is made possible first.
    fn put(&mut self, path: &Path, source: &OwnedFd, is_directory: bool) -> Result<(), NsError> {
        let tree = clone(source, path)?;
        let Some(spot) = self.spot(path, true)? else {
            return Ok(());
        };
        let first = self.placed.insert(spot.path.clone());
        let Some(there) = spot.there else {
            create(spot.directory.as_fd(), &spot.name, is_directory, path)?;
            return attach_at(&tree, &spot.directory, &spot.name, path);
        };
        match (FileType::from_raw_mode(there.st_mode), is_directory) {
            (FileType::Directory, true) if first => attach_at(&tree, &spot.directory, &spot.name, path),
            (FileType::Directory, true) => self.merge(&spot, source, path),
            // A link to another directory of the machine: what it leads to is covered, and the link stays.
            (FileType::Symlink, true) => match open_in(&self.new, path, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(leads_to) => attach(&tree, &leads_to, path),
                Err(error) => {
                    self.skip(path, format!("a link of the machine is in the way: {error}"));
                    Ok(())
                }
            },
            (FileType::Directory, false) | (_, true) => {
                self.skip(path, "a file here and a directory in the pod, or the other way round");
                Ok(())
            }
            // Also over a link itself: resolv.conf is often one, and leads to different places in different programs' eyes.
            (_, false) => attach_at(&tree, &spot.directory, &spot.name, path),
        }
    }

    /// Two directories of the pod at one place, as where /var/run is a link on this machine and a directory in the pod: the
    /// entries of both are seen, the first one's where both have a name.
    fn merge(&mut self, spot: &Spot, second: &OwnedFd, path: &Path) -> Result<(), NsError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let first = rustix::fs::openat(&spot.directory, &spot.name, flags, Mode::empty()).doing("open", path)?;
        let stage = self.stage_tmpfs(path)?;
        let both = directory(&stage)?;
        for from in [&first, second] {
            for_each_entry(from, path, |name, kind| {
                match rustix::fs::statat(&both, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Ok(()),
                    Err(_) => copy_entry(from, &both, name, kind, &path.join(name)),
                }
            })?;
        }
        attach(&both, &first, path)
    }

    /// Finds the directory that `path` is in. With `make` directories are created on the way, in copies of those of the
    /// machine. `None`, with a reason kept, where that cannot be.
    fn spot(&mut self, path: &Path, make: bool) -> Result<Option<Spot>, NsError> {
        let mut links = MOST_LINKS;
        let mut directory = dup(&self.new)?;
        let mut at = PathBuf::from("/");
        let mut rest: Vec<OsString> = path
            .iter()
            .filter(|part| *part != "/")
            .rev()
            .map(OsStr::to_owned)
            .collect();
        while let Some(name) = rest.pop() {
            if name == "/" {
                directory = dup(&self.new)?;
                at = PathBuf::from("/");
                continue;
            }
            if name == ".." {
                at.pop();
                directory = open_in(&self.new, &at, OFlags::PATH | OFlags::DIRECTORY).doing("find", &at)?;
                continue;
            }
            let there = match rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(error).doing("look at", at.join(&name)),
            };
            let last = rest.is_empty();
            if there.is_none() && make && !self.is_ours(&directory) {
                if self.is_pods(&directory) && place(&self.layout.rules, &at) != Place::Local {
                    self.skip(path, "it would have to be created in the pod");
                    return Ok(None);
                }
                directory = self.replicate(&directory, &at)?;
            }
            if last {
                let path = at.join(&name);
                return Ok(Some(Spot {
                    directory,
                    name,
                    path,
                    there,
                }));
            }
            match there.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                Some(FileType::Symlink) => {
                    links = links.saturating_sub(1);
                    if links == 0 {
                        return Err(Errno::LOOP).doing("find", path);
                    }
                    let target =
                        rustix::fs::readlinkat(&directory, &name, Vec::new()).doing("read the link", at.join(&name))?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    rest.extend(target.iter().rev().filter(|part| *part != ".").map(OsStr::to_owned));
                    continue;
                }
                Some(FileType::Directory) => {}
                Some(_) => {
                    self.skip(
                        path,
                        format!("{} is no directory on this machine", at.join(&name).display()),
                    );
                    return Ok(None);
                }
                None if make => create(directory.as_fd(), &name, true, path)?,
                None => return Ok(None),
            }
            at.push(&name);
            directory = rustix::fs::openat(
                &directory,
                &name,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .doing("find", &at)?;
        }
        Ok(None)
    }

    fn is_ours(&self, directory: &OwnedFd) -> bool {
        rustix::fs::fstat(directory).is_ok_and(|stat| self.ours.contains(&stat.st_dev))
    }

    fn is_ours_above(&self, path: &Path) -> bool {
        let parent = path.parent().unwrap_or(Path::new("/"));
        open_in(&self.new, parent, OFlags::PATH).is_ok_and(|directory| self.is_ours(&directory))
    }

    fn is_pods(&self, directory: &OwnedFd) -> bool {
        let Ok(stat) = rustix::fs::fstat(directory) else {
            return false;
        };
        // The pod's root may be closed to its own user.
        self.overlays.contains(&stat.st_dev) || rustix::fs::fstat(&self.pod).is_ok_and(|pod| pod.st_dev == stat.st_dev)
    }

    /// An empty directory of ours, for what is mounted at `path`.
    fn stage_directory(&mut self, path: &Path) -> Result<PathBuf, NsError> {
        self.staged += 1;
        let stage = PathBuf::from(format!("{STAGE}/{}", self.staged));
        std::fs::create_dir(&stage).doing("prepare the mount of", path)?;
        Ok(stage)
    }

    /// An empty file system of ours, for the copy of a directory.
    fn stage_tmpfs(&mut self, path: &Path) -> Result<PathBuf, NsError> {
        let stage = self.stage_directory(path)?;
        tmpfs(&stage)?;
        Ok(stage)
    }

    /// Covers a directory of the machine with a copy in which names can be created.
    fn replicate(&mut self, directory: &OwnedFd, path: &Path) -> Result<OwnedFd, NsError> {
        let stage = self.stage_tmpfs(path)?;
        let copy = self::directory(&stage)?;
        let (stat, was) = (
            rustix::fs::fstat(&copy).doing("prepare a copy of", path)?,
            rustix::fs::fstat(directory).doing("look at", path)?,
        );
        self.copy_entries(directory, &copy, path)?;
        // An owner that this user namespace does not know cannot be given.
        let _ = rustix::fs::chown(
            &stage,
            rustix::fs::Uid::from_raw(was.st_uid).into(),
            rustix::fs::Gid::from_raw(was.st_gid).into(),
        );
        rustix::fs::chmod(&stage, Mode::from_raw_mode(was.st_mode)).doing("prepare a copy of", path)?;
        self.ours.push(stat.st_dev);
        attach(&copy, directory, path)?;
        Ok(copy)
    }
}
