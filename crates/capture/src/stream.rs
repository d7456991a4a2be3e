//! One direction of one TCP connection, put back in order. Pure.
//!
//! Positions are counted in 64 bits from the first byte, so that sequence numbers may wrap (RFC 9293, 3.4). Where
//! segments overlap, what came first counts, as with the receiving kernel.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a waiting piece costs beside its bytes, so that many small ones are bounded too.
const PIECE: usize = 64;

/// The bytes that wait exceed what is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overload;

#[derive(Debug)]
pub(crate) struct Stream {
    /// Sequence number of the byte at `at`.
    next: u32,
    /// Bytes given out.
    at: u64,
    /// Pieces behind a gap, by position; they do not overlap.
    waiting: BTreeMap<u64, Vec<u8>>,
    waiting_bytes: usize,
    /// Where the stream ends, once FIN was seen.
    end: Option<u64>,
    /// The server has acknowledged as much: it exists, seen or not.
    known: u64,
    gap_since: Option<Duration>,
}

impl Stream {
    /// `first` is the sequence number of the first byte: the one after SYN's.
    pub(crate) fn new(first: u32) -> Stream {
        Stream {
            next: first,
            at: 0,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            end: None,
            known: 0,
            gap_since: None,
        }
    }

    /// Everything up to FIN has been given out.
    pub(crate) fn finished(&self) -> bool {
        self.end == Some(self.at)
    }

    /// What waits, in bytes of memory.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Since when the next byte is missing although later ones are here.
    pub(crate) fn gap_since(&self) -> Option<Duration> {
        self.gap_since
    }

    /// Takes a segment in; gives out what is in order now. At most `limit` bytes may wait.
    pub(crate) fn push(
        &mut self,
        sequence: u32,
        payload: &[u8],
        fin: bool,
        now: Duration,
        limit: usize,
        mut out: impl FnMut(&[u8]),
    ) -> Result<(), Overload> {
        let before = self.at;
        let distance = i64::from(sequence.wrapping_sub(self.next).cast_signed());
        // Bytes that were given out already are cut off; a segment that begins before the stream has nothing new.
        let Some(start) = self.at.checked_add_signed(distance) else {
            return Ok(());
        };
        let finish = start + payload.len() as u64;
        if fin && finish >= self.at && self.end.is_none() {
            self.end = Some(finish);
        }
        let allowed = self.end.map_or(payload.len(), |end| {
            usize::try_from(end.saturating_sub(start)).map_or(payload.len(), |room| room.min(payload.len()))
        });
        let payload = &payload[..allowed];
        if start <= self.at {
            self.give(start, payload, &mut out);
            self.give_waiting(&mut out);
        } else {
            self.keep(start, payload);
        }
        self.time_gap(now, self.at != before);
        if self.waiting_bytes > limit {
            Err(Overload)
        } else {
            Ok(())
        }
    }

    /// Takes in what the server has acknowledged. It sees no segment before we do, so what is not here by then was lost
    /// on the way to us.
    pub(crate) fn acknowledge(&mut self, number: u32, now: Duration) {
        let distance = i64::from(number.wrapping_sub(self.next).cast_signed());
        // The number after FIN counts one that is no byte.
        let position = self
            .at
            .saturating_add_signed(distance)
            .min(self.end.unwrap_or(u64::MAX));
        self.known = self.known.max(position);
        self.time_gap(now, false);
    }

    fn time_gap(&mut self, now: Duration, moved: bool) {
        let exists = self.known.max(self.end.unwrap_or(0));
        self.gap_since = match self.gap_since {
            _ if self.waiting.is_empty() && exists <= self.at => None,
            Some(since) if !moved => Some(since),
            _ => Some(now),
        };
    }

    /// Gives out what of a piece that begins at or before `at` is new.
    fn give(&mut self, start: u64, bytes: &[u8], out: &mut impl FnMut(&[u8])) {
        let known = usize::try_from(self.at - start).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(known..).filter(|new| !new.is_empty()) {
            out(new);
            self.at += new.len() as u64;
            self.next = self.next.wrapping_add(new.len() as u32);
        }
    }

    fn give_waiting(&mut self, out: &mut impl FnMut(&[u8])) {
        while let Some(entry) = self.waiting.first_entry().filter(|entry| *entry.key() <= self.at) {
            let (start, bytes) = entry.remove_entry();
            self.waiting_bytes -= bytes.len() + PIECE;
            self.give(start, &bytes, out);
        }
    }

    /// Keeps what of a piece is not there yet.
    fn keep(&mut self, start: u64, bytes: &[u8]) {
        let end = start + bytes.len() as u64;
        let mut from = start;
        if let Some((at, piece)) = self.waiting.range(..=start).next_back() {
            from = from.max(at + piece.len() as u64);
        }
        while from < end {
            let next = self
                .waiting
                .range(from..end)
                .next()
                .map(|(at, piece)| (*at, at + piece.len() as u64));
            let (hole, after) = next.unwrap_or((end, end));
            if hole > from {
                let within = |position: u64| usize::try_from(position - start).expect("within a segment");
                let piece = bytes[within(from)..within(hole)].to_vec();
                self.waiting_bytes += piece.len() + PIECE;
                self.waiting.insert(from, piece);
            }
            from = after;
        }
    }
}

#[cfg(test)]
mod tests;
