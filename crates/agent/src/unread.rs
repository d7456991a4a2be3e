//! Connections that no filter can look into: whoever has set one is told, once for each kind.

use http_route::RawReason;
use wire::message::ClaimMode;

/// What the owner of a filtered claim should know; `None` of what is too rare to matter, or an attack.
pub(crate) fn words(port: u16, mode: ClaimMode, reason: RawReason) -> Option<String> {
    let (what, stays) = match reason {
        RawReason::Tls => ("TLS", "it stays with the real app (`--tls` looks into it: docs/tls.md)"),
        RawReason::NotHttp => ("something other than HTTP", "it stays with the real app"),
        RawReason::Http2 => ("HTTP/2", "it stays with the real app, which does not speak it"),
        _ => return None,
    };
    let then = match mode {
        ClaimMode::Mirror => "nothing of it is copied (without a filter it is)",
        _ => stays,
    };
    Some(format!(
        "port {port}: a client speaks {what}, which the filter cannot look into: {then}"
    ))
}
