//! Paths that both interceptors treat alike.

/// Kernel interfaces and programs: always local by the rules, `/proc/self` means the caller, and no symlink there leads to
/// the pod.
pub const NEVER_FOLLOWED: &[&str] = &[
    "/proc", "/sys", "/dev", "/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt",
];
