//! The packet socket and its ring. The only unsafe code of this crate.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{c_int, c_uint, c_void, sock_filter};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::block::STATUS;
use crate::error::{Error, meaning};

/// A block is handed over when it is full, or this many milliseconds after its first packet.
const HAND_OVER: c_uint = 20;
/// Only a unit that the kernel checks for TPACKET_V3; frames are packed as they come.
const FRAME: c_uint = 2048;

/// A packet socket with a mapped receive ring (TPACKET_V3, packet(7)) that sees all interfaces of its namespace.
#[derive(Debug)]
pub(crate) struct Ring {
    fd: OwnedFd,
    /// `block * blocks` bytes, mapped for as long as the value lives.
    map: NonNull<u8>,
    block: usize,
    blocks: usize,
    current: usize,
}

// SAFETY: the mapping belongs to this value alone and no method depends on the thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Opens the socket, still seeing nothing.
    pub(crate) fn open(block: usize, blocks: usize) -> Result<Ring, Error> {
        // Protocol 0: nothing is received until `listen`, so no packet passes before there is a filter.
        let fd = socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .map_err(meaning("opening a packet socket"))?;
        let ring = "making the packet ring";
        set(
            fd.as_fd(),
            libc::SOL_PACKET,
            libc::PACKET_VERSION,
            &(libc::tpacket_versions::TPACKET_V3 as c_int),
        )
        .map_err(meaning(ring))?;
        let size = |bytes: usize| c_uint::try_from(bytes).expect("the ring is at most 1 GiB");
        // SAFETY: an all-zero tpacket_req3 is a valid value: it has integers only.
        let mut request: libc::tpacket_req3 = unsafe { std::mem::zeroed() };
        request.tp_block_size = size(block);
        request.tp_block_nr = size(blocks);
        request.tp_frame_size = FRAME;
        request.tp_frame_nr = size(block * blocks) / FRAME;
        request.tp_retire_blk_tov = HAND_OVER;
        set(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_RX_RING, &request).map_err(meaning(ring))?;
        // SAFETY: a new shared mapping of the ring that was just made with this size; the address is the kernel's choice.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                block * blocks,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(meaning("mapping the packet ring")(last_error()));
        }
        let map = NonNull::new(address.cast()).expect("a mapping is not at address 0");
        Ok(Ring {
            fd,
            map,
            block,
            blocks,
            current: 0,
        })
    }

    /// Sets what is let through from now on.
    pub(crate) fn filter(&self, program: &[sock_filter]) -> Result<(), Error> {
        filter(self.as_fd(), program)
    }

    /// Begins to see packets of every protocol and interface, those that are sent too.
    pub(crate) fn listen(&self) -> Result<(), Error> {
        listen(self.as_fd())
    }

    /// Gives the next finished block to `read`, then returns it to the kernel. `None` when there is none.
    pub(crate) fn next_block<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        // SAFETY: `current` is below `blocks`, so the block lies within the mapping.
        let start = unsafe { self.map.add(self.current * self.block) };
        // SAFETY: the status is an aligned u32 within the block (blocks are page aligned), which kernel and process
        // only ever access as a whole.
        let status = unsafe { AtomicU32::from_ptr(start.add(STATUS).cast().as_ptr()) };
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: while the status says USER the kernel does not write to the block, and `&mut self` keeps it that way
        // until the status is set below; the slice does not outlive the call.
        let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr(), self.block) };
        let result = read(bytes);
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.current = (self.current + 1) % self.blocks;
        Some(result)
    }

    /// Packets that found the ring full since the last call.
    pub(crate) fn dropped(&self) -> Result<u64, Error> {
        dropped(self.as_fd())
    }

    /// The indices of interfaces by name.
    pub(crate) fn indices(&self, names: &[String]) -> Result<Vec<u32>, Error> {
        let index = |name: &String| match netdevice::name_to_index(&self.fd, name) {
            Ok(index) => Ok(index),
            Err(Errno::NODEV | Errno::NAMETOOLONG | Errno::INVAL) => Err(Error::Interface { name: name.clone() }),
            Err(errno) => Err(meaning("looking up a network interface")(errno)),
        };
        Ok(names
            .iter()
            .map(index)
            .collect::<Result<BTreeSet<_>, _>>()?
            .into_iter()
            .collect())
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `open` with this size, and nothing refers to it any more.
        unsafe { libc::munmap(self.map.as_ptr().cast(), self.block * self.blocks) };
    }
}

/// A packet socket without a ring: each packet can be had as soon as it is there, from its link header on.
#[derive(Debug)]
pub(crate) struct Tap {
    fd: OwnedFd,
}

/// One packet of a [`Tap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Where the IP header is in the buffer, and where what was captured ends.
    pub network: usize,
    pub end: usize,
    /// Bytes that it had from its IP header on.
    pub length: usize,
    pub interface: u32,
    /// Payload bytes of each of the datagrams that were sent as one (`UDP_SEGMENT`, udp(7)).
    pub segment: Option<usize>,
}

/// `struct virtio_net_hdr`, before each packet (PACKET_VNET_HDR): type, size.
const OFFLOAD: usize = 10;
const OFFLOAD_TYPE: usize = 1;
const OFFLOAD_SIZE: usize = 4;
/// `VIRTIO_NET_HDR_GSO_UDP_L4`, linux/virtio_net.h. Before Linux 6.2 such packets are refused with EINVAL instead.
const OFFLOAD_UDP: u8 = 5;
/// linux/if_packet.h.
const PACKET_VNET_HDR: c_int = 15;
/// Whole packets of fragmented IPv4, and a group's number of the kernel's choice.
const FANOUT_DEFRAGMENT: u32 = 0x8000;
const FANOUT_UNIQUE: u32 = 0x2000;
/// What may wait to be read, in bytes; the kernel doubles it for its own overhead.
const WAITING: c_int = 4 << 20;

impl Tap {
    /// Opens the socket, still seeing nothing.
    pub(crate) fn open() -> Result<Tap, Error> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
            .map_err(meaning("opening a packet socket"))?;
        let one: c_int = 1;
        for option in [libc::PACKET_AUXDATA, PACKET_VNET_HDR] {
            set(fd.as_fd(), libc::SOL_PACKET, option, &one).map_err(meaning("asking for packets with their facts"))?;
        }
        // More than the machine's limit only with NET_ADMIN; less makes it lose packets sooner.
        if set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &WAITING).is_err() {
            let _ = set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, &WAITING);
        }
        Ok(Tap { fd })
    }

    /// Sets what is let through from now on.
    pub(crate) fn filter(&self, program: &[sock_filter]) -> Result<(), Error> {
        filter(self.as_fd(), program)
    }

    /// Begins to see packets; those of IPv4 that come in fragments once they are whole.
    pub(crate) fn listen(&self) -> Result<(), Error> {
        listen(self.as_fd())?;
        let group = (libc::PACKET_FANOUT_HASH | FANOUT_DEFRAGMENT | FANOUT_UNIQUE) << 16;
        set(self.as_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT, &group)
            .map_err(meaning("asking for whole packets of fragments"))
    }

    /// Packets that found no room since the last call.
    pub(crate) fn dropped(&self) -> Result<u64, Error> {
        dropped(self.as_fd())
    }

    /// The next packet; EAGAIN when there is none, EINVAL for one that this kernel cannot give.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Packet, Errno> {
        // SAFETY: an all-zero sockaddr_ll and an all-zero msghdr are valid values: integers and null pointers.
        let (mut from, mut header): (libc::sockaddr_ll, libc::msghdr) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let mut control = [0_u64; 16];
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        header.msg_name = (&raw mut from).cast();
        header.msg_namelen = size_of_val(&from) as libc::socklen_t;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control);
        // SAFETY: every pointer in the header is to memory of the length beside it, which lives during the call.
        let received = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, libc::MSG_TRUNC) };
        let received = usize::try_from(received).map_err(|_| last_error())?;
        let mut network = None;
        // SAFETY: the header is as the kernel filled it in; CMSG_FIRSTHDR and CMSG_NXTHDR stay within its control bytes.
        let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        while !message.is_null() {
            // SAFETY: not null, so a whole control header; an aligned one, since `control` is.
            let head = unsafe { &*message };
            if (head.cmsg_level, head.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
                // SAFETY: a message of this type carries a tpacket_auxdata, integers only; it need not be aligned.
                let facts: libc::tpacket_auxdata = unsafe {
                    libc::CMSG_DATA(message)
                        .cast::<libc::tpacket_auxdata>()
                        .read_unaligned()
                };
                network = Some(usize::from(facts.tp_net));
            }
            // SAFETY: as for the first.
            message = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
        }
        let network = OFFLOAD + network.ok_or(Errno::INVAL)?;
        let end = received.min(buffer.len());
        let offload = buffer.get(..OFFLOAD).ok_or(Errno::INVAL)?;
        let size = u16::from_ne_bytes([offload[OFFLOAD_SIZE], offload[OFFLOAD_SIZE + 1]]);
        Ok(Packet {
            network,
            end,
            length: received.checked_sub(network).ok_or(Errno::INVAL)?,
            interface: from.sll_ifindex.cast_unsigned(),
            segment: (offload[OFFLOAD_TYPE] == OFFLOAD_UDP && size > 0).then_some(size.into()),
        })
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn filter(fd: BorrowedFd<'_>, program: &[sock_filter]) -> Result<(), Error> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).expect("programs have at most 4096 instructions"),
        filter: program.as_ptr().cast_mut(), // only read
    };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program).map_err(meaning("setting the packet filter"))
}

fn listen(fd: BorrowedFd<'_>) -> Result<(), Error> {
    // SAFETY: an all-zero sockaddr_ll is a valid value: it has integers only.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: the address and its size belong together and live during the call.
    let result = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(meaning("binding the packet socket")(last_error()))
    }
}

fn dropped(fd: BorrowedFd<'_>) -> Result<u64, Error> {
    // SAFETY: an all-zero tpacket_stats_v3 is a valid value: it has integers only.
    let mut stats: libc::tpacket_stats_v3 = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tpacket_stats_v3>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `stats`; without a ring the first two fields alone.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(stats.tp_drops.into())
    } else {
        Err(meaning("reading the packet socket's counts")(last_error()))
    }
}

fn set<T>(fd: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> Result<(), Errno> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of a value that lives during the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast::<c_void>(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
