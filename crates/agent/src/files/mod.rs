//! The file service: the target's files, with the target's own permissions.

mod answer;
mod bring;
mod change;
mod handles;
pub(crate) mod resolve;
mod workers;
mod xattr;

pub(crate) use workers::Workers;

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use wire::message::{FileAnswer, FileReply, FileRequest};
use wire::{LinkError, Stream, frame};

use crate::session::Session;
use handles::Handles;

/// Requests of one session under way at a time; more wait in the link. Bounds memory, as an answer may be 512 KiB, and how many
/// threads a session can hold by files that hang.
const SHORT: usize = 24;
/// The same of what is long, whose answers may wait for a slow link.
const LONG: usize = 8;

/// Of one session.
pub(crate) struct Slots {
    short: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            short: Arc::new(Semaphore::new(SHORT)),
            long: Arc::new(Semaphore::new(LONG)),
        }
    }
}

pub(crate) async fn serve(session: &Arc<Session>, stream: Stream) {
    let (mut reader, mut writer) = stream.split();
    let (send, mut queue) = mpsc::channel::<Vec<u8>>(1);
    let write = async {
        while let Some(reply) = queue.recv().await {
            if frame::write_encoded(&mut writer, &reply).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        read(session, &mut reader, send)
            .await
            .inspect_err(|error| tracing::debug!(%error, "a file stream"))
    };
    tokio::pin!(write);
    tokio::select! {
        // Answers under way still go out: the session may have closed its direction only.
        ended = read => if ended.is_ok() { write.await },
        // A writer that failed ends the reader as well: the stream is gone.
        () = &mut write => {}
    }
}

async fn read(
    session: &Arc<Session>,
    reader: &mut (impl tokio::io::AsyncRead + Unpin),
    send: mpsc::Sender<Vec<u8>>,
) -> Result<(), LinkError> {
    let handles = Arc::new(Handles::default());
    while let Some(FileRequest { id, body }) = frame::next_message(reader).await? {
        let Slots { short, long } = &session.file_slots;
        let slots = if body.is_long() { long } else { short };
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
            break;
        };
        let (reply, answered) = oneshot::channel();
        let (agent, handles) = (Arc::clone(&session.agent), Arc::clone(&handles));
        session.agent.files.run(move || {
            let body = answer::answer(&agent.target, &handles, body);
            let _ = reply.send(frame::encode_packed(&FileReply { id, body }));
        });
        let send = send.clone();
        tokio::spawn(async move {
            let failed = |errno| {
                let body = FileAnswer::Failed(errno);
                frame::encode(&FileReply { id, body })
            };
            // Without a thread, or the target's credentials, the question was dropped.
            let reply = answered
                .await
                .unwrap_or_else(|_| failed(libc::EAGAIN))
                .or_else(|error| {
                    tracing::error!(%error, "an answer about files");
                    failed(libc::EIO)
                });
            if let Ok(reply) = reply {
                let _ = send.send(reply).await;
            }
            drop(slot);
        });
    }
    Ok(())
}
