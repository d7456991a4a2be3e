//! Outgoing unix stream flows: each gets a socket of its own in the session's directory, for one connection.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use guest::protocol::{Answer, Errno, FlowId};
use tokio::net::UnixListener;
use wire::Underway;
use wire::message::Destination;

use crate::flows;
use crate::router::Router;

/// How long the app has to connect to the path it was given.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens the remote end, then a local path where the app's socket connects once.
pub(crate) async fn dial(
    router: Router,
    directory: PathBuf,
    flow: FlowId,
    path: Vec<u8>,
    underway: Underway,
) -> Answer {
    let mut stream = match flows::dial(&router, Destination::Unix(path)).await {
        Ok((stream, _)) => stream,
        Err(errno) => return Answer::UnixRelay(Err(errno)),
    };
    let local = directory.join(format!("u{}", flow.0));
    let listener = match listen(&local) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "cannot listen for a unix flow");
            let errno = error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
            return Answer::UnixRelay(Err(Errno(errno)));
        }
    };
    let answer = Answer::UnixRelay(Ok(local.clone().into_os_string().into_vec()));
    tokio::spawn(async move {
        stream.hold_sending(underway.hold());
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted.ok(),
            // Who has not connected by then never will.
            () = underway.last() => None,
            () = tokio::time::sleep(PATIENCE) => None,
        };
        let _ = std::fs::remove_file(&local);
        if let Some((socket, _)) = accepted
            && let Err(error) = wire::join(socket, stream, |_| None, ()).await
        {
            tracing::debug!(?flow, %error, "unix flow ended by an error");
        }
    });
    answer
}

fn listen(path: &Path) -> std::io::Result<UnixListener> {
    debug_assert!(path.as_os_str().as_bytes().len() < 108, "sun_path");
    UnixListener::bind(path)
}
