//! Ports whose TLS is terminated: `"CERTIFICATE,KEY"`, or a table with more.

use std::collections::BTreeMap;

use rules::{Pem, TlsPort};

use super::{PathSide, Reader, one_of};
use crate::suggest::nearest;
use crate::value::{Entry, Node, Value, quoted};

/// In front of a path of this machine.
const LOCAL: &str = "local:";
const NAMES: [&str; 6] = [
    "certificate",
    "key",
    "app",
    "client_ca",
    "client_certificate",
    "client_key",
];
/// What the local app speaks.
const APP: &[(&str, bool)] = &[("tls", false), ("plain", true)];

impl Reader<'_> {
    pub(crate) fn tls(&mut self, node: &Node) -> BTreeMap<u16, TlsPort> {
        let pairs = self.table(node, Self::port_name, Self::tls_port);
        let count = pairs.len();
        let ports: BTreeMap<_, _> = pairs.into_iter().collect();
        if ports.len() != count {
            self.refuse(node.at, "the same port is written twice", None);
        }
        ports
    }

    fn tls_port(&mut self, node: &Node) -> Option<TlsPort> {
        match &node.value {
            Value::Text(text) => self.tls_text(text, node.at),
            Value::Table(entries) => self.tls_table(entries, node.at),
            _ => {
                self.expected("\"CERTIFICATE,KEY\" or a table", node);
                None
            }
        }
    }

    fn tls_text(&mut self, text: &str, at: usize) -> Option<TlsPort> {
        let parts: Vec<_> = text.split(',').map(str::trim).collect();
        let (certificate, key, plain) = match parts[..] {
            [certificate, key] => (certificate, key, false),
            [certificate, key, "plain"] => (certificate, key, true),
            _ => {
                let found = format!(
                    "expected \"CERTIFICATE,KEY\" or \"CERTIFICATE,KEY,plain\", found {}",
                    quoted(text)
                );
                self.refuse(at, &found, None);
                return None;
            }
        };
        Some(TlsPort {
            certificate: self.pem(certificate, at)?,
            key: self.pem(key, at)?,
            plain,
            client_ca: None,
            client_identity: None,
        })
    }

    fn tls_table(&mut self, entries: &[Entry], at: usize) -> Option<TlsPort> {
        if let Some(unknown) = entries.iter().find(|entry| !NAMES.contains(&entry.key.as_str())) {
            let near = nearest(&unknown.key, NAMES.into_iter()).map(|name| format!("did you mean \"{name}\"?"));
            let found = format!("expected {}, found {}", one_of(&NAMES), quoted(&unknown.key));
            self.refuse(unknown.at, &found, near);
            return None;
        }
        let find = |name: &str| entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node);
        let mut plain = false;
        if let Some(node) = find("app") {
            self.choice(node, APP, &mut plain);
        }
        let mut pem = |name: &str| -> Option<Option<Pem>> {
            let Some(node) = find(name) else { return Some(None) };
            let text = self.text(node)?;
            self.pem(&text, node.at).map(Some)
        };
        let (certificate, key) = (pem("certificate")?, pem("key")?);
        let client_ca = pem("client_ca")?;
        let client_identity = (pem("client_certificate")?, pem("client_key")?);
        let (Some(certificate), Some(key)) = (certificate, key) else {
            self.refuse(at, "both `certificate` and `key` are needed", None);
            return None;
        };
        let client_identity = match client_identity {
            (Some(certificate), Some(key)) if client_ca.is_some() => Some((certificate, key)),
            (None, None) => None,
            (Some(_), Some(_)) => {
                let hint = "name in `client_ca` whose certificates clients must have themselves";
                let message =
                    "with `client_certificate` every client would come to the app as the one it was issued to";
                self.refuse(at, message, Some(hint.to_owned()));
                return None;
            }
            _ => {
                self.refuse(at, "`client_certificate` and `client_key` come together", None);
                return None;
            }
        };
        Some(TlsPort {
            certificate,
            key,
            plain,
            client_ca,
            client_identity,
        })
    }

    /// A file of the pod, or of this machine.
    fn pem(&mut self, text: &str, at: usize) -> Option<Pem> {
        match text.strip_prefix(LOCAL) {
            Some(path) => self.path(path, at, PathSide::Here).map(Pem::Local),
            None => self.path(text, at, PathSide::Pod).map(Pem::Pod),
        }
    }
}
