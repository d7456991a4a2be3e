//! Looks names up in the pod for programs whose own resolver cannot (the layer alone).

use std::net::IpAddr;

use guest::protocol::{Answer, Errno};
use wire::message::{Record, ReplyBody, RequestBody, Resolve};

use crate::names::Names;
use crate::router::Router;

/// `TYPE` of A and AAAA (RFC 1035, RFC 3596).
const A: u16 = 1;
const AAAA: u16 = 28;

/// IPv4 addresses, then IPv6 ones, of the families asked for.
pub(crate) async fn lookup(router: &Router, names: &Names, name: &str, families: &[bool]) -> Answer {
    if !names.is_remote(name) {
        return Answer::Resolved(Ok(None));
    }
    let ask = async |v4: bool| {
        if families.contains(&v4) {
            one(router, name, if v4 { A } else { AAAA }).await
        } else {
            Ok(Vec::new())
        }
    };
    let (v4, v6) = tokio::join!(ask(true), ask(false));
    let (mut found, mut failed) = (Vec::new(), None);
    for answer in [v4, v6] {
        match answer {
            Ok(addresses) => found.extend(addresses),
            Err(errno) => failed = Some(errno),
        }
    }
    match (found.is_empty(), failed) {
        (true, Some(errno)) => Answer::Resolved(Err(errno)),
        (true, None) => Answer::Resolved(Err(Errno(rustix::io::Errno::NOENT.raw_os_error()))),
        (false, _) => {
            names.learn_addresses(name, &found);
            Answer::Resolved(Ok(Some(found)))
        }
    }
}

async fn one(router: &Router, name: &str, kind: u16) -> Result<Vec<IpAddr>, Errno> {
    let question = Resolve {
        name: name.to_owned(),
        kind,
    };
    match router.call(RequestBody::Resolve(question)).await {
        Ok(ReplyBody::Resolved(records)) => Ok(records
            .into_iter()
            .filter_map(|record| match record {
                Record::Address(address) if address.is_ipv4() == (kind == A) => Some(address),
                _ => None,
            })
            .collect()),
        Ok(ReplyBody::Failed(fault)) => Err(Errno(fault.errno)),
        _ => Err(Errno(rustix::io::Errno::AGAIN.raw_os_error())),
    }
}
