//! The requests of an HTTP/2 connection. Pure, as [`super::client`] is.

use std::collections::BTreeMap;

use http_route::RawReason;
use http_route::http2::{ClientReader, Fields, Said};

use super::client::{Request, Sent};

/// Requests that wait for their bodies; more are told without.
const WAITING: usize = 256;

#[derive(Default)]
pub(super) struct Streams {
    reader: ClientReader,
    /// In the order in which they came.
    waiting: BTreeMap<u32, Request>,
    newest: u32,
}

impl Streams {
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The requests that wait, with what has come of them.
    pub(super) fn hurry(&mut self) -> impl Iterator<Item = Sent> + use<> {
        std::mem::take(&mut self.waiting).into_values().map(Sent::Request)
    }

    /// # Errors
    /// Why the rest is not taken apart.
    pub(super) fn feed(&mut self, bytes: &[u8], limit: usize, each: &mut dyn FnMut(Sent)) -> Result<(), RawReason> {
        let Self {
            reader,
            waiting,
            newest,
        } = self;
        reader.feed(bytes, &mut |stream, said| match said {
            Said::Fields { fields, end } if stream > *newest => {
                *newest = stream;
                let request = request(&fields, end);
                if end || waiting.len() >= WAITING {
                    each(Sent::Request(request));
                } else {
                    waiting.insert(stream, request);
                }
            }
            Said::Data { bytes, end } => {
                let Some(request) = waiting.get_mut(&stream) else {
                    return;
                };
                let room = limit - request.body.len();
                request.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
                let over = bytes.len() > room;
                if end || over {
                    if !over {
                        request.length = Some(request.body.len() as u64);
                    }
                    each_of(waiting.remove(&stream), each);
                }
            }
            // Trailers, or the end before the end.
            Said::Fields { .. } => {
                if let Some(request) = waiting.get_mut(&stream) {
                    request.length = Some(request.body.len() as u64);
                }
                each_of(waiting.remove(&stream), each);
            }
            Said::Reset { .. } => each_of(waiting.remove(&stream), each),
        })
    }
}

fn each_of(request: Option<Request>, each: &mut dyn FnMut(Sent)) {
    request.map(Sent::Request).into_iter().for_each(each);
}

fn request(fields: &Fields, end: bool) -> Request {
    let text = |name: &[u8]| String::from_utf8_lossy(fields.get(name).unwrap_or_default()).into_owned();
    let length = fields
        .get(b"content-length")
        .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    let others = fields
        .iter()
        .filter(|(name, _)| !matches!(*name, b":method" | b":path"));
    Request {
        method: text(b":method"),
        target: text(b":path"),
        version: "HTTP/2",
        fields: others.map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        body: Vec::new(),
        length: if end { Some(0) } else { length },
    }
}
