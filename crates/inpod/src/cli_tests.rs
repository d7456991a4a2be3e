//! Arguments as a table: what is said, and what comes of it.

use clap::CommandFactory;

use super::*;

fn read(line: &str) -> Result<Cli, String> {
    Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())
}

fn exec(line: &str) -> ExecArgs {
    match read(line).unwrap_or_else(|error| panic!("{line}: {error}")).command {
        Command::Exec(exec) => *exec,
        Command::Ls(_) | Command::Plan(_) | Command::Sessions(_) | Command::Dump(_) | Command::Doctor(_) => {
            panic!("{line} is not exec")
        }
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_arrives() {
    let exec = exec(
        "inpod exec -t deploy/a -n ns --context c -c app --steal --header X-User=me --header re:^a --filter path:/a --agent-image busybox --engine layer \
         --tls 443=/c,/k --tls 8443=/c,/k,plain -f my.toml -vv --json=7 --kubeconfig /k -- npm -t start --steal",
    );
    let flags = exec.flags();
    let texts = [
        &flags.target,
        &flags.namespace,
        &flags.context,
        &flags.container,
        &flags.agent_image,
    ];
    assert_eq!(
        texts.map(|text| text.as_deref()),
        ["deploy/a", "ns", "c", "app", "busybox"].map(Some)
    );
    assert_eq!(flags.headers, ["X-User=me", "re:^a"]);
    assert_eq!(flags.filters, ["path:/a"]);
    assert_eq!(flags.tls, ["443=/c,/k", "8443=/c,/k,plain"]);
    assert_eq!(flags.file, Some("my.toml".into()));
    assert_eq!(flags.incoming, Some(IncomingMode::Steal));
    assert_eq!(flags.engine, Some(config::EngineChoice::Layer));
    assert_eq!((exec.output.verbose, exec.output.json), (2, Some(7)));
    assert_eq!(exec.target.place.kubeconfig, Some("/k".into()));
    assert_eq!(exec.command, ["npm", "-t", "start", "--steal"]);
}

#[test]
fn one_incoming_mode_or_none() {
    for (flag, mode) in [
        ("", None),
        ("--mirror", Some(IncomingMode::Mirror)),
        ("--steal", Some(IncomingMode::Steal)),
        ("--no-incoming", Some(IncomingMode::Off)),
    ] {
        assert_eq!(
            exec(&format!("inpod exec {flag} -- a")).flags().incoming,
            mode,
            "{flag}"
        );
    }
    assert_eq!(exec("inpod exec --json -v -- a").output.json, Some(2));
    assert_eq!(exec("inpod exec -- a").output.json, None);
}

#[test]
fn mistakes_are_named() {
    for (line, expected) in [
        (
            "inpod exec --steal --mirror -- a",
            "'--steal' cannot be used with '--mirror'",
        ),
        (
            "inpod exec --mirror --no-incoming -- a",
            "'--mirror' cannot be used with '--no-incoming'",
        ),
        ("inpod exec --no-incoming --header a=b -- a", "cannot be used with"),
        ("inpod exec --mirror --tls 443=/c,/k -- a", "cannot be used with"),
        ("inpod exec -t pod/a", "<COMMAND>..."),
        ("inpod exec -t pod/a --", "<COMMAND>..."),
        ("inpod exec -t pod/a npm start", "unexpected argument 'npm' found"),
        ("inpod exec --taget pod/a -- a", "'--target'"),
        ("inpod exec --json=1 -- a", "1 is not in 2.."),
        ("inpod exec --json=x -- a", "invalid value 'x'"),
        ("inpod run -- a", "unrecognized subcommand 'run'"),
        ("inpod", "Usage: inpod"),
        ("inpod ls pod", "unexpected argument 'pod' found"),
        ("inpod sessions stop -t pod/a", "<SESSION>"),
        ("inpod sessions -t pod/a stop 3f", "cannot be used with"),
    ] {
        let error = read(line).map(|_| ()).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn help_and_version_are_no_failure_and_mistakes_exit_with_2() {
    let code = |line: &str| Cli::read(line.split_whitespace().map(OsString::from)).map(|_| ());
    assert_eq!(code("inpod --version"), Err(0));
    assert_eq!(code("inpod exec --help"), Err(0));
    assert_eq!(code("inpod exec"), Err(2));
    assert_eq!(code("inpod ls -n shop --json"), Ok(()));
    let version = read("inpod --version").map(|_| ()).unwrap_err();
    assert_eq!(
        version,
        format!("inpod {} (build {BUILD})\n", env!("CARGO_PKG_VERSION"))
    );
}

/// Flags that the configuration's table names exist, and the other way round.
#[test]
fn the_table_of_keys_and_the_flags_agree() {
    let command = Cli::command();
    let exec = command.find_subcommand("exec").unwrap();
    let known: Vec<String> = exec
        .get_arguments()
        .filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
        .collect();
    let named = config::KEYS
        .iter()
        .filter_map(|key| key.flag)
        .flat_map(|flags| flags.split(", "));
    let named: Vec<&str> = named.filter(|flag| flag.starts_with("--")).collect();
    for flag in &named {
        assert!(
            known.iter().any(|known| known == flag),
            "{flag} of the table is no flag"
        );
    }
    let beside = ["--kubeconfig", "--file", "--verbose", "--json", "--check"];
    for flag in &known {
        assert!(
            named.contains(&flag.as_str()) || beside.contains(&flag.as_str()),
            "{flag} is in no row of the table"
        );
    }
}

#[test]
fn help_tells_the_exit_codes() {
    let help = read("inpod exec --help").map(|_| ()).unwrap_err();
    for kind in Kind::ALL {
        assert!(help.contains(&format!("  {:>3}  ", kind.code())), "{help}");
    }
    assert!(help.contains("inpod exec -t deploy/checkout -- npm start"), "{help}");
}

#[test]
fn dump_has_ports_and_filters_and_never_more_than_a_copy() {
    let dump = |line: &str| match read(line).unwrap_or_else(|error| panic!("{line}: {error}")).command {
        Command::Dump(dump) => dump,
        other => panic!("{other:?}"),
    };
    let all = dump("inpod dump -t deploy/a -p 80 --port 443 --header X-User=me --filter not:path:/a --bytes 0 --json");
    assert_eq!((all.ports.as_slice(), all.bytes, all.json), (&[80, 443][..], 0, true));
    let flags = all.flags();
    assert_eq!(flags.incoming, Some(IncomingMode::Mirror));
    assert_eq!(
        (flags.headers, flags.filters),
        (vec!["X-User=me".to_owned()], vec!["not:path:/a".to_owned()])
    );
    assert!(dump("inpod dump").ports.is_empty());
    assert!(read("inpod dump -p 0").is_err());
}
