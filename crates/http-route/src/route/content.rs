//! A request's body, waited for where it decides.

use std::future::poll_fn;

use tokio::time::timeout;

use super::side::Side;
use crate::http1::{Body, BodyScan, MAX_HEAD};
use crate::{Connection, Options};

/// Reads behind the head of `length` bytes, which stays in the buffer, until the body is whole there; `None` when it will not
/// be: it does not fit, ends early, is malformed, or takes as long as no head may. Nothing is lost: whoever serves the request
/// finds all of it in the buffer.
pub(super) async fn read<D: Connection>(
    client: &mut Side<D>,
    length: usize,
    body: Body,
    options: &Options,
) -> Option<Vec<u8>> {
    if matches!(body, Body::Length(size) if size > (MAX_HEAD - length) as u64) {
        return None;
    }
    let whole = async {
        let mut scan = BodyScan::new(body);
        let (mut content, mut scanned) = (Vec::new(), length);
        loop {
            let taken = scan
                .scan_content(&client.received.bytes()[scanned..], |run| {
                    content.extend_from_slice(run);
                })
                .ok()?;
            scanned += taken.taken;
            if taken.done {
                return Some(content);
            }
            if client.ended || client.received.is_full() {
                return None;
            }
            // For the upstream, a client that broke here has ended.
            poll_fn(|cx| client.poll_fill(cx)).await.ok()?;
        }
    };
    timeout(options.head, whole).await.ok().flatten()
}
