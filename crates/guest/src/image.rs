//! What the layer knows of a session: a block of bytes inside of `libinpod_layer.so` that the session fills in before the
//! app starts. So the layer needs no variable, no file and no memory to know the marker and the path rules.
//!
//! The block begins with [`MAGIC`]; an empty one (length 0) means that nothing is known and every call goes on unmarked.
//! Numbers are in this machine's byte order: the block never leaves it.

use crate::paths::leads_on;

/// Room for the block, in bytes: about 800 path rules.
pub const SIZE: usize = 64 << 10;
/// How the block is found in the layer's file.
pub const MAGIC: [u8; 32] = *b"\x7finpod layer: what it knows   \x01\0";
/// Where the fields lie.
const LENGTH: usize = 32;
const FLAGS: usize = 36;
const MARKER: usize = 40;
const HOSTNAME: usize = 48;
/// `_UTSNAME_LENGTH` minus its NUL.
const MAX_HOSTNAME: usize = 64;
const SOCKET: usize = HOSTNAME + 2 + MAX_HOSTNAME + 2;
/// `sun_path` minus its NUL.
const MAX_SOCKET: usize = 107;
const PRELOAD: usize = SOCKET + 2 + MAX_SOCKET + 1;
/// With the NUL behind it that a variable of the environment has.
const MAX_PRELOAD: usize = 509;
const VIEW: usize = PRELOAD + 2 + MAX_PRELOAD + 1;
const MAX_VIEW: usize = 1021;
const RULES: usize = VIEW + 2 + MAX_VIEW + 1;

/// No filter is in force: what the layer cannot decide goes over [`Image::socket`].
pub const ALONE: u32 = 1;
/// Path calls are decided: the view is not in the app's mount namespace.
pub const PATHS: u32 = 2;
/// Some unix sockets are the pod's.
pub const UNIX_SOCKETS: u32 = 4;

/// What is known about a path without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// This machine's, and no symlink leads from there to the pod.
    Local,
    /// This machine's unless one of its symlinks leads elsewhere.
    LocalUnlessLinked,
    /// Whoever knows all rules must decide.
    Ask,
}

impl Known {
    const ALL: [Self; 3] = [Self::Local, Self::LocalUnlessLinked, Self::Ask];
}

/// A filled-in block.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    bytes: &'a [u8],
}

impl<'a> Image<'a> {
    /// `None` when the block was not filled in.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let length = number(bytes, LENGTH)? as usize;
        (length > RULES).then_some(())?;
        bytes.get(..length).map(|bytes| Self { bytes })
    }

    #[must_use]
    pub fn marker(&self) -> u64 {
        let low = number(self.bytes, MARKER).unwrap_or(0);
        let high = number(self.bytes, MARKER + 4).unwrap_or(0);
        u64::from(high) << 32 | u64::from(low)
    }

    #[must_use]
    pub fn has(&self, flag: u32) -> bool {
        number(self.bytes, FLAGS).unwrap_or(0) & flag != 0
    }

    /// The pod's host name.
    #[must_use]
    pub fn hostname(&self) -> &'a [u8] {
        self.text(HOSTNAME)
    }

    /// Where undecided calls go without a filter; empty with one.
    #[must_use]
    pub fn socket(&self) -> &'a [u8] {
        self.text(SOCKET)
    }

    /// `LD_PRELOAD=` and the layer's own file, for the environment of children; a NUL lies behind it.
    #[must_use]
    pub fn preload(&self) -> &'a [u8] {
        self.text(PRELOAD)
    }

    /// What the pod calls a place of this machine that lies in the view: empty for the root. `None` for any other place.
    #[must_use]
    pub fn in_view<'p>(&self, place: &'p [u8]) -> Option<&'p [u8]> {
        let view = self.text(VIEW);
        if view.is_empty() || !is_below(place, view) {
            return None;
        }
        place.get(view.len()..)
    }

    fn text(&self, at: usize) -> &'a [u8] {
        let length = short(self.bytes, at).unwrap_or(0);
        self.bytes.get(at + 2..at + 2 + length).unwrap_or(&[])
    }

    /// What is known of a path as it was written. Anything but a plain absolute path must be asked about.
    #[must_use]
    pub fn path(&self, path: &[u8]) -> Known {
        if !is_plain(path) || leads_on(path) {
            return Known::Ask;
        }
        // Longest first, so the first that fits is the deepest. Those of one length stand together: where the path has no
        // component that ends there, none of them is looked at.
        let mut at = RULES;
        while let (Some(length), Some(count)) = (short(self.bytes, at), short(self.bytes, at + 2)) {
            let size = 1 + length;
            let Some(rules) = self.bytes.get(at + 4..at + 4 + count * size) else {
                break;
            };
            if ends_at(path, length) {
                let above = path.get(..length).unwrap_or(&[]);
                let found = rules.chunks_exact(size).find(|rule| rule.get(1..) == Some(above));
                if let Some(known) = found.and_then(|rule| rule.first()) {
                    return Known::ALL.get(usize::from(*known)).copied().unwrap_or(Known::Ask);
                }
            }
            at += 4 + rules.len();
        }
        Known::Ask
    }
}

fn is_below(path: &[u8], prefix: &[u8]) -> bool {
    ends_at(path, prefix.len()) && path.get(..prefix.len()) == Some(prefix)
}

/// Whether a component of the path ends there.
fn ends_at(path: &[u8], length: usize) -> bool {
    path.len() == length || path.get(length) == Some(&b'/')
}

/// Absolute, no empty component, no `.` and no `..`.
fn is_plain(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    let mut before = 0;
    for (at, byte) in path.iter().enumerate() {
        if before == b'/' && matches!(byte, b'/' | b'.') {
            let is_name = match path.get(at + 1..).unwrap_or(&[]) {
                [] | [b'/', ..] | [b'.'] | [b'.', b'/', ..] => false,
                _ => *byte == b'.',
            };
            if !is_name {
                return false;
            }
        }
        before = *byte;
    }
    true
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 2)?;
    Some(usize::from(u16::from_ne_bytes([bytes[0], bytes[1]])))
}

#[cfg(feature = "std")]
pub use write::{Facts, LayerFileError, fill};

#[cfg(feature = "std")]
mod write {
    use std::collections::BTreeSet;
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};

    use rules::{FileRules, PathPattern, Place};

    use super::{
        ALONE, FLAGS, HOSTNAME, Known, LENGTH, MAGIC, MARKER, MAX_HOSTNAME, MAX_PRELOAD, MAX_SOCKET, MAX_VIEW, PATHS,
        PRELOAD, RULES, SIZE, SOCKET, UNIX_SOCKETS, VIEW,
    };
    use crate::marker::Marker;
    use crate::paths::NEVER_FOLLOWED;

    /// What is written into the block.
    #[derive(Debug, Clone)]
    pub struct Facts<'a> {
        pub marker: Marker,
        pub hostname: &'a str,
        pub files: &'a FileRules,
        /// Path calls are decided; not where the app's mount namespace has the pod's files.
        pub paths: bool,
        /// Below these everything must be asked about: the view's own files.
        pub asked: &'a [PathBuf],
        /// Where the pod's paths lie, without symlinks.
        pub view: Option<&'a Path>,
        pub unix_sockets: bool,
        /// Where undecided calls go when there is no filter.
        pub socket: Option<&'a Path>,
        /// The layer's own file.
        pub preload: &'a Path,
    }

    /// A layer that cannot be used.
    #[derive(Debug, thiserror::Error)]
    pub enum LayerFileError {
        #[error("the layer's file has no room for what it must know")]
        NoRoom,
        #[error("the path {} is too long for the layer", .0.display())]
        TooLong(PathBuf),
    }

    /// Fills in the block of a layer's file.
    ///
    /// # Errors
    /// [`LayerFileError`].
    pub fn fill(layer: &mut [u8], facts: &Facts<'_>) -> Result<(), LayerFileError> {
        let at = layer
            .windows(MAGIC.len())
            .position(|window| window == MAGIC)
            .ok_or(LayerFileError::NoRoom)?;
        let room = layer.get_mut(at..at + SIZE).ok_or(LayerFileError::NoRoom)?;
        let mut block = vec![0; RULES];
        block[..MAGIC.len()].copy_from_slice(&MAGIC);
        let flags = [
            (facts.socket.is_some(), ALONE),
            (facts.paths, PATHS),
            (facts.unix_sockets, UNIX_SOCKETS),
        ];
        let flags = flags
            .into_iter()
            .filter(|(on, _)| *on)
            .fold(0, |all, (_, flag)| all | flag);
        block[FLAGS..FLAGS + 4].copy_from_slice(&u32::to_ne_bytes(flags));
        block[MARKER..MARKER + 8].copy_from_slice(&facts.marker.0.to_ne_bytes());
        let hostname = facts.hostname.as_bytes();
        text(&mut block, HOSTNAME, &hostname[..hostname.len().min(MAX_HOSTNAME)]);
        let socket = facts.socket.unwrap_or(Path::new("")).as_os_str().as_bytes();
        let preload = [b"LD_PRELOAD=", facts.preload.as_os_str().as_bytes()].concat();
        let view = facts.view.unwrap_or(Path::new("")).as_os_str().as_bytes();
        for (at, most, bytes, path) in [
            (SOCKET, MAX_SOCKET, socket, facts.socket),
            (PRELOAD, MAX_PRELOAD, &preload[..], Some(facts.preload)),
            (VIEW, MAX_VIEW, view, facts.view),
        ] {
            if bytes.len() > most {
                return Err(LayerFileError::TooLong(path.unwrap_or(Path::new("")).to_owned()));
            }
            text(&mut block, at, bytes);
        }
        let rules = compile(facts.files, facts.asked);
        for same in rules.chunk_by(|(first, _), (second, _)| first.as_os_str().len() == second.as_os_str().len()) {
            let (prefix, _) = &same[0];
            let too_long = |_| LayerFileError::TooLong(prefix.clone());
            let length = u16::try_from(prefix.as_os_str().len()).map_err(too_long)?;
            let count = u16::try_from(same.len()).map_err(|_| LayerFileError::NoRoom)?;
            block.extend(length.to_ne_bytes());
            block.extend(count.to_ne_bytes());
            for (prefix, known) in same {
                block.push(*known as u8);
                block.extend(prefix.as_os_str().as_bytes());
            }
        }
        // What ends the rules: more than there is.
        block.extend([0xff; 4]);
        if block.len() > SIZE {
            return Err(LayerFileError::NoRoom);
        }
        let length = block.len() as u32;
        block[LENGTH..LENGTH + 4].copy_from_slice(&length.to_ne_bytes());
        room[..block.len()].copy_from_slice(&block);
        Ok(())
    }

    fn text(block: &mut [u8], at: usize, bytes: &[u8]) {
        block[at..at + 2].copy_from_slice(&(bytes.len() as u16).to_ne_bytes());
        block[at + 2..at + 2 + bytes.len()].copy_from_slice(bytes);
    }

    /// The rules as prefixes, longest first. Between two prefixes that the rules name nothing changes, so one decision for
    /// each prefix tells of everything below it.
    pub(super) fn compile(files: &FileRules, asked: &[PathBuf]) -> Vec<(PathBuf, Known)> {
        let never_followed = NEVER_FOLLOWED.iter().map(PathBuf::from);
        let globs = files.remote.iter().chain(&files.local).chain(&files.hidden);
        let globs = globs
            .filter(|pattern| pattern.prefix().is_none())
            .map(PathPattern::within);
        let ask: Vec<PathBuf> = asked.iter().cloned().chain(globs).collect();
        let named = files.named_paths().chain(never_followed);
        let mut prefixes: BTreeSet<PathBuf> = named.chain(ask.iter().cloned()).collect();
        // The root's own rules say nothing about what lies below it.
        prefixes.remove(Path::new("/"));
        let everything = ask.iter().any(|path| path == Path::new("/"));
        let mut compiled: Vec<(PathBuf, Known)> = prefixes
            .into_iter()
            .filter(|_| !everything)
            .map(|prefix| {
                let known = if ask.iter().any(|ask| prefix.starts_with(ask)) {
                    Known::Ask
                } else {
                    known(files, &prefix)
                };
                (prefix, known)
            })
            .collect();
        compiled.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.as_os_str().len()));
        compiled
    }

    fn known(files: &FileRules, prefix: &Path) -> Known {
        match files.decide(prefix).place {
            Place::Local if NEVER_FOLLOWED.iter().any(|never| prefix.starts_with(never)) => Known::Local,
            Place::Local => Known::LocalUnlessLinked,
            Place::Remote | Place::Hidden => Known::Ask,
        }
    }
}

/// Entry for fuzzing: a block of any bytes must not panic.
#[cfg(feature = "std")]
pub fn fuzz(data: &[u8]) {
    if let Some(image) = Image::read(data) {
        let _ = (image.marker(), image.hostname(), image.socket(), image.preload());
        let _ = image.path(data);
        let _ = image.path(b"/etc/passwd");
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use std::path::{Path, PathBuf};

    use rules::{FileRules, PathPattern, Place};

    use super::*;
    use crate::marker::Marker;

    fn filled(facts: &Facts<'_>) -> Vec<u8> {
        let mut file = vec![7; 100];
        file.extend(MAGIC);
        file.resize(100 + SIZE, 0);
        fill(&mut file, facts).expect("there is room");
        file.split_off(100)
    }

    fn facts(files: &FileRules) -> Facts<'_> {
        Facts {
            marker: Marker(0x1234_5678_9abc_def0),
            hostname: "web-1",
            files,
            paths: false,
            asked: &[],
            view: Some(Path::new("/run/view")),
            unix_sockets: false,
            socket: None,
            preload: Path::new("/tmp/x.so"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let block = filled(&Facts {
            socket: Some(Path::new("/run/s")),
            ..facts(&FileRules::default())
        });
        let image = Image::read(&block).unwrap();
        assert_eq!(image.marker(), 0x1234_5678_9abc_def0);
        assert_eq!(image.hostname(), b"web-1");
        assert_eq!(image.socket(), b"/run/s");
        assert_eq!(image.preload(), b"LD_PRELOAD=/tmp/x.so");
        for (place, said) in [
            ("/run/view/data", Some(&b"/data"[..])),
            ("/run/view", Some(b"")),
            ("/run/viewer", None),
            ("/data", None),
        ] {
            assert_eq!(image.in_view(place.as_bytes()), said, "{place}");
        }
        assert!(image.has(ALONE) && !image.has(PATHS) && !image.has(UNIX_SOCKETS));
        assert!(Image::read(&[0; SIZE]).is_none());
    }

    #[test]
    fn a_known_path_is_what_the_rules_decide() {
        let files = FileRules {
            remote: vec![PathPattern::Prefix("/home/me/models".into())],
            local: vec![PathPattern::Prefix("/srv/here".into())],
            hidden: vec![PathPattern::Prefix("/home/me/.secret".into())],
            volumes: vec!["/etc/app".into(), "/usr/share/nginx/html".into(), "/usr/lib".into()],
            kept: vec!["/home/me/work".into(), "/data/work".into()],
            map: vec![("/home/me/mapped".into(), "/x".into())],
            ..FileRules::default()
        };
        let block = filled(&facts(&files));
        let image = Image::read(&block).unwrap();
        let mut local = 0;
        for base in [
            "/usr/lib/x",
            "/usr/share/nginx/html/a",
            "/usr/share/nginx",
            "/etc/passwd",
            "/etc/app/c",
            "/etc/hosts",
            "/home/me/work/src/main.rs",
            "/home/me/models/x",
            "/home/me/mapped",
            "/home/me",
            "/home/other/y",
            "/data/work/a",
            "/data/x",
            "/srv/here/y",
            "/srv",
            "/run/nscd/socket",
            "/proc/self/maps",
            "/var/run/secrets/k",
            "/opt/x",
            "/x",
            "/tmp/a",
            "/lib64",
            "/home/me/modelsx",
            "/usrlocal",
        ] {
            let decided = files.decide(Path::new(base)).place;
            match image.path(base.as_bytes()) {
                Known::Ask => {}
                known => {
                    assert_eq!(decided, Place::Local, "{base}: {known:?}");
                    local += 1;
                }
            }
            if decided == Place::Local && base != "/srv" {
                assert_ne!(image.path(base.as_bytes()), Known::Ask, "{base} is known to be local");
            }
        }
        assert!(local > 8, "{local}");
        assert_eq!(image.path(b"/usr/lib/libc.so"), Known::Local);
        assert_eq!(image.path(b"/home/me/work/x"), Known::LocalUnlessLinked);
        assert_eq!(image.path(b"/usr/.x/..y/...z"), Known::Local);
        for odd in [
            "relative",
            "",
            "/usr/../data",
            "/usr//lib",
            "/usr/./x",
            "//x",
            "/usr/.",
            "/usr/..",
        ] {
            assert_eq!(image.path(odd.as_bytes()), Known::Ask, "{odd}");
        }
    }

    #[test]
    fn what_a_glob_may_name_is_asked_about() {
        let glob = |text| PathPattern::Glob(globset::Glob::new(text).unwrap().compile_matcher());
        let files = FileRules {
            hidden: vec![glob("/home/me/conf/*.key")],
            ..FileRules::default()
        };
        let block = filled(&facts(&files));
        let image = Image::read(&block).unwrap();
        assert_eq!(image.path(b"/home/me/conf/a/b"), Known::Ask);
        assert_eq!(image.path(b"/home/me/con"), Known::LocalUnlessLinked);
        let files = FileRules {
            hidden: vec![glob("**/*.pem")],
            ..FileRules::default()
        };
        let block = filled(&facts(&files));
        assert_eq!(Image::read(&block).unwrap().path(b"/usr/lib/x"), Known::Ask);
        let asked = [PathBuf::from("/tmp/inpod-0-1")];
        let plain = FileRules::default();
        let block = filled(&Facts {
            asked: &asked,
            ..facts(&plain)
        });
        assert_eq!(Image::read(&block).unwrap().path(b"/tmp/inpod-0-1/files/x"), Known::Ask);
    }
}
