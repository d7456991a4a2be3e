//! Header compression (RFC 7541): a decoder for each peer, and an encoder without memory.
//!
//! The encoder refers to the static table only. Blocks of several upstreams can then be mixed on one connection, and one
//! that is dropped is missed by nobody.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;

use super::huffman;
use super::tables::STATIC;

/// The largest dynamic table that a peer may be allowed, in bytes.
pub(crate) const MAX_TABLE: usize = 64 << 10;
/// The longest list of fields, in bytes of names and values: a few bytes can refer to kilobytes.
const MAX_LIST: usize = 256 << 10;
/// The most fields of a list.
const MAX_FIELDS: usize = 4096;
/// What each entry of a table counts beside its text, in bytes (section 4.1).
const OVERHEAD: usize = 32;
/// Tells the peer's decoder once that no entries will be made (section 6.3).
const NO_TABLE: u8 = 0x20;

/// A block that cannot be decoded, or is too long to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Undecodable;

/// Names and values in their order, as they were in a block; names that begin with a colon say what is requested.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    text: Vec<u8>,
    ends: Vec<FieldEnd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FieldEnd {
    name: usize,
    value: usize,
    /// To be kept out of every table, further on too (section 7.1.3).
    never_indexed: bool,
}

impl Fields {
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries().map(|(name, value, _)| (name, value))
    }

    /// The first value of this name.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find_map(|(said, value)| (said == name).then_some(value))
    }

    fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8], bool)> {
        let mut begin = 0;
        self.ends.iter().map(move |end| {
            let field = (
                &self.text[begin..end.name],
                &self.text[end.name..end.value],
                end.never_indexed,
            );
            begin = end.value;
            field
        })
    }

    fn room(&self) -> usize {
        MAX_LIST.saturating_sub(self.text.len())
    }

    /// Ends a field whose text has been appended, with the name's length.
    fn end(&mut self, name: usize, never_indexed: bool) -> Result<(), Undecodable> {
        let begin = self.ends.last().map_or(0, |end| end.value);
        self.ends.push(FieldEnd {
            name: begin + name,
            value: self.text.len(),
            never_indexed,
        });
        if self.text.len() > MAX_LIST || self.ends.len() > MAX_FIELDS {
            return Err(Undecodable);
        }
        Ok(())
    }
}

/// Appends a block. `first` of a connection says that there will be no table.
pub(crate) fn encode(fields: &Fields, first: bool, out: &mut Vec<u8>) {
    if first {
        out.push(NO_TABLE);
    }
    for (name, value, never_indexed) in fields.entries() {
        let (named, whole) = known(name, value);
        match whole {
            Some(index) if !never_indexed => integer(0x80, 7, index, out),
            _ => {
                integer(if never_indexed { 0x10 } else { 0 }, 4, named.unwrap_or(0), out);
                if named.is_none() {
                    string(name, out);
                }
                string(value, out);
            }
        }
    }
}

/// The static table's first entry of this name, and its entry of name and value.
fn known(name: &[u8], value: &[u8]) -> (Option<usize>, Option<usize>) {
    static NAMES: LazyLock<HashMap<&[u8], usize>> = LazyLock::new(|| {
        let entries = STATIC.iter().enumerate().rev();
        entries.map(|(at, (name, _))| (name.as_bytes(), at)).collect()
    });
    let Some(&first) = NAMES.get(name) else {
        return (None, None);
    };
    let same = STATIC[first..].iter().take_while(|entry| entry.0.as_bytes() == name);
    let whole = same
        .clone()
        .position(|entry| entry.1.as_bytes() == value && !value.is_empty());
    (Some(first + 1), whole.map(|offset| first + offset + 1))
}

/// Section 5.1: below the `flags`, in `bits` and as many bytes more as it takes.
fn integer(flags: u8, bits: u32, value: usize, out: &mut Vec<u8>) {
    let most = (1_usize << bits) - 1;
    if value < most {
        out.push(flags | low(value));
        return;
    }
    out.push(flags | low(most));
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(low(rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(low(rest));
}

fn low(value: usize) -> u8 {
    u8::try_from(value & 0xff).unwrap_or(0)
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    let coded = huffman::length(text);
    if coded < text.len() {
        integer(0x80, 7, coded, out);
        huffman::encode(text, out);
    } else {
        integer(0, 7, text.len(), out);
        out.extend_from_slice(text);
    }
}

type Entry = (Box<[u8]>, Box<[u8]>);

/// What one peer's blocks refer to.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// Names and values, the newest first.
    table: VecDeque<Entry>,
    size: usize,
    limit: usize,
    /// The largest that the limit may become.
    most: usize,
}

/// The largest table before a setting says otherwise (RFC 9113 section 6.5.2).
const FIRST_TABLE: usize = 4096;

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            limit: FIRST_TABLE,
            most: FIRST_TABLE,
        }
    }
}

impl Decoder {
    /// The peer was told that it may have so large a table. One that is lowered again is not held to it: when it has heard
    /// of that is not known.
    pub(crate) fn allow(&mut self, size: usize) {
        self.most = self.most.max(size.min(MAX_TABLE));
    }

    /// # Errors
    /// When the block breaks the rules, or says too much; the connection's later blocks cannot be decoded then.
    pub(crate) fn decode(&mut self, mut block: &[u8]) -> Result<Fields, Undecodable> {
        let mut fields = Fields::default();
        while let Some(&first) = block.first() {
            match first {
                0x80.. => {
                    let index = read_integer(&mut block, 7)?;
                    let (name, value) = self.entry(index)?;
                    fields.text.extend_from_slice(name);
                    fields.text.extend_from_slice(value);
                    fields.end(name.len(), false)?;
                }
                0x40.. => {
                    let name = self.literal(&mut block, 6, false, &mut fields)?;
                    self.insert(name, &fields);
                }
                // A change of size stands only at the beginning (section 4.2).
                0x20.. => {
                    let size = read_integer(&mut block, 5)?;
                    if size > self.most || !fields.ends.is_empty() {
                        return Err(Undecodable);
                    }
                    self.limit = size;
                    self.evict(0);
                }
                _ => {
                    self.literal(&mut block, 4, first & 0x10 != 0, &mut fields)?;
                }
            }
        }
        Ok(fields)
    }

    /// Reads a field of which at least the value is written out; gives the name's length.
    fn literal(
        &self,
        block: &mut &[u8],
        bits: u32,
        never_indexed: bool,
        fields: &mut Fields,
    ) -> Result<usize, Undecodable> {
        let begin = fields.text.len();
        match read_integer(block, bits)? {
            0 => read_string(block, fields)?,
            index => fields.text.extend_from_slice(self.entry(index)?.0),
        }
        let name = fields.text.len() - begin;
        read_string(block, fields)?;
        fields.end(name, never_indexed)?;
        Ok(name)
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Undecodable> {
        let at = index.checked_sub(1).ok_or(Undecodable)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let (name, value) = self.table.get(at - STATIC.len()).ok_or(Undecodable)?;
        Ok((name, value))
    }

    /// Enters the field that was read last.
    fn insert(&mut self, name: usize, fields: &Fields) {
        let begin = fields.ends.iter().rev().nth(1).map_or(0, |end| end.value);
        let (name, value) = fields.text[begin..].split_at(name);
        let size = name.len() + value.len() + OVERHEAD;
        self.evict(size);
        // One that is larger than the table empties it (section 4.4).
        if size <= self.limit {
            self.table.push_front((name.into(), value.into()));
            self.size += size;
        }
    }

    fn evict(&mut self, wanted: usize) {
        while self.size + wanted > self.limit {
            let Some((name, value)) = self.table.pop_back() else {
                return;
            };
            self.size -= name.len() + value.len() + OVERHEAD;
        }
    }
}

fn read_integer(block: &mut &[u8], bits: u32) -> Result<usize, Undecodable> {
    let most = (1_usize << bits) - 1;
    let mut next = || {
        let (&byte, rest) = block.split_first()?;
        *block = rest;
        Some(usize::from(byte))
    };
    let mut value = next().ok_or(Undecodable)? & most;
    if value < most {
        return Ok(value);
    }
    // Four bytes more are enough for any length that is accepted.
    for shift in [0, 7, 14, 21] {
        let byte = next().ok_or(Undecodable)?;
        value += (byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Undecodable)
}

fn read_string(block: &mut &[u8], fields: &mut Fields) -> Result<(), Undecodable> {
    let coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = read_integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Undecodable)?;
    *block = rest;
    let room = fields.room();
    if coded {
        huffman::decode(text, room, &mut fields.text).ok_or(Undecodable)
    } else if text.len() <= room {
        fields.text.extend_from_slice(text);
        Ok(())
    } else {
        Err(Undecodable)
    }
}

/// Blocks of one peer, each decoded, encoded and decoded again.
///
/// # Panics
/// When that changes them.
pub(crate) fn fuzz(data: &[u8]) {
    let mut decoder = Decoder::default();
    for block in data.split(|byte| *byte == 0xfe) {
        let Ok(fields) = decoder.decode(block) else { return };
        let mut again = Vec::new();
        encode(&fields, true, &mut again);
        assert_eq!(
            Decoder::default().decode(&again),
            Ok(fields),
            "a block changed on its way"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(fields: &Fields) -> Vec<String> {
        let show = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let shown = fields.entries().map(|(name, value, never)| {
            let mark = if never { "!" } else { "" };
            format!("{mark}{}={}", show(name), show(value))
        });
        shown.collect()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<char> = hex.chars().filter(char::is_ascii_hexdigit).collect();
        let pairs = digits.chunks(2).map(|pair| pair.iter().collect::<String>());
        pairs.map(|pair| u8::from_str_radix(&pair, 16).unwrap()).collect()
    }

    #[test]
    fn blocks_of_the_standard() {
        // RFC 7541 appendix C.4: three requests on one connection.
        let mut decoder = Decoder::default();
        let mut next = |hex: &str| text(&decoder.decode(&bytes(hex)).unwrap());
        assert_eq!(
            next("828684418cf1e3c2e5f23a6ba0ab90f4ff"),
            [":method=GET", ":scheme=http", ":path=/", ":authority=www.example.com"]
        );
        assert_eq!(
            next("828684be5886a8eb10649cbf")[3..],
            [":authority=www.example.com", "cache-control=no-cache"]
        );
        assert_eq!(
            next("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")[2..],
            [
                ":path=/index.html",
                ":authority=www.example.com",
                "custom-key=custom-value"
            ]
        );
        assert_eq!(decoder.size, 164);
        // Appendix C.2.3, and C.5.1 with a table of 256 bytes: evicted entries are gone.
        let secret = Decoder::default()
            .decode(&bytes("100870617373776f726406736563726574"))
            .unwrap();
        assert_eq!(text(&secret), ["!password=secret"]);
        let mut small = Decoder::default();
        small.decode(&bytes("3fe101")).unwrap();
        assert_eq!(small.limit, 256);
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let blocks = [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "100870617373776f726406736563726574",
            "0000 00",
            "5803666f6f",
        ];
        for block in blocks {
            let fields = Decoder::default().decode(&bytes(block)).unwrap();
            for first in [false, true] {
                let mut again = Vec::new();
                encode(&fields, first, &mut again);
                let mut decoder = Decoder::default();
                assert_eq!(decoder.decode(&again), Ok(fields.clone()), "{block}");
                assert_eq!((decoder.table.len(), decoder.limit == 0), (0, first));
            }
        }
    }

    #[test]
    fn what_breaks_the_rules() {
        for block in [
            "80",
            "be",
            "ff",
            "ffffffffffff7f",
            "40",
            "400161",
            "4001610562",
            "82 20",
            "3fe1ffffff03",
            "0085ff",
        ] {
            assert_eq!(Decoder::default().decode(&bytes(block)), Err(Undecodable), "{block}");
        }
        let mut decoder = Decoder::default();
        let long = [&[0x40, 1, b'a', 0x7f, 0x81, 0x1e][..], &[b'x'; 4096 - 128]].concat();
        decoder.decode(&long).unwrap();
        assert_eq!(decoder.decode(&[0xbe; 200]), Err(Undecodable), "it says too much");
    }
}
