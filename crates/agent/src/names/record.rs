//! A DNS record as it goes over the link.

use hickory_resolver::proto::rr::{RData, Record as DnsRecord};
use wire::message::Record;

/// The longest presentation form that is told, in bytes.
const MAX_TEXT: usize = 4096;

/// `None` for what is too long to be told.
pub(super) fn of(record: &DnsRecord) -> Option<Record> {
    Some(match &record.data {
        RData::A(address) => Record::Address(address.0.into()),
        RData::AAAA(address) => Record::Address(address.0.into()),
        other => {
            let text = other.to_string();
            if text.len() > MAX_TEXT {
                return None;
            }
            Record::Other {
                kind: other.record_type().into(),
                text,
            }
        }
    })
}
