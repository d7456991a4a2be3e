//! Flags over variables over the file over defaults.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use config::{EngineChoice, Flags, Input, LogLevel, Origin, load};
use rules::{FileMode, IncomingMode, Pem, WhenTaken};

use crate::{input, with_flags};

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

#[test]
fn defaults() {
    let resolved = load(&with_flags(Flags::default())).unwrap();
    assert_eq!(resolved.target, None);
    assert_eq!(
        (resolved.agent.linger, resolved.agent.log),
        (Duration::from_secs(120), LogLevel::Warn)
    );
    assert_eq!(
        (resolved.plan.incoming.mode, resolved.plan.incoming.explicit),
        (IncomingMode::Mirror, false)
    );
    assert_eq!(resolved.plan.files.mode, FileMode::Read);
    assert!(resolved.plan.outgoing.tcp && resolved.plan.outgoing.udp && resolved.plan.dns.on);
    assert!(resolved.plan.skip.build_tools);
    assert!(resolved.sources.is_empty() && resolved.warnings.is_empty() && resolved.file.is_none());
}

#[test]
fn each_source_replaces_the_weaker_ones_key_by_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("inpod.toml");
    let text = "target = \"pod/file\"\nnamespace = \"file\"\ncontext = \"file\"\nincoming.ports = [1, 2]\nincoming.mode = \"off\"\n";
    std::fs::write(&file, text).unwrap();
    let mut input = input(directory.path());

    let resolved = load(&input).unwrap();
    assert_eq!(resolved.target.as_deref(), Some("pod/file"));
    assert_eq!(resolved.plan.incoming.mode, IncomingMode::Off);
    assert_eq!(resolved.file.as_deref(), Some(&*file));

    input.variables = variables(&[
        ("INPOD_TARGET", "pod/variable"),
        ("INPOD_NAMESPACE", "variable"),
        ("INPOD_INCOMING_PORTS", "3, 4"),
        ("INPOD_CONTEXT", ""),
    ]);
    let resolved = load(&input).unwrap();
    assert_eq!(resolved.target.as_deref(), Some("pod/variable"));
    assert_eq!(resolved.context.as_deref(), Some("file"));
    assert_eq!(resolved.plan.incoming.ports, [3, 4]);

    input.flags = Flags {
        target: Some("pod/flag".into()),
        incoming: Some(IncomingMode::Steal),
        ..Flags::default()
    };
    let resolved = load(&input).unwrap();
    assert_eq!(resolved.target.as_deref(), Some("pod/flag"));
    assert_eq!(resolved.namespace.as_deref(), Some("variable"));
    assert_eq!(
        (resolved.plan.incoming.mode, resolved.plan.incoming.explicit),
        (IncomingMode::Steal, true)
    );
    let sources: Vec<_> = resolved
        .sources
        .iter()
        .map(|(key, origin)| format!("{key}: {origin}"))
        .collect();
    assert_eq!(
        sources,
        [
            "context: inpod.toml:3:11",
            "incoming.mode: --steal",
            "incoming.ports: environment variable INPOD_INCOMING_PORTS",
            "namespace: environment variable INPOD_NAMESPACE",
            "target: --target",
        ]
    );
}

#[test]
fn every_flag_sets_its_key() {
    let flags = Flags {
        target: Some("t".into()),
        namespace: Some("n".into()),
        context: Some("x".into()),
        container: Some("c".into()),
        incoming: Some(IncomingMode::Mirror),
        headers: vec!["X-User=me".into(), "re:a,b".into()],
        filters: vec!["path:/a*".into()],
        when_taken: Some(WhenTaken::TakeOver),
        reconnect_clients: true,
        tls: vec!["8443=/c.crt,/c.key".into()],
        agent_image: Some("i".into()),
        engine: Some(EngineChoice::Layer),
        file: None,
    };
    let resolved = load(&with_flags(flags)).unwrap();
    assert_eq!(resolved.sources.len(), 11);
    assert_eq!(resolved.plan.incoming.when_taken, WhenTaken::TakeOver);
    assert!(resolved.plan.incoming.reconnect_clients);
    assert_eq!(resolved.engine, EngineChoice::Layer);
    let texts = [
        resolved.target,
        resolved.namespace,
        resolved.context,
        resolved.container,
        resolved.agent.image,
    ];
    assert_eq!(texts.map(Option::unwrap), ["t", "n", "x", "c", "i"]);
    assert_eq!(
        resolved.plan.incoming.filter.to_string(),
        "X-User=me and re:a,b and path:/a*"
    );
    assert!(resolved.plan.incoming.explicit);
    assert_eq!(resolved.plan.incoming.tls[&8443].key, Pem::Pod("/c.key".into()));
    assert_eq!(resolved.sources["incoming.mode"], Origin::Flag("--mirror"));
}

#[test]
fn every_variable_of_the_table_is_read() {
    for key in config::KEYS {
        let Some(name) = key.variable() else { continue };
        let value = match key.path {
            "files.mode" => "local",
            "incoming.mode" => "steal",
            "incoming.filter" => "A=1,2\nre:b",
            "incoming.ports" => "1,2",
            "incoming.when_taken" => "wait",
            "agent.linger" => "1s",
            "agent.log" => "debug",
            "engine" => "layer",
            "outgoing.tcp" | "outgoing.udp" | "dns.on" | "skip.build_tools" | "incoming.reconnect_clients" => "false",
            _ => "a,b",
        };
        let resolved = load(&Input {
            variables: variables(&[(&name, value)]),
            ..Input::default()
        })
        .unwrap();
        assert_eq!(resolved.sources.keys().collect::<Vec<_>>(), [&key.path]);
        let items = match key.path {
            "incoming.filter" => resolved.plan.incoming.filter.terms().len(),
            "outgoing.local" => resolved.plan.outgoing.local.len(),
            "files.hidden" => resolved.plan.files.hidden.len(),
            "env.unset" => resolved.plan.env.unset.len(),
            _ => 2,
        };
        assert_eq!(items, 2, "{name}");
    }
}

#[test]
fn bad_variables_and_flags_are_named() {
    let show = |input: &Input| load(input).unwrap_err();
    let set = |name: &str, value: &str| Input {
        variables: variables(&[(name, value)]),
        ..Input::default()
    };
    for (name, value, expected) in [
        (
            "INPOD_INCOMING_PORTS",
            "80,x",
            "environment variable INPOD_INCOMING_PORTS: `incoming.ports`: expected a port (1 to 65535), found the text \"x\"",
        ),
        (
            "INPOD_DNS_ON",
            "yes",
            "environment variable INPOD_DNS_ON: `dns.on`: expected true or false, found the text \"yes\"",
        ),
        (
            "INPOD_INCOMING_MODE",
            "stela",
            "environment variable INPOD_INCOMING_MODE: `incoming.mode`: expected \"mirror\", \"steal\" or \"off\", found the text \"stela\"\n  did you mean \"steal\"?",
        ),
        (
            "INPOD_OUTGOING_LOCAL",
            "a,",
            "environment variable INPOD_OUTGOING_LOCAL: `outgoing.local`: it is empty",
        ),
    ] {
        let error = show(&set(name, value));
        assert_eq!(error.to_string(), expected);
        assert!(!error.is_usage());
    }
    let not_text = vec![("INPOD_TARGET".into(), OsString::from_vec(vec![0xff]))];
    let input = Input {
        variables: not_text,
        ..Input::default()
    };
    assert_eq!(
        show(&input).to_string(),
        "environment variable INPOD_TARGET: its value is not UTF-8"
    );

    let error = show(&with_flags(Flags {
        headers: vec!["X-User".into()],
        ..Flags::default()
    }));
    assert_eq!(
        error.to_string(),
        "--header: `incoming.filter`: `X-User` is neither `Name=value` nor begins with `re:`, `path:`, \
         `path-and-query:`, `method:`, `host:`, `grpc:`, `json:`, `baggage:` or `tracestate:`"
    );
    assert!(error.is_usage());
    let error = show(&with_flags(Flags {
        target: Some(" ".into()),
        ..Flags::default()
    }));
    assert_eq!(error.to_string(), "--target: `target`: it is empty");
}

#[test]
fn mistyped_variables_are_warned_of() {
    let warn = |name: &str| {
        load(&Input {
            variables: variables(&[(name, "x")]),
            ..Input::default()
        })
        .unwrap()
        .warnings
    };
    assert_eq!(
        warn("INPOD_TARGTE"),
        ["the environment variable INPOD_TARGTE means nothing to inpod; did you mean INPOD_TARGET?"]
    );
    assert_eq!(warn("INPOD_NAMESPCE").len(), 1);
    for name in ["INPOD_SESSION_SOCKET", "TARGTE", "INPOD_", "INPOD_TARGET"] {
        assert!(warn(name).is_empty(), "{name}");
    }
}
