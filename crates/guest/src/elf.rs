//! What an executable file is, from its first bytes (elf(5), execve(2)).

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

/// Entry for fuzzing: must not panic.
pub fn fuzz(data: &[u8]) {
    let _ = Executable::of(data);
}

#[cfg(test)]
mod tests {
    use super::*;

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
