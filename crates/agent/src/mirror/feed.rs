//! One connection's copy on its way to one session.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use http_route::RequestSplitter;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use wire::message::{ClaimMode, Incoming, Open};

use super::budget::{Share, Taken};
use super::{Mirror, Wanted};
use crate::intercept;
use crate::session::Session;
use crate::unread;

enum Piece {
    Data { bytes: Vec<u8>, _room: Taken },
    End,
}

pub(super) struct Feed {
    pub session: u64,
    link: Weak<Session>,
    wanted: Arc<Wanted>,
    share: Share,
    incoming: Incoming,
    /// Only where requests are told apart.
    splitter: Option<RequestSplitter>,
    /// A request of it was not wanted.
    left_out: bool,
    /// Its owner was told that it cannot be looked into, if so.
    warned: bool,
    /// Set once there is something to deliver.
    delivery: Option<Delivery>,
}

fn wanted_into(chosen: &mut Vec<u8>) -> impl FnMut(http_route::Piece<'_>) {
    |piece| {
        if piece.wanted {
            chosen.extend_from_slice(piece.bytes);
        }
    }
}

struct Delivery {
    pieces: mpsc::UnboundedSender<Piece>,
    task: AbortHandle,
}

impl Feed {
    pub(super) fn new(
        session: u64,
        link: Weak<Session>,
        wanted: Arc<Wanted>,
        share: Share,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Self {
        let splitter = if wanted.by_request() {
            Some(RequestSplitter::new())
        } else {
            wanted.counters.seen();
            let probes = &wanted.probes.requests;
            (probes.has_http() || probes.has_grpc()).then(|| RequestSplitter::leaving_out(probes.has_grpc()))
        };
        let incoming = Incoming {
            mode: ClaimMode::Mirror,
            port: server.port(),
            client,
            server,
        };
        Self {
            session,
            link,
            wanted,
            share,
            incoming,
            splitter,
            left_out: false,
            warned: false,
            delivery: None,
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.incoming.port
    }

    /// Delivers what is wanted of these bytes; `false` when the copy cannot go on.
    pub(super) fn data(&mut self, bytes: &[u8], mirror: &Arc<Mirror>, runtime: &Handle) -> bool {
        let Some(splitter) = &mut self.splitter else {
            return self.send(bytes.to_vec(), mirror, runtime);
        };
        let mut chosen = Vec::new();
        let wanted = &self.wanted;
        let by_request = wanted.by_request();
        splitter.feed(
            bytes,
            &mut |head, content| {
                let matches = if wanted.probes.requests.matches(head) {
                    false
                } else {
                    wanted.filter.matches(&intercept::request(head, content))?
                };
                if by_request {
                    wanted.counters.seen();
                    if matches {
                        wanted.counters.mirrored();
                    }
                }
                self.left_out |= !matches;
                Some(matches)
            },
            &mut wanted_into(&mut chosen),
        );
        if let Some(reason) = splitter.raw()
            && by_request
            && !self.warned
        {
            self.warned = true;
            let words = unread::words(self.incoming.port, ClaimMode::Mirror, reason);
            if let Some((words, session)) = words.zip(self.link.upgrade()) {
                session.standing.warn(words);
            }
        }
        chosen.is_empty() || self.send(chosen, mirror, runtime)
    }

    /// The client has sent everything.
    pub(super) fn finish(mut self, mirror: &Arc<Mirror>, runtime: &Handle) {
        let mut rest = Vec::new();
        if let Some(splitter) = &mut self.splitter {
            splitter.finish(&mut wanted_into(&mut rest));
        }
        if !rest.is_empty() && !self.send(rest, mirror, runtime) {
            mirror.dropped(self.session, self.port());
            return self.abandon();
        }
        // A connection of which nothing was wanted is not delivered; one without any bytes is, where all are, but for the probe
        // that it most likely was.
        let nothing = self.wanted.by_request() || self.wanted.probes.tcp.is_some() || self.left_out;
        if (self.delivery.is_some() || !nothing)
            && let Some(pieces) = self.pieces(mirror, runtime)
        {
            let _ = pieces.send(Piece::End);
        }
    }

    /// The copy is reset, and what waits for the link makes room for others.
    pub(super) fn abandon(self) {
        if let Some(delivery) = self.delivery {
            delivery.task.abort();
        }
    }

    fn send(&mut self, bytes: Vec<u8>, mirror: &Arc<Mirror>, runtime: &Handle) -> bool {
        let Some(room) = self.share.take(bytes.len()) else {
            return false;
        };
        let Some(pieces) = self.pieces(mirror, runtime) else {
            return false;
        };
        pieces.send(Piece::Data { bytes, _room: room }).is_ok()
    }

    fn pieces(&mut self, mirror: &Arc<Mirror>, runtime: &Handle) -> Option<&mpsc::UnboundedSender<Piece>> {
        if self.delivery.is_none() {
            let session = self.link.upgrade()?;
            let (send, receive) = mpsc::unbounded_channel();
            let task = runtime.spawn(deliver(session, self.incoming.clone(), receive, Arc::clone(mirror)));
            self.delivery = Some(Delivery {
                pieces: send,
                task: task.abort_handle(),
            });
            if !self.wanted.by_request() {
                self.wanted.counters.mirrored();
            }
        }
        self.delivery.as_ref().map(|delivery| &delivery.pieces)
    }
}

async fn deliver(
    session: Arc<Session>,
    incoming: Incoming,
    mut pieces: mpsc::UnboundedReceiver<Piece>,
    mirror: Arc<Mirror>,
) {
    let port = incoming.port;
    let mut stream = match session.link.open(&Open::Incoming(incoming), &[]).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "a copy could not be delivered");
            mirror.dropped(session.id, port);
            return;
        }
    };
    let ended = session.ended.clone();
    drop(session);
    while let Some(Some(piece)) = ended.run_until_cancelled(pieces.recv()).await {
        let delivered = match piece {
            Piece::Data { bytes, _room } => {
                async {
                    stream.write_all(&bytes).await?;
                    stream.flush().await
                }
                .await
            }
            Piece::End => {
                let _ = stream.shutdown().await;
                return;
            }
        };
        // The app does not want more: its own business.
        if delivered.is_err() {
            return;
        }
    }
}
