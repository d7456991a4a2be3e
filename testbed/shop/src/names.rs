//! A name server that knows the names it was told, and no other: every question is answered at once, so that whoever
//! looks up something that is not in a hosts file does not wait.

use std::io;
use std::net::{IpAddr, UdpSocket};

/// The header of a DNS message (RFC 1035 section 4.1.1).
const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const NXDOMAIN: u8 = 3;

/// `NAME=ADDRESS`.
struct Record {
    name: String,
    address: IpAddr,
}

pub fn serve(address: &str, records: &[String]) -> io::Result<()> {
    let records = records
        .iter()
        .map(|record| parse(record))
        .collect::<io::Result<Vec<_>>>()?;
    let socket =
        UdpSocket::bind(address).map_err(|cause| io::Error::new(cause.kind(), format!("bind {address}: {cause}")))?;
    println!("names listens on {}", socket.local_addr()?);
    let mut message = [0; 512];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut message) else {
            continue;
        };
        if let Some(answer) = answer(&message[..length], &records) {
            // A client that is gone needs no answer.
            let _ = socket.send_to(&answer, client);
        }
    }
}

fn parse(record: &str) -> io::Result<Record> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidInput, format!("{record}: not NAME=ADDRESS"));
    let (name, address) = record.split_once('=').ok_or_else(malformed)?;
    Ok(Record {
        name: name.to_ascii_lowercase(),
        address: address.parse().map_err(|_| malformed())?,
    })
}

/// `None` for what is not a question.
fn answer(question: &[u8], records: &[Record]) -> Option<Vec<u8>> {
    if question.len() < HEADER {
        return None;
    }
    let (name, end) = name(question)?;
    let kind = u16::from_be_bytes(question.get(end..end + 2)?.try_into().ok()?);
    let known: Vec<&Record> = records.iter().filter(|record| record.name == name).collect();
    let data = known.iter().filter_map(|record| match record.address {
        IpAddr::V4(address) if kind == TYPE_A => Some(address.octets().to_vec()),
        IpAddr::V6(address) if kind == TYPE_AAAA => Some(address.octets().to_vec()),
        _ => None,
    });
    let data: Vec<Vec<u8>> = data.collect();
    let mut answer = question.get(..end + 4)?.to_vec();
    // QR and RA, and the one question without what else was sent (EDNS).
    answer[2] |= 0x80;
    answer[3] = 0x80 | if known.is_empty() { NXDOMAIN } else { 0 };
    answer[4..HEADER].copy_from_slice(&[0, 1, 0, u8::try_from(data.len()).ok()?, 0, 0, 0, 0]);
    for bytes in data {
        // The question's name, the question's type, class IN, 60 s.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60, 0]);
        answer.push(u8::try_from(bytes.len()).ok()?);
        answer.extend(bytes);
    }
    Some(answer)
}

/// The asked name, and where its type stands.
fn name(question: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (HEADER, Vec::new());
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join(".").to_ascii_lowercase(), at));
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).into_owned());
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, kind: u16) -> Vec<u8> {
        let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            question.push(u8::try_from(label.len()).unwrap());
            question.extend(label.bytes());
        }
        question.push(0);
        question.extend(kind.to_be_bytes());
        question.extend([0, 1]);
        let records = ["a.test=10.0.0.1", "a.test=10.0.0.2", "six.test=fd00::1"].map(|text| parse(text).unwrap());
        answer(&question, &records).unwrap()
    }

    #[test]
    fn known_names_have_their_addresses_and_others_do_not_exist() {
        let two = ask("A.test", TYPE_A);
        assert_eq!((two[3] & 15, two[7]), (0, 2));
        assert!(two.ends_with(&[0, 4, 10, 0, 0, 2]));
        assert!(ask("six.test", TYPE_AAAA).ends_with(&[0, 0, 0, 0, 0, 0, 0, 1]));
        // The name exists, and has no address of that kind.
        let none = ask("six.test", TYPE_A);
        assert_eq!((none[3] & 15, none[7]), (0, 0));
        assert_eq!(ask("b.test", TYPE_A)[3] & 15, NXDOMAIN);
        assert!(answer(&[0; 5], &[]).is_none());
    }
}
