//! Names as the pod resolves them: its resolv.conf (name servers, search, ndots) and its hosts file.

mod hosts;
mod record;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ResolveHosts, ServerOrderingStrategy};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::system_conf::parse_resolv_conf;
use wire::message::{Record, ReplyBody, Resolve};

use crate::control::failed;
use crate::{Agent, facts};

/// The longest name in text form, in bytes (RFC 1035 section 2.3.4, with dots).
const MAX_NAME: usize = 255;
/// The whole of one question, retries and search domains included.
const LIMIT: Duration = Duration::from_secs(20);
/// Records of one answer.
const MAX_RECORDS: usize = 256;

/// Keeps the resolver for as long as the target's settings stay the same.
#[derive(Default)]
pub(crate) struct Resolver {
    made: Mutex<Option<(Vec<u8>, Arc<TokioResolver>)>>,
}

impl Resolver {
    /// An empty list means that the name, or this kind of it, does not exist.
    pub(crate) async fn resolve(&self, agent: &Arc<Agent>, question: &Resolve) -> ReplyBody {
        let name = question.name.trim();
        if name.is_empty() || name.len() > MAX_NAME {
            return failed(libc::EINVAL, "not a name");
        }
        let reader = Arc::clone(agent);
        let files = tokio::task::spawn_blocking(move || {
            let read = |path| facts::text_file(&reader.target, path).unwrap_or_default();
            (read("/etc/resolv.conf"), read("/etc/hosts"))
        });
        let Ok((settings, hosts)) = files.await else {
            return failed(libc::EIO, "reading the target's resolver settings");
        };
        let known = hosts::lookup(&hosts, name, question.kind);
        if !known.is_empty() {
            return ReplyBody::Resolved(known);
        }
        let resolver = match self.resolver(settings) {
            Ok(resolver) => resolver,
            Err(why) => return failed(libc::EINVAL, &why),
        };
        let asked = tokio::time::timeout(LIMIT, resolver.lookup(name, RecordType::from(question.kind)));
        match asked.await {
            Err(_) => failed(libc::ETIMEDOUT, &format!("the pod's name servers on {name}")),
            Ok(Err(error)) => missing(&error, name),
            Ok(Ok(lookup)) => ReplyBody::Resolved(
                lookup
                    .answers()
                    .iter()
                    .filter_map(record::of)
                    .take(MAX_RECORDS)
                    .collect(),
            ),
        }
    }

    fn resolver(&self, settings: Vec<u8>) -> Result<Arc<TokioResolver>, String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, resolver)) = &*made
            && *of == settings
        {
            return Ok(Arc::clone(resolver));
        }
        let why = |error: NetError| format!("the target's /etc/resolv.conf: {error}");
        let (config, mut options) = parse_resolv_conf(&settings).map_err(why)?;
        // The pod's name servers cache; what is kept here would only be stale.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        // As libc asks them: in their order, one at a time.
        options.num_concurrent_reqs = 1;
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = Arc::new(builder.with_options(options).build().map_err(why)?);
        *made = Some((settings, Arc::clone(&resolver)));
        Ok(resolver)
    }
}

fn missing(error: &NetError, name: &str) -> ReplyBody {
    if error.is_no_records_found() || error.is_nx_domain() {
        return ReplyBody::Resolved(Vec::<Record>::new());
    }
    let errno = if matches!(error, NetError::Timeout) {
        libc::ETIMEDOUT
    } else {
        libc::EAGAIN
    };
    failed(errno, &format!("the pod's name servers on {name}: {error}"))
}

/// The decoders of this module, on foreign bytes.
pub(crate) fn fuzz(data: &[u8]) {
    let _ = parse_resolv_conf(data);
    let _ = hosts::lookup(data, "localhost", 1);
}
