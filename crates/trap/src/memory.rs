//! A guest's memory. Guest pointers are numbers here: only ever handed to the kernel, never followed.

use rustix::io::Errno;

use crate::forwarded::Conversation;
use crate::sys::memory;

/// `PATH_MAX`: the longest path the kernel takes, its NUL included.
pub(crate) const MAX_PATH: usize = 4096;
const PAGE: u64 = 4096;

/// An address in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer(pub(crate) u64);

impl Pointer {
    pub(crate) fn is_null(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

/// The memory of one thread's process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory<'a> {
    tid: u32,
    /// The caller itself, where it can be asked and nothing better is to be had.
    caller: Option<&'a Conversation>,
}

impl<'a> Memory<'a> {
    pub(crate) fn of(tid: u32) -> Self {
        Self { tid, caller: None }
    }

    /// Of a caller that answers for its memory itself where this machine does not let others look.
    pub(crate) fn by(tid: u32, caller: &'a Conversation) -> Self {
        Self {
            tid,
            caller: (!caller.direct).then_some(caller),
        }
    }

    fn fetch(self, from: u64, into: &mut [u8]) -> Result<usize, Errno> {
        match self.caller {
            None => memory::read(self.tid, from, into),
            Some(caller) => caller.peek(from, into),
        }
    }

    fn put(self, to: u64, bytes: &[u8]) -> Result<usize, Errno> {
        match self.caller {
            None => memory::write(self.tid, to, bytes),
            Some(caller) => caller.poke(to, bytes),
        }
    }

    /// All of `into`.
    ///
    /// # Errors
    /// EFAULT where nothing is mapped, EPERM for a process that hides its memory, ESRCH when it is gone.
    pub(crate) fn read(self, from: Pointer, into: &mut [u8]) -> Result<(), Errno> {
        if into.is_empty() {
            return Ok(());
        }
        if self.fetch(from.0, into)? == into.len() {
            Ok(())
        } else {
            Err(Errno::FAULT)
        }
    }

    /// # Errors
    /// As [`Memory::read`].
    pub(crate) fn read_vec(self, from: Pointer, length: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; length];
        self.read(from, &mut bytes)?;
        Ok(bytes)
    }

    /// # Errors
    /// As [`Memory::read`].
    pub(crate) fn read_u32(self, from: Pointer) -> Result<u32, Errno> {
        let mut bytes = [0; 4];
        self.read(from, &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    /// A NUL-terminated path without its NUL. Reads to the end of a page at a time: the next one may not be mapped.
    ///
    /// # Errors
    /// ENAMETOOLONG without a NUL in [`MAX_PATH`] bytes; else as [`Memory::read`].
    pub(crate) fn read_path(self, from: Pointer) -> Result<Vec<u8>, Errno> {
        /// Most paths are shorter; a longer first read copies bytes nobody needs.
        const FIRST: u64 = 256;
        let mut path = Vec::new();
        while path.len() < MAX_PATH {
            let at = from.plus(path.len() as u64);
            let to_page_end = PAGE - at.0 % PAGE;
            let want = if path.is_empty() {
                to_page_end.min(FIRST)
            } else {
                to_page_end
            };
            let start = path.len();
            path.resize(start + want as usize, 0);
            let got = self.fetch(at.0, &mut path[start..])?;
            path.truncate(start + got);
            if let Some(end) = path[start..].iter().position(|byte| *byte == 0) {
                path.truncate(start + end);
                return if path.len() < MAX_PATH {
                    Ok(path)
                } else {
                    Err(Errno::NAMETOOLONG)
                };
            }
            if got == 0 {
                return Err(Errno::FAULT);
            }
        }
        Err(Errno::NAMETOOLONG)
    }

    /// # Errors
    /// EFAULT where the guest may not write; else as [`Memory::read`].
    pub(crate) fn write(self, to: Pointer, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.put(to.0, bytes)? == bytes.len() {
            Ok(())
        } else {
            Err(Errno::FAULT)
        }
    }

    /// An address the way `accept(2)` returns it: as much as `*length` allows, and the true length there.
    ///
    /// # Errors
    /// EINVAL for a negative length; else as [`Memory::write`].
    pub(crate) fn write_address(self, to: Pointer, length_at: Pointer, address: &[u8]) -> Result<(), Errno> {
        let room = i32::from_ne_bytes(self.read_u32(length_at)?.to_ne_bytes());
        let room = usize::try_from(room).map_err(|_| Errno::INVAL)?;
        self.write(to, &address[..address.len().min(room)])?;
        self.write(length_at, &(address.len() as u32).to_ne_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_at_their_nul_even_beyond_a_page() {
        let mut bytes = vec![b'a'; 5000];
        bytes[4999] = 0;
        let memory = Memory::of(std::process::id());
        let at = |offset: usize| Pointer(bytes.as_ptr() as u64 + offset as u64);
        assert_eq!(memory.read_path(at(4990)).unwrap().len(), 9);
        assert_eq!(memory.read_path(at(1000)).unwrap().len(), 3999);
        assert_eq!(memory.read_path(at(0)), Err(Errno::NAMETOOLONG));
        assert_eq!(memory.read_path(Pointer(8)), Err(Errno::FAULT));
    }
}
