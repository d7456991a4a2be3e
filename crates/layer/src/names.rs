//! Names. Under the filter libc's own resolver asks the pod's name servers, since its calls are answered there. Without one
//! its inner calls reach nobody, so the session is asked, and libc turns the addresses into what the app expects.

use core::ffi::{c_char, c_int, c_void};

use guest::forward::{ADDRESS, RESOLVE};
use guest::image::ALONE;
use libc::{addrinfo, sockaddr, socklen_t};

use crate::forward::{self, Answer};
use crate::image::has;
use crate::next::next;
use crate::sys::{Raw, returned, text, uninterrupted};

/// Most addresses of one name.
const MOST: usize = 32;
/// RFC 1035, with dots.
const MAX_NAME: usize = 256;
/// `INET6_ADDRSTRLEN`.
const MAX_TEXT: usize = 46;

type Found = [u8; MOST * ADDRESS];

enum Asked {
    /// libc does it: the name is this machine's, or needs nobody.
    Itself,
    /// This many addresses.
    Addresses(usize),
    Failed(c_int),
}

unsafe fn ask(name: *const c_char, family: u64, found: &mut Found) -> Asked {
    // SAFETY: the caller's string.
    let written = unsafe { text(name, MAX_NAME) }.unwrap_or(&[]);
    let is_number = written.contains(&b':') || written.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.'));
    if !has(ALONE) || written.is_empty() || is_number {
        return Asked::Itself;
    }
    let arguments = [name as u64, family, found.as_mut_ptr() as u64, found.len() as u64, 0, 0];
    // SAFETY: the supervisor writes at most what the room holds.
    let answer = uninterrupted(|| match unsafe { forward::ask(RESOLVE, arguments, None) } {
        Answer::Proceed => Raw::MAX,
        Answer::Result(result) => result,
    });
    match answer {
        Raw::MAX => Asked::Itself,
        length if length >= 0 => Asked::Addresses(length as usize / ADDRESS),
        error => Asked::Failed(-error as c_int),
    }
}

/// An address as text, for libc to read back.
fn spell(record: &[u8], to: &mut [u8; MAX_TEXT]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut at = 0;
    let mut put = |byte: u8| {
        if let Some(place) = to.get_mut(at) {
            *place = byte;
        }
        at += 1;
    };
    match record.split_first() {
        Some((4, bytes)) => {
            for (index, byte) in bytes.iter().take(4).enumerate() {
                if index > 0 {
                    put(b'.');
                }
                for (least, digit) in [(100, byte / 100), (10, byte / 10 % 10), (0, byte % 10)] {
                    if *byte >= least {
                        put(b'0' + digit);
                    }
                }
            }
        }
        Some((_, bytes)) => {
            for (index, pair) in bytes.chunks(2).take(8).enumerate() {
                if index > 0 {
                    put(b':');
                }
                for byte in pair {
                    put(HEX[usize::from(byte >> 4)]);
                    put(HEX[usize::from(byte & 15)]);
                }
            }
        }
        None => {}
    }
    put(0);
}

unsafe fn libc_getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: libc's function of that name has this type.
    unsafe {
        next!(
            "getaddrinfo",
            (
                node => *const c_char,
                service => *const c_char,
                hints => *const addrinfo,
                result => *mut *mut addrinfo,
            ) -> c_int,
            libc::EAI_SYSTEM
        )
    }
}

/// `getaddrinfo(3)`: the list is libc's own, one part for each address.
pub(crate) unsafe fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    result: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: the caller's pointers, as getaddrinfo takes them.
    unsafe {
        let mut wanted: addrinfo = if hints.is_null() { core::mem::zeroed() } else { *hints };
        let family = match wanted.ai_family {
            libc::AF_INET => 4,
            libc::AF_INET6 => 6,
            _ => 0,
        };
        let mut found = [0; MOST * ADDRESS];
        let count = match ask(node, family, &mut found) {
            Asked::Itself => return libc_getaddrinfo(node, service, hints, result),
            Asked::Addresses(0) | Asked::Failed(libc::ENOENT) => return libc::EAI_NONAME,
            Asked::Addresses(count) => count,
            Asked::Failed(libc::ETIMEDOUT | libc::EAGAIN) => return libc::EAI_AGAIN,
            Asked::Failed(_) => return libc::EAI_FAIL,
        };
        let named = wanted.ai_flags & libc::AI_CANONNAME != 0;
        // What this machine has of IPv6 says nothing about the pod.
        wanted.ai_flags = (wanted.ai_flags | libc::AI_NUMERICHOST) & !(libc::AI_ADDRCONFIG | libc::AI_CANONNAME);
        let mut first: *mut addrinfo = core::ptr::null_mut();
        let mut end: *mut *mut addrinfo = &raw mut first;
        for record in found.chunks_exact(ADDRESS).take(count) {
            let mut spelled = [0; MAX_TEXT];
            spell(record, &mut spelled);
            let failed = libc_getaddrinfo(spelled.as_ptr().cast(), service, &raw const wanted, end);
            // The service's fault, the same for each.
            if failed != 0 && first.is_null() {
                return failed;
            }
            while !(*end).is_null() {
                end = &raw mut (**end).ai_next;
            }
        }
        if named && !first.is_null() {
            (*first).ai_canonname = next!("strdup", (node => *const c_char) -> *mut c_char, core::ptr::null_mut());
        }
        *result = first;
        0
    }
}

/// The name that libc's older functions are to be asked for: the first address of it as text. `Err`: it has none.
unsafe fn first(name: *const c_char, family: u64, spelled: &mut [u8; MAX_TEXT]) -> Result<*const c_char, ()> {
    let mut found = [0; MOST * ADDRESS];
    // SAFETY: the caller's string.
    match unsafe { ask(name, family, &mut found) } {
        Asked::Itself => Ok(name),
        Asked::Addresses(count) if count > 0 => {
            spell(&found[..ADDRESS], spelled);
            Ok(spelled.as_ptr().cast())
        }
        _ => Err(()),
    }
}

/// `HOST_NOT_FOUND`.
const NOT_FOUND: c_int = 1;

unsafe fn unknown_host() {
    // SAFETY: libc's own function gives this thread's h_errno.
    unsafe {
        let place = next!("__h_errno_location", () -> *mut c_int, core::ptr::null_mut());
        if !place.is_null() {
            *place = NOT_FOUND;
        }
    }
}

/// `gethostbyname(3)`.
pub(crate) unsafe fn gethostbyname(name: *const c_char) -> *mut c_void {
    // SAFETY: the caller's string.
    unsafe { gethostbyname2(name, libc::AF_INET) }
}

/// `gethostbyname2(3)`.
pub(crate) unsafe fn gethostbyname2(name: *const c_char, family: c_int) -> *mut c_void {
    let mut spelled = [0; MAX_TEXT];
    let wanted = if family == libc::AF_INET6 { 6 } else { 4 };
    // SAFETY: the caller's string; libc's function of that name has this type.
    unsafe {
        let Ok(name) = first(name, wanted, &mut spelled) else {
            unknown_host();
            return core::ptr::null_mut();
        };
        next!("gethostbyname2", (name => *const c_char, family => c_int) -> *mut c_void, core::ptr::null_mut())
    }
}

/// `gethostbyname_r(3)`.
pub(crate) unsafe fn gethostbyname_r(
    name: *const c_char,
    entry: *mut c_void,
    room: *mut c_char,
    size: usize,
    result: *mut *mut c_void,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the caller's pointers.
    unsafe { gethostbyname2_r(name, libc::AF_INET, entry, room, size, result, error) }
}

/// `gethostbyname2_r(3)`.
pub(crate) unsafe fn gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    entry: *mut c_void,
    room: *mut c_char,
    size: usize,
    result: *mut *mut c_void,
    error: *mut c_int,
) -> c_int {
    let mut spelled = [0; MAX_TEXT];
    let wanted = if family == libc::AF_INET6 { 6 } else { 4 };
    // SAFETY: the caller's pointers; libc's function of that name has this type.
    unsafe {
        let Ok(name) = first(name, wanted, &mut spelled) else {
            *result = core::ptr::null_mut();
            *error = NOT_FOUND;
            return 0;
        };
        next!(
            "gethostbyname2_r",
            (
                name => *const c_char,
                family => c_int,
                entry => *mut c_void,
                room => *mut c_char,
                size => usize,
                result => *mut *mut c_void,
                error => *mut c_int,
            ) -> c_int,
            libc::ENOSYS
        )
    }
}

/// `getnameinfo(3)`: the machine's name servers know nothing of the pod's addresses, so an address stays a number.
pub(crate) unsafe fn getnameinfo(
    address: *const sockaddr,
    length: socklen_t,
    host: *mut c_char,
    host_size: socklen_t,
    service: *mut c_char,
    service_size: socklen_t,
    flags: c_int,
) -> c_int {
    let flags = if has(ALONE) {
        flags | libc::NI_NUMERICHOST
    } else {
        flags
    };
    // SAFETY: the caller's pointers; libc's function of that name has this type.
    unsafe {
        next!(
            "getnameinfo",
            (
                address => *const sockaddr,
                length => socklen_t,
                host => *mut c_char,
                host_size => socklen_t,
                service => *mut c_char,
                service_size => socklen_t,
                flags => c_int,
            ) -> c_int,
            {
                returned(-(libc::ENOSYS as Raw));
                libc::EAI_SYSTEM
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_spelled_as_libc_reads_them() {
        for text in ["1.20.255.0", "10.0.0.1", "fd00::1", "2001:db8:1:2:3:4:5:6"] {
            let address: std::net::IpAddr = text.parse().unwrap();
            let mut record = [0; ADDRESS];
            match address {
                std::net::IpAddr::V4(v4) => {
                    record[0] = 4;
                    record[1..5].copy_from_slice(&v4.octets());
                }
                std::net::IpAddr::V6(v6) => {
                    record[0] = 6;
                    record[1..].copy_from_slice(&v6.octets());
                }
            }
            let mut spelled = [0; MAX_TEXT];
            spell(&record, &mut spelled);
            let spelled = std::ffi::CStr::from_bytes_until_nul(&spelled)
                .unwrap()
                .to_str()
                .unwrap();
            assert_eq!(spelled.parse::<std::net::IpAddr>().unwrap(), address, "{spelled}");
        }
    }
}
