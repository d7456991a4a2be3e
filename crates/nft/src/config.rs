//! What a table is made with.

use crate::clients::MARK_MASK;
use crate::error::Error;

/// What a [`Table`](crate::Table) is made with. No ports: those come by [`Table::set_ports`](crate::Table::set_ports).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The table's name in the inet family: letters, digits, `_`; 1 to 31 bytes. It is also the lock: one holder a
    /// network namespace and name.
    pub name: String,
    /// The TCP port that takes redirected connections. A listener of each family, or one for both, must be bound to the
    /// wildcard address: redirected connections arrive at the receiving interface's address.
    pub listener: u16,
    /// The upper 16 bits of the marks of our own sockets, as `0x1d0d_0000`; the lower 16 bits are the client.
    pub mark: u32,
    /// Incoming connections are redirected only when they are for an address of this namespace (`fib daddr type
    /// local`; needs nft_fib_inet). For a namespace that routes for others, such as a whole machine.
    pub own_addresses_only: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            name: "inpod".to_owned(),
            listener: 15100,
            mark: 0x1d0d_0000,
            own_addresses_only: false,
        }
    }
}

impl Config {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let bad = |what: String| Err(Error::Config { what });
        let name = &self.name;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        // The kernel's limit is 255 bytes (NFT_NAME_MAXLEN); this one keeps messages small.
        if name.is_empty() || name.len() > 31 || !name.bytes().all(allowed) {
            return bad(format!(
                "{name:?} cannot be a table's name: 1 to 31 letters, digits or _"
            ));
        }
        if self.listener == 0 {
            return bad("the listener's port cannot be 0".to_owned());
        }
        if self.mark == 0 || self.mark & !MARK_MASK != 0 {
            return bad(format!(
                "mark {:#x} must have its lower 16 bits free and not be 0",
                self.mark
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_before_the_kernel_is_asked() {
        assert_eq!(Config::default().validate(), Ok(()));
        for (wrong, expect) in [
            (
                Config {
                    name: String::new(),
                    ..Config::default()
                },
                "table's name",
            ),
            (
                Config {
                    name: "a b".into(),
                    ..Config::default()
                },
                "table's name",
            ),
            (
                Config {
                    name: "x".repeat(32),
                    ..Config::default()
                },
                "table's name",
            ),
            (
                Config {
                    listener: 0,
                    ..Config::default()
                },
                "port cannot be 0",
            ),
            (
                Config {
                    mark: 0x1d0d,
                    ..Config::default()
                },
                "lower 16 bits",
            ),
            (
                Config {
                    mark: 0,
                    ..Config::default()
                },
                "not be 0",
            ),
        ] {
            assert!(wrong.validate().unwrap_err().to_string().contains(expect), "{wrong:?}");
        }
    }
}
