//! Extended attributes (xattr(7)): which are passed on, and which of those a file has.

use serde::{Deserialize, Serialize};

use crate::message::Bytes;

/// The longest name in bytes (`XATTR_NAME_MAX`).
pub const MAX_XATTR_NAME: usize = 255;
/// The longest value in bytes (`XATTR_SIZE_MAX`).
pub const MAX_XATTR_VALUE: usize = 64 << 10;
/// The most that listxattr(2) tells of a file, in bytes (`XATTR_LIST_MAX`).
pub const MAX_XATTR_LIST: usize = 64 << 10;

/// What is passed on. All else means something to the pod's own kernel only (labels, signatures of files), or would mean
/// something to the one that mounts the view (`user.overlay.`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrKind {
    /// `user.`
    User,
    /// `security.capability`
    Capability,
    /// `system.posix_acl_access`
    Access,
    /// `system.posix_acl_default`
    Default,
}

impl XattrKind {
    /// `None`: the attribute is neither asked for nor shown.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        if name.len() > MAX_XATTR_NAME || name.contains(&0) {
            return None;
        }
        match name {
            b"security.capability" => Some(Self::Capability),
            b"system.posix_acl_access" => Some(Self::Access),
            b"system.posix_acl_default" => Some(Self::Default),
            other => match other.strip_prefix(b"user.") {
                Some(rest) if !rest.is_empty() && !rest.starts_with(b"overlay.") => Some(Self::User),
                _ => None,
            },
        }
    }

    #[must_use]
    pub fn is_acl(self) -> bool {
        matches!(self, Self::Access | Self::Default)
    }
}

/// The kinds that a file has any attribute of: one byte with its other attributes, so that nobody asks for what is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct XattrKinds(u8);

impl XattrKinds {
    pub const NONE: Self = Self(0);

    /// Of names as listxattr(2) gives them, each with its NUL.
    #[must_use]
    pub fn of_list(names: &[u8]) -> Self {
        let kinds = names.split(|&byte| byte == 0).filter_map(XattrKind::of);
        kinds.fold(Self::NONE, |all, kind| Self(all.0 | 1 << kind as u8))
    }

    #[must_use]
    pub fn has(self, kind: XattrKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }
}

/// An attribute of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xattr {
    #[serde(deserialize_with = "at_most::<MAX_XATTR_NAME, _>")]
    pub name: Bytes,
    /// `None`: it was too long to be brought along, or may not be read.
    pub value: Option<Bytes>,
}

/// Bytes of which there are no more than so many: said before they are copied.
pub(crate) fn at_most<'de, const LIMIT: usize, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Bytes, D::Error> {
    struct Visitor<const LIMIT: usize>;
    impl<const LIMIT: usize> serde::de::Visitor<'_> for Visitor<LIMIT> {
        type Value = Bytes;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(formatter, "at most {LIMIT} bytes")
        }

        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
            if bytes.len() > LIMIT {
                return Err(E::invalid_length(bytes.len(), &self));
            }
            Ok(Bytes(bytes.to_vec()))
        }
    }
    deserializer.deserialize_bytes(Visitor::<LIMIT>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_another_kernel_is_not_passed_on() {
        for (name, kind) in [
            ("user.a", Some(XattrKind::User)),
            ("security.capability", Some(XattrKind::Capability)),
            ("system.posix_acl_access", Some(XattrKind::Access)),
            ("system.posix_acl_default", Some(XattrKind::Default)),
            ("user.overlay.opaque", None),
            ("user.", None),
            ("security.selinux", None),
            ("security.ima", None),
            ("trusted.overlay.opaque", None),
            ("system.nfs4_acl", None),
            ("", None),
        ] {
            assert_eq!(XattrKind::of(name.as_bytes()), kind, "{name}");
        }
        assert_eq!(XattrKind::of(format!("user.{}", "a".repeat(251)).as_bytes()), None);
    }

    #[test]
    fn a_list_says_which_kinds_there_are() {
        let kinds = XattrKinds::of_list(b"security.selinux\0user.a\0user.b\0system.posix_acl_access\0");
        assert!(kinds.has(XattrKind::User) && kinds.has(XattrKind::Access));
        assert!(!kinds.has(XattrKind::Default) && !kinds.has(XattrKind::Capability));
        assert!(XattrKinds::of_list(b"security.selinux\0trusted.x\0").is_empty());
    }
}
