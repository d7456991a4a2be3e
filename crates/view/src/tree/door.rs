//! Doors: names in the mount's root, never listed, by which a path of the view is reached in one step.
//!
//! What is bound to its place in the app's namespace is taken through its door. On the ordinary way to it the rules would
//! show the machine's directories and links, which are mounted or lead elsewhere in the app's namespace only.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// First byte of a door to a path as it is.
const AS_IS: u8 = 1;
/// First byte of a door to what a path leads to when it is a symlink.
const FOLLOWED: u8 = 2;
/// Stands for a slash.
const SLASH: u8 = 3;

/// A path behind a door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Door {
    pub(crate) path: PathBuf,
    pub(crate) followed: bool,
}

impl Door {
    /// The name in the mount's root; `None` for a path that cannot be put into one.
    pub(crate) fn name(path: &Path, followed: bool) -> Option<OsString> {
        let path = path.as_os_str().as_bytes();
        // FUSE_NAME_MAX is 1024.
        if path.len() > 1000 || path.contains(&SLASH) {
            return None;
        }
        let mut name = vec![if followed { FOLLOWED } else { AS_IS }];
        name.extend(path.iter().map(|&byte| if byte == b'/' { SLASH } else { byte }));
        Some(OsString::from_vec(name))
    }

    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        let (&first, rest) = name.split_first()?;
        let followed = match first {
            AS_IS => false,
            FOLLOWED => true,
            _ => return None,
        };
        if rest.first() != Some(&SLASH) || rest.contains(&0) {
            return None;
        }
        let path: Vec<u8> = rest
            .iter()
            .map(|&byte| if byte == SLASH { b'/' } else { byte })
            .collect();
        Some(Self {
            path: OsStr::from_bytes(&path).into(),
            followed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_back() {
        for (path, followed) in [("/var/run/secrets", false), ("/a b/\u{1}", true)] {
            let name = Door::name(Path::new(path), followed).unwrap();
            let door = Door::of(name.as_bytes()).unwrap();
            assert_eq!(
                door,
                Door {
                    path: path.into(),
                    followed
                }
            );
        }
        assert_eq!(Door::of(b"app"), None);
        assert_eq!(Door::of(b"\x01app"), None);
        assert_eq!(Door::name(Path::new("/a\u{3}b"), false), None);
    }
}
