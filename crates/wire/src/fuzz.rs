//! Entries for fuzzing: every decoder of bytes from the other end. None may panic, whatever the bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{Datagram, Dialed, FileReply, FileRequest, Open, Request, ToSession};
use crate::{Hello, frame};

/// All of them on the same bytes.
pub fn fuzz(data: &[u8]) {
    hello(data);
    messages(data);
    frames(data);
    datagrams(data);
}

/// The preface's message.
pub fn hello(data: &[u8]) {
    if let Ok(hello) = Hello::decode(data) {
        let _ = hello.common_version(&hello);
    }
}

/// Every message, decoded from its body; what decodes must survive the way there and back.
pub fn messages(data: &[u8]) {
    round::<Open>(data);
    round::<Dialed>(data);
    round::<Datagram>(data);
    round::<Request>(data);
    round::<ToSession>(data);
    round::<FileRequest>(data);
    round::<FileReply>(data);
}

fn round<M: DeserializeOwned + Serialize + PartialEq>(data: &[u8]) {
    let Ok(message) = frame::decode::<M>(data) else { return };
    if let Ok(bytes) = frame::encode(&message) {
        let again = frame::decode::<M>(&bytes[4..]).ok();
        assert!(again.as_ref() == Some(&message), "a message changed on its way");
    }
}

/// A stream of length-prefixed messages, read to its end.
pub fn frames(data: &[u8]) {
    let mut reader = data;
    let _ = now(async { while let Ok(Some(_)) = frame::next_message::<Request, _>(&mut reader).await {} });
}

/// A stream of datagrams, read to its end.
pub fn datagrams(data: &[u8]) {
    let mut reader = data;
    let mut datagram = Vec::new();
    let _ = now(async { while let Ok(true) = crate::datagram::read(&mut reader, &mut datagram).await {} });
}

/// Reading from memory never waits.
fn now<F: Future>(future: F) -> Option<F::Output> {
    futures::FutureExt::now_or_never(future)
}
