//! What an executable file is (elf(5), execve(2)).

use std::ffi::OsStr;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How many bytes of a file [`Executable::of`] looks at (`BINPRM_BUF_SIZE` is 256; ELF needs 20).
pub const HEAD: usize = 64;

/// The kinds of executables that an interceptor treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executable {
    /// ELF for x86-64.
    Native,
    /// ELF for another machine or with 32-bit pointers (i386, x32): its calls cannot be served.
    Foreign,
    /// `#!` and an interpreter, which is an executable of its own.
    Script,
    /// Anything else: the kernel or the caller decides.
    Unknown,
}

impl Executable {
    /// From a file's first bytes, of any origin; [`HEAD`] of them are enough.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        /// `EI_CLASS` = `ELFCLASS64`.
        const CLASS_64: u8 = 2;
        /// `e_machine` = `EM_X86_64`.
        const MACHINE: [u8; 2] = 62_u16.to_le_bytes();
        match head {
            [b'#', b'!', ..] => Self::Script,
            [0x7f, b'E', b'L', b'F', class, ..] => match (class, head.get(18..20)) {
                (&CLASS_64, Some(machine)) if machine == MACHINE => Self::Native,
                (_, Some(_)) => Self::Foreign,
                (_, None) => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }
}

/// What the loader makes of an ELF file of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loading {
    /// The dynamic loader it names; `None` for a static program.
    pub interpreter: Option<PathBuf>,
    /// Offset and length in the file of each part that is mapped executable.
    pub code: Vec<(u64, u64)>,
}

/// `Elf64_Ehdr`, `Elf64_Phdr`.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Programs have a dozen.
const MOST_PROGRAM_HEADERS: usize = 128;

impl Loading {
    /// From a file of any origin that begins like [`Executable::Native`].
    ///
    /// # Errors
    /// When it cannot be read, or its headers lead outside of it.
    pub fn of(file: &mut (impl Read + Seek)) -> io::Result<Self> {
        const LOAD: u32 = 1;
        const INTERPRETER: u32 = 3;
        const EXECUTABLE: u32 = 1;
        let header = part(file, 0, HEADER)?;
        let (offset, size, count) = (word(&header, 32), short(&header, 54), short(&header, 56));
        if size != PROGRAM_HEADER || count > MOST_PROGRAM_HEADERS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut loading = Self::default();
        for header in part(file, offset, size * count)?.chunks_exact(PROGRAM_HEADER) {
            let (kind, flags) = (word(header, 0) as u32, (word(header, 0) >> 32) as u32);
            let (at, length) = (word(header, 8), word(header, 32));
            match kind {
                INTERPRETER => {
                    let path = part(file, at, length.min(4096) as usize)?;
                    let path = path.split(|byte| *byte == 0).next().unwrap_or(&[]);
                    loading.interpreter = Some(PathBuf::from(OsStr::from_bytes(path)));
                }
                LOAD if flags & EXECUTABLE != 0 => loading.code.push((at, length)),
                _ => {}
            }
        }
        Ok(loading)
    }
}

fn part(file: &mut (impl Read + Seek), at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

fn short(bytes: &[u8], at: usize) -> usize {
    (word(bytes, at) & 0xffff) as usize
}

/// Entry for fuzzing: must not panic.
pub fn fuzz(data: &[u8]) {
    let _ = Executable::of(data);
    let _ = Loading::of(&mut io::Cursor::new(data));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_this_test_is_loaded() {
        let mut own = std::fs::File::open("/proc/self/exe").unwrap();
        let loading = Loading::of(&mut own).unwrap();
        assert!(loading.interpreter.unwrap().starts_with("/lib64"));
        assert!(!loading.code.is_empty());
        assert!(Loading::of(&mut io::Cursor::new([0xff; 200])).is_err());
    }

    #[test]
    fn kinds_of_files() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(Executable::of(&own[..HEAD]), Executable::Native);
        let mut i386 = own[..HEAD].to_vec();
        (i386[4], i386[18]) = (1, 3);
        assert_eq!(Executable::of(&i386), Executable::Foreign);
        assert_eq!(Executable::of(&own[..19]), Executable::Unknown);
        assert_eq!(Executable::of(b"#!/bin/sh\n"), Executable::Script);
        assert_eq!(Executable::of(b""), Executable::Unknown);
    }
}
