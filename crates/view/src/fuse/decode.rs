//! Requests as the kernel writes them.

use super::abi::{self, Field, InHeader, Reader, opcode};
use super::change::{self, Change};
use super::xattr;

/// One request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) unique: u64,
    pub(crate) node: u64,
    /// The thread that waits, in the mount's process namespace; 0 where it is in another.
    pub(crate) caller: u32,
    pub(crate) operation: Operation<'a>,
}

#[derive(Debug)]
pub(crate) enum Operation<'a> {
    Init(abi::InitIn),
    Destroy,
    Interrupt {
        unique: u64,
    },
    Forget {
        lookups: u64,
    },
    BatchForget(Vec<abi::ForgetOne>),
    Lookup {
        name: &'a [u8],
    },
    Attributes,
    ReadLink,
    Open {
        flags: u32,
    },
    Read(abi::ReadIn),
    Release {
        handle: u64,
    },
    OpenDirectory,
    ReadDirectory {
        read: abi::ReadIn,
        plus: bool,
    },
    ReleaseDirectory {
        handle: u64,
    },
    StatFs,
    Access {
        mask: u32,
    },
    Xattr(xattr::Question),
    /// Would change the file system.
    Change(Change),
    /// Not served: the kernel falls back or does without once it is told so.
    Unknown,
}

/// Why bytes are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a FUSE request (operation {opcode}, {length} bytes) is cut short or malformed")]
pub struct Malformed {
    pub opcode: u32,
    pub length: usize,
    /// The request that wants an error as its answer; 0 where even the header is missing.
    pub unique: u64,
}

/// Decodes one request; its size is bounded by the buffer it was read into.
pub(crate) fn decode(data: &[u8]) -> Result<Request<'_>, Malformed> {
    let mut reader = Reader(data);
    let header = InHeader::read(&mut reader).ok_or(Malformed {
        opcode: 0,
        length: data.len(),
        unique: 0,
    })?;
    let malformed = Malformed {
        opcode: header.opcode,
        length: data.len(),
        unique: header.unique,
    };
    let operation = if header.length as usize == data.len() {
        operation(header.opcode, &mut reader)
    } else {
        None
    };
    Ok(Request {
        unique: header.unique,
        node: header.node,
        caller: header.pid,
        operation: operation.ok_or(malformed)?,
    })
}

fn operation<'a>(opcode: u32, reader: &mut Reader<'a>) -> Option<Operation<'a>> {
    Some(match opcode {
        opcode::INIT => Operation::Init(Field::read(reader)?),
        opcode::DESTROY => Operation::Destroy,
        opcode::INTERRUPT => Operation::Interrupt {
            unique: Field::read(reader)?,
        },
        opcode::FORGET => Operation::Forget {
            lookups: Field::read(reader)?,
        },
        opcode::BATCH_FORGET => {
            let batch = abi::BatchForgetIn::read(reader)?;
            let mut all = Vec::new();
            for _ in 0..batch.count {
                // Ends with the data, whatever the count says.
                all.push(Field::read(reader)?);
            }
            Operation::BatchForget(all)
        }
        opcode::LOOKUP => Operation::Lookup { name: reader.name()? },
        opcode::GETATTR => Operation::Attributes,
        opcode::READLINK => Operation::ReadLink,
        opcode::OPEN => Operation::Open {
            flags: abi::OpenIn::read(reader)?.flags,
        },
        opcode::READ => Operation::Read(Field::read(reader)?),
        opcode::RELEASE => Operation::Release {
            handle: abi::ReleaseIn::read(reader)?.handle,
        },
        opcode::OPENDIR => Operation::OpenDirectory,
        opcode::READDIR => Operation::ReadDirectory {
            read: Field::read(reader)?,
            plus: false,
        },
        opcode::READDIRPLUS => Operation::ReadDirectory {
            read: Field::read(reader)?,
            plus: true,
        },
        opcode::RELEASEDIR => Operation::ReleaseDirectory {
            handle: abi::ReleaseIn::read(reader)?.handle,
        },
        opcode::STATFS => Operation::StatFs,
        opcode::ACCESS => Operation::Access {
            mask: abi::AccessIn::read(reader)?.mask,
        },
        opcode::GETXATTR | opcode::LISTXATTR => Operation::Xattr(xattr::decode(reader, opcode == opcode::GETXATTR)?),
        other => change::decode(other, reader)?,
    })
}

/// Must not panic, whatever `data` is.
pub fn fuzz(data: &[u8]) {
    let _ = decode(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(opcode: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        InHeader {
            length: (abi::IN_HEADER + body.len()) as u32,
            opcode,
            unique: 7,
            node: 1,
            ..InHeader::default()
        }
        .write(&mut out);
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn sizes_are_the_kernels() {
        let size = |field: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            field(&mut out);
            out.len()
        };
        assert_eq!(size(&|out| InHeader::default().write(out)), abi::IN_HEADER);
        assert_eq!(size(&|out| abi::OutHeader::default().write(out)), abi::OUT_HEADER);
        assert_eq!(size(&|out| abi::InitOut::default().write(out)), 64);
        assert_eq!(size(&|out| abi::Attr::default().write(out)), 88);
        assert_eq!(size(&|out| abi::EntryOut::default().write(out)), abi::ENTRY_OUT);
        assert_eq!(size(&|out| abi::AttrOut::default().write(out)), 104);
        assert_eq!(size(&|out| abi::ReadIn::default().write(out)), 40);
        assert_eq!(size(&|out| abi::Dirent::default().write(out)), abi::DIRENT);
        assert_eq!(size(&|out| abi::StatfsOut::default().write(out)), 80);
        assert_eq!(size(&|out| abi::SetAttrIn::default().write(out)), 88);
        assert_eq!(size(&|out| abi::WriteIn::default().write(out)), 40);
        assert_eq!(size(&|out| abi::CreateIn::default().write(out)), 16);
        assert_eq!(size(&|out| abi::FallocateIn::default().write(out)), 32);
        assert_eq!(size(&|out| abi::InvalidInodeOut::default().write(out)), 24);
    }

    #[test]
    fn the_value_of_an_attribute_is_behind_its_name() {
        let set = |size: u32, rest: &[u8]| {
            let mut body = [size.to_ne_bytes(), 1_u32.to_ne_bytes()].concat();
            body.extend_from_slice(rest);
            request(opcode::SETXATTR, &body)
        };
        let Operation::Change(Change::SetXattr { name, value, flags: 1 }) =
            decode(&set(3, b"user.a\0\x01\0\x02")).unwrap().operation
        else {
            panic!("not an attribute");
        };
        assert_eq!((&*name, &*value), (b"user.a".as_slice(), b"\x01\0\x02".as_slice()));
        assert!(decode(&set(4, b"user.a\0\x01\0\x02")).is_err());
        assert!(decode(&request(opcode::GETXATTR, &[0; 8])).is_err());
        assert!(decode(&request(opcode::LISTXATTR, &[0; 8])).is_ok());
    }

    #[test]
    fn a_name_ends_with_its_nul() {
        let lookup = request(opcode::LOOKUP, b"caf\xe9\0");
        let Ok(Request {
            operation: Operation::Lookup { name },
            unique: 7,
            node: 1,
            caller: 0,
        }) = decode(&lookup)
        else {
            panic!("not a lookup");
        };
        assert_eq!(name, b"caf\xe9");
        assert!(decode(&request(opcode::LOOKUP, b"no end")).is_err());
    }

    #[test]
    fn lies_about_lengths_are_refused() {
        let mut lie = request(opcode::STATFS, b"");
        lie[0] = 200;
        assert_eq!(decode(&lie).unwrap_err().unique, 7);
        assert!(decode(&request(opcode::READ, &[0; 12])).is_err());
        let mut forget = u32::MAX.to_ne_bytes().to_vec();
        forget.extend_from_slice(&[0; 20]);
        assert!(decode(&request(opcode::BATCH_FORGET, &forget)).is_err());
        for length in 0..abi::IN_HEADER {
            fuzz(&request(opcode::STATFS, b"")[..length]);
        }
    }

    #[test]
    fn changes_are_decoded_whole_or_refused() {
        let write = |size: u32, data: &[u8]| {
            let mut body = Vec::new();
            abi::WriteIn {
                handle: 3,
                offset: 9,
                size,
                flags: (libc::O_WRONLY | libc::O_APPEND).cast_unsigned(),
                ..abi::WriteIn::default()
            }
            .write(&mut body);
            body.extend_from_slice(data);
            request(opcode::WRITE, &body)
        };
        let Operation::Change(Change::Write {
            handle: 3,
            offset: 9,
            append: true,
            data,
        }) = decode(&write(4, b"data")).unwrap().operation
        else {
            panic!("not a write");
        };
        assert_eq!(data, b"data");
        assert!(decode(&write(5, b"data")).is_err());
        for code in [opcode::SYMLINK, opcode::RENAME, opcode::CREATE, opcode::SETATTR] {
            assert!(decode(&request(code, b"name\0")).is_err(), "{code}");
        }
        let Operation::Change(Change::Symlink { name, target }) =
            decode(&request(opcode::SYMLINK, b"here\0there\0")).unwrap().operation
        else {
            panic!("not a link");
        };
        assert_eq!((&*name, &*target), (b"here".as_slice(), b"there".as_slice()));
        assert!(matches!(
            decode(&request(9999, b"")).unwrap().operation,
            Operation::Unknown
        ));
    }
}
