//! Numbers of the kernel's interface: linux/netfilter/nf_tables.h, nfnetlink.h, netlink.h, nf_conntrack_common.h.
//! nf_tables attributes are big endian; register contents are as the packet or, for `meta`, the host has them.

/// Message types, added to `SUBSYSTEM`.
pub(crate) mod msg {
    pub const NEWTABLE: u8 = 0;
    pub const GETTABLE: u8 = 1;
    pub const DELTABLE: u8 = 2;
    pub const NEWCHAIN: u8 = 3;
    pub const NEWRULE: u8 = 6;
    pub const NEWSET: u8 = 9;
    pub const NEWSETELEM: u8 = 12;
    pub const DELSETELEM: u8 = 14;
}

/// `NFNL_SUBSYS_NFTABLES`.
pub(crate) const SUBSYSTEM: u16 = 10;
pub(crate) const BATCH_BEGIN: u16 = 0x10;
pub(crate) const BATCH_END: u16 = 0x11;

pub(crate) mod nlm {
    pub const REQUEST: u16 = 1;
    pub const ACK: u16 = 4;
    /// `NLM_F_ROOT | NLM_F_MATCH`.
    pub const DUMP: u16 = 0x300;
    pub const EXCL: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
    pub const APPEND: u16 = 0x800;
    pub const TYPE_ERROR: u16 = 2;
    pub const TYPE_DONE: u16 = 3;
    pub const ATTR_NESTED: u16 = 0x8000;
    pub const ATTR_TYPE_MASK: u16 = 0x3fff;
}

pub(crate) mod nfproto {
    pub const INET: u8 = 1;
    pub const IPV4: u8 = 2;
    pub const IPV6: u8 = 10;
}

/// inet hooks, linux/netfilter.h `enum nf_inet_hooks`.
#[derive(Clone, Copy)]
pub(crate) enum Hook {
    Prerouting = 0,
    Input = 1,
    Output = 3,
    Postrouting = 4,
}

pub(crate) mod table {
    pub const NAME: u16 = 1;
    pub const FLAGS: u16 = 2;
    pub const OWNER: u16 = 7;
    /// The table belongs to the socket that created it and goes with it (Linux 5.12).
    pub const F_OWNER: u32 = 2;
}

pub(crate) mod chain {
    pub const TABLE: u16 = 1;
    pub const NAME: u16 = 3;
    pub const HOOK: u16 = 4;
    pub const TYPE: u16 = 7;
    pub const HOOK_NUM: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
}

pub(crate) mod rule {
    pub const TABLE: u16 = 1;
    pub const CHAIN: u16 = 2;
    pub const EXPRESSIONS: u16 = 4;
    pub const LIST_ELEM: u16 = 1;
    pub const EXPR_NAME: u16 = 1;
    pub const EXPR_DATA: u16 = 2;
}

pub(crate) mod set {
    pub const TABLE: u16 = 1;
    pub const NAME: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const KEY_TYPE: u16 = 4;
    pub const KEY_LEN: u16 = 5;
    pub const DATA_TYPE: u16 = 6;
    pub const DATA_LEN: u16 = 7;
    pub const ID: u16 = 10;
    pub const F_MAP: u32 = 8;
}

pub(crate) mod elem {
    pub const TABLE: u16 = 1;
    pub const SET: u16 = 2;
    pub const ELEMENTS: u16 = 3;
    pub const LIST_ELEM: u16 = 1;
    pub const KEY: u16 = 1;
    pub const DATA: u16 = 2;
    pub const VALUE: u16 = 1;
}

/// Types that only nft's own listing reads (libnftables `enum datatypes`); the kernel keeps them as given.
pub(crate) mod datatype {
    pub const IPV4: u32 = 7;
    pub const IPV6: u32 = 8;
    pub const SERVICE: u32 = 13;
    pub const MARK: u32 = 19;
}

/// `IPS_DST_NAT`: the connection's destination was rewritten.
pub(crate) const IPS_DST_NAT: u32 = 1 << 5;
/// `RTN_LOCAL`, linux/rtnetlink.h: an address of this namespace.
pub(crate) const RTN_LOCAL: u32 = 2;
/// The loopback device's index in every network namespace (include/net/flow.h `LOOPBACK_IFINDEX`).
pub(crate) const LOOPBACK_IFINDEX: u32 = 1;
