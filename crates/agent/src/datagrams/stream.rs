//! A claim's datagrams on their way to its session, and the answers back.

use std::pin::pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use wire::message::{Datagram, Datagrams, Open};
use wire::{LinkError, frame};

use super::answers::Answers;
use super::claims::Waiting;
use crate::session::Session;

/// Until the session ends, or the claim and the answers that were underway then.
pub(super) async fn serve(
    session: Arc<Session>,
    claim: Datagrams,
    waiting: mpsc::UnboundedReceiver<Waiting>,
    answers: Arc<Answers>,
) {
    let ended = session.ended.clone();
    let served = async {
        let mut stream = session.link.open(&Open::Datagrams(claim.clone()), &[]).await?;
        if claim.mode.steals() {
            stream.hold_receiving(session.unheard.hold());
        }
        drop(session);
        let (mut reader, mut writer) = stream.split();
        let mut answering = pin!(read(&mut reader, &claim, &answers));
        tokio::select! {
            written = write(&mut writer, waiting) => written?,
            answered = &mut answering => return answered,
        }
        answering.await
    };
    if let Some(Err(error)) = ended.run_until_cancelled(served).await {
        tracing::debug!(%error, "a claim's datagrams");
    }
}

async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    mut waiting: mpsc::UnboundedReceiver<Waiting>,
) -> Result<(), LinkError> {
    while let Some(next) = waiting.recv().await {
        frame::write_message(writer, &next.datagram).await?;
    }
    // Its end is what the session needs, not whether it was said well.
    let _ = writer.shutdown().await;
    Ok(())
}

/// A mirror's answers go nowhere, and nobody speaks for another port than the claimed one.
async fn read(reader: &mut (impl AsyncRead + Unpin), claim: &Datagrams, answers: &Answers) -> Result<(), LinkError> {
    while let Some(answer) = frame::next_message::<Datagram, _>(reader).await? {
        if claim.mode.steals() && answer.server.port() == claim.port {
            answers.send(&answer);
        }
    }
    Ok(())
}
