//! The marker: a random value in the sixth argument register of a call that does not use it. The filter lets marked calls
//! pass, so whoever already decided a call is not asked again.

/// A session's marker. The filter compares the whole 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker(pub u64);

impl Marker {
    /// A fresh random marker that no program has in a register by chance: neither half is small or all ones.
    ///
    /// # Errors
    /// When the kernel has no random bytes (`getrandom(2)`).
    #[cfg(feature = "std")]
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self(u64::from_ne_bytes(bytes) | 0x4000_0000_4000_0000))
    }
}
