//! Which mark stands for which client. Pure: the kernel is told by the caller.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::error::Error;

/// The part of a mark that says it is ours; the rest is the client.
pub(crate) const MARK_MASK: u32 = 0xffff_0000;
/// Index 0 is a marked socket that stands for nobody.
const LAST_INDEX: u16 = u16::MAX;
/// Clients without a connection whose element stays, so that those who come again cost no system call.
const IDLE: usize = 1024;

/// A socket mark (SO_MARK). A marked connection is never redirected again, and leaves with the address of the client
/// that the mark stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark(u32);

impl Mark {
    pub(crate) fn base(base: u32) -> Mark {
        Mark(base)
    }

    /// The value for SO_MARK.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

#[derive(Debug)]
struct Client {
    index: u16,
    connections: usize,
    /// When it became idle: a key of `idle`.
    idle_since: u64,
}

/// All clients and their marks.
#[derive(Debug)]
pub(crate) struct Clients {
    base: u32,
    by_ip: HashMap<IpAddr, Client>,
    idle: BTreeMap<u64, IpAddr>,
    free: Vec<u16>,
    unused: u16,
    clock: u64,
}

/// What adding a client needs from the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Addition {
    Known(Mark),
    New { mark: Mark, evict: Option<(IpAddr, Mark)> },
}

impl Clients {
    pub(crate) fn new(base: u32) -> Clients {
        Clients {
            base,
            by_ip: HashMap::new(),
            idle: BTreeMap::new(),
            free: Vec::new(),
            unused: 1,
            clock: 0,
        }
    }

    fn mark(&self, index: u16) -> Mark {
        Mark(self.base | u32::from(index))
    }

    /// Plans an addition. Nothing changes but for a known client, whose connections are counted at once.
    pub(crate) fn add(&mut self, ip: IpAddr) -> Result<Addition, Error> {
        if let Some(client) = self.by_ip.get_mut(&ip) {
            if client.connections == 0 {
                self.idle.remove(&client.idle_since);
            }
            client.connections += 1;
            let index = client.index;
            return Ok(Addition::Known(self.mark(index)));
        }
        let full = self.free.is_empty() && self.unused == LAST_INDEX;
        let evict = (self.idle.len() >= IDLE || full)
            .then(|| self.idle.first_key_value())
            .flatten();
        let evict = evict.map(|(_, ip)| (*ip, self.mark(self.by_ip[ip].index)));
        let index = match (self.free.last(), &evict) {
            (Some(index), _) => *index,
            (None, None) if full => {
                return Err(Error::TooMany {
                    what: "clients",
                    limit: usize::from(LAST_INDEX) - 1,
                });
            }
            (None, Some((ip, _))) => self.by_ip[ip].index,
            (None, None) => self.unused,
        };
        Ok(Addition::New {
            mark: self.mark(index),
            evict,
        })
    }

    /// Takes over a planned addition, once the kernel has it.
    pub(crate) fn added(&mut self, ip: IpAddr, mark: Mark, evict: Option<(IpAddr, Mark)>) {
        if let Some((old, _)) = evict
            && let Some(client) = self.by_ip.remove(&old)
        {
            self.idle.remove(&client.idle_since);
            self.free.push(client.index);
        }
        let index = (mark.0 & !MARK_MASK) as u16;
        if let Some(place) = self.free.iter().rposition(|free| *free == index) {
            self.free.swap_remove(place);
        } else {
            self.unused = index + 1;
        }
        self.by_ip.insert(
            ip,
            Client {
                index,
                connections: 1,
                idle_since: 0,
            },
        );
    }

    /// One connection less. The mark stays valid until the client is evicted.
    pub(crate) fn remove(&mut self, ip: IpAddr) {
        let Some(client) = self.by_ip.get_mut(&ip).filter(|client| client.connections > 0) else {
            return;
        };
        client.connections -= 1;
        if client.connections == 0 {
            self.clock += 1;
            client.idle_since = self.clock;
            self.idle.insert(self.clock, ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ip(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    /// Adds as `Table` does, with a kernel that always agrees.
    fn add(clients: &mut Clients, ip: IpAddr) -> Result<(u32, bool), Error> {
        Ok(match clients.add(ip)? {
            Addition::Known(mark) => (mark.get(), false),
            Addition::New { mark, evict } => {
                clients.added(ip, mark, evict);
                (mark.get(), true)
            }
        })
    }

    #[test]
    fn a_client_keeps_its_mark_while_it_is_known() {
        let mut clients = Clients::new(0x1d0d_0000);
        assert_eq!(add(&mut clients, ip(1)), Ok((0x1d0d_0001, true)));
        assert_eq!(add(&mut clients, ip(2)), Ok((0x1d0d_0002, true)));
        assert_eq!(add(&mut clients, ip(1)), Ok((0x1d0d_0001, false)));
        for _ in 0..5 {
            clients.remove(ip(1)); // more often than added is harmless
        }
        assert_eq!(add(&mut clients, ip(1)), Ok((0x1d0d_0001, false)));
    }

    #[test]
    fn a_failed_addition_leaves_nothing() {
        let mut clients = Clients::new(0x1d0d_0000);
        assert!(matches!(clients.add(ip(1)), Ok(Addition::New { .. })));
        assert_eq!(add(&mut clients, ip(2)), Ok((0x1d0d_0001, true)));
    }

    #[test]
    fn the_longest_idle_goes_first_and_marks_stay_distinct() {
        let mut clients = Clients::new(0x1d0d_0000);
        let idle = u32::try_from(IDLE).unwrap();
        for number in 0..idle {
            add(&mut clients, ip(number)).unwrap();
            clients.remove(ip(number));
        }
        assert_eq!(add(&mut clients, ip(0)), Ok((0x1d0d_0001, false)));
        clients.remove(ip(0));
        let Ok(Addition::New { mark, evict }) = clients.add(ip(9999)) else {
            panic!()
        };
        assert_eq!(evict.map(|(ip, _)| ip), Some(ip(1)));
        clients.added(ip(9999), mark, evict);
        let mut marks: Vec<_> = clients.by_ip.values().map(|client| client.index).collect();
        marks.sort_unstable();
        marks.dedup();
        assert_eq!(marks.len(), clients.by_ip.len());
    }

    #[test]
    fn when_all_marks_are_in_use_the_next_client_is_refused_until_one_leaves() {
        let mut clients = Clients::new(0x1d0d_0000);
        let last = u32::from(LAST_INDEX) - 1;
        for number in 1..=last {
            add(&mut clients, ip(number)).unwrap();
        }
        assert!(matches!(add(&mut clients, ip(99_999)), Err(Error::TooMany { .. })));
        clients.remove(ip(7));
        assert_eq!(add(&mut clients, ip(99_999)), Ok((0x1d0d_0007, true)));
        assert!(matches!(add(&mut clients, ip(99_998)), Err(Error::TooMany { .. })));
    }
}
