use capture::{Capture, Config, Error, Interfaces};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::recorder::config;
use crate::world::*;

#[test]
fn without_net_raw_the_reason_is_named_and_with_it_alone_it_works() {
    let world = World::new();
    for (capabilities, works) in [(CapabilitySet::empty(), false), (CapabilitySet::NET_RAW, true)] {
        let result = world.pod.within(|| {
            let sets = CapabilitySets {
                effective: capabilities,
                permitted: capabilities,
                inheritable: CapabilitySet::empty(),
            };
            // Capabilities belong to the thread, and this one ends here.
            set_capabilities(None, sets).unwrap();
            Capture::open(&config()).map(drop)
        });
        assert_eq!(result.is_ok(), works, "{result:?}");
        if let Err(error) = result {
            assert!(matches!(error, Error::Permission { .. }), "{error:?}");
            assert!(error.to_string().contains("lacks NET_RAW"), "{error}");
        }
    }
}

#[test]
fn wrong_configurations_are_refused() {
    let world = World::new();
    let open = |config: Config| world.pod.within(|| Capture::open(&config).map(drop)).unwrap_err();
    let named = |names: &[&str]| Config {
        interfaces: Interfaces::Named(names.iter().map(ToString::to_string).collect()),
        ..config()
    };
    for name in ["eth7", "", "a-name-that-is-much-too-long-for-an-interface"] {
        assert_eq!(open(named(&["lo", name])), Error::Interface { name: name.into() });
    }
    for (wrong, expect) in [
        (named(&[]), "1 to 16 interfaces"),
        (named(&["lo"; 17]), "1 to 16 interfaces"),
        (
            Config {
                ports: (1..=513).collect(),
                ..config()
            },
            "512 ports",
        ),
        (
            Config {
                ring_bytes: usize::MAX,
                ..config()
            },
            "1 GiB",
        ),
        (
            Config {
                max_connections: 0,
                ..config()
            },
            "at least one",
        ),
    ] {
        let error = open(wrong).to_string();
        assert!(error.contains(expect), "{error}");
    }
}

#[test]
fn decoders_take_anything() {
    for round in 0..20_000 {
        let mut bytes = noise(round, round % 700);
        if round % 2 == 0 {
            // Small numbers make plausible offsets and lengths.
            bytes
                .iter_mut()
                .for_each(|byte| *byte = if *byte < 200 { *byte % 64 } else { *byte });
            bytes.iter_mut().skip(1).step_by(2).for_each(|byte| *byte = 0);
        }
        capture::fuzz(&bytes);
    }
}
