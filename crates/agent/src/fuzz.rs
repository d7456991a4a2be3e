//! Entry for fuzzing: the decoders of this crate that read what the target's container or its clients wrote.

/// None may panic, whatever the bytes.
pub fn fuzz(data: &[u8]) {
    crate::facts::fuzz(data);
    crate::control::fuzz(data);
    crate::names::fuzz(data);
    crate::target::fuzz(data);
    crate::intercept::fuzz(data);
    tls::fuzz(data);
}
