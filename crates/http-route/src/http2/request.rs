//! A request's fields, as the router and filters see a head.

use super::Fields;
use crate::{Content, RequestHead};

/// What is said of a request.
pub(crate) enum Judged<T> {
    /// It is none.
    Improper,
    /// Its body must be seen.
    Undecided,
    To(T),
}

/// Asks `decide`; who has no answer though nothing more is to come says `otherwise`.
pub(crate) fn judge<T>(
    fields: &Fields,
    content: Content<'_>,
    otherwise: T,
    decide: impl FnOnce(&RequestHead<'_>, Content<'_>) -> Option<T>,
) -> Judged<T> {
    let (mut method, mut target, mut authority) = (None, None, None);
    let mut plain = Vec::with_capacity(16);
    for (name, value) in fields.iter() {
        let Ok(name) = std::str::from_utf8(name) else {
            return Judged::Improper;
        };
        let place = match name {
            ":method" => &mut method,
            ":path" => &mut target,
            ":authority" => &mut authority,
            _ if name.starts_with(':') => continue,
            _ => {
                plain.push(httparse::Header { name, value });
                continue;
            }
        };
        let Ok(text) = std::str::from_utf8(value) else {
            return Judged::Improper;
        };
        *place = Some(text);
    }
    let (Some(method), Some(target)) = (method, target.or(authority)) else {
        return Judged::Improper;
    };
    let head = RequestHead::http2(method, target, authority, &plain);
    let content = match content {
        Content::Coming if head.expects_continue() || head.is_connect() => Content::Unseen,
        content => content,
    };
    match decide(&head, content) {
        None if content == Content::Coming => Judged::Undecided,
        decided => Judged::To(decided.unwrap_or(otherwise)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::hpack::Decoder;

    /// Whether a request with this header block waits for its body, where that decides.
    fn waits(block: &[u8]) -> bool {
        let fields = Decoder::default().decode(block).unwrap();
        matches!(judge(&fields, Content::Coming, (), |_, _| None), Judged::Undecided)
    }

    #[test]
    fn a_body_that_follows_an_answer_is_not_waited_for() {
        // POST, the same with `expect: 100-continue`, and CONNECT, each of `/`.
        assert!(waits(b"\x83\x84"));
        assert!(!waits(b"\x83\x84\x0f\x14\x0c100-continue"));
        assert!(!waits(b"\x02\x07CONNECT\x84"));
    }
}
