//! hosts(5): `address name aliases...`.

use std::net::IpAddr;

use wire::message::Record;

const A: u16 = 1;
const AAAA: u16 = 28;

/// The addresses that the file gives a name, of the kind that was asked for.
pub(super) fn lookup(hosts: &[u8], name: &str, kind: u16) -> Vec<Record> {
    let wanted = name.strip_suffix('.').unwrap_or(name);
    let text = String::from_utf8_lossy(hosts);
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or(""));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address: IpAddr = words.next()?.parse().ok()?;
            let right = match address {
                IpAddr::V4(_) => kind == A,
                IpAddr::V6(_) => kind == AAAA,
            };
            (right && words.any(|word| word.eq_ignore_ascii_case(wanted))).then_some(Record::Address(address))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_hosts_file() {
        let hosts =
            b"127.0.0.1 localhost\n::1 localhost ip6\n10.0.0.9\tdb db.local # db2\n10.0.0.10 DB\nbad line\n\xff\xfe\n";
        let check = |name: &str, kind, expect: &[&str]| {
            let expect: Vec<_> = expect
                .iter()
                .map(|text| Record::Address(text.parse().unwrap()))
                .collect();
            assert_eq!(lookup(hosts, name, kind), expect, "{name} {kind}");
        };
        check("localhost", A, &["127.0.0.1"]);
        check("localhost", AAAA, &["::1"]);
        check("db", A, &["10.0.0.9", "10.0.0.10"]);
        check("DB.local.", A, &["10.0.0.9"]);
        check("db2", A, &[]);
        check("db", AAAA, &[]);
        check("db", 16, &[]);
    }
}
