//! One configuration with every key, in the three formats; and how values are read.

use std::path::Path;

use config::{KEYS, Resolved};
use rules::{AddressContext, Pem, Place, Protocol, TlsPort};

use crate::{error, read};

const TOML: &str = r#"
target = "deploy/checkout"
namespace = "shop"
context = "staging"
container = "app"
engine = "trap"

[env]
include = ["DB_*"]
exclude = ["DB_PASSWORD"]
override = { LOG_LEVEL = "debug", PORT = 8080, DEBUG = true, EMPTY = "" }
map = { PATH = "POD_PATH" }
unset = ["AWS_*"]

[files]
mode = "local"
remote = ["/data", "~/cache", "rel/*.d"]
local = ["./build/../src"]
hidden = ["/**/.git", "re:[.]key$"]
write = ["/data/out"]
changes = "../kept"
map = { "fixtures" = "/srv/data" }

[incoming]
mode = "steal"
ports = [80, 8080]
port_map = { 3000 = 80 }
filter = ["X-User=me", "re:^x-tenant: (a|b)$"]
when_taken = "wait"
reconnect_clients = true

[incoming.tls]
8443 = "/etc/tls/tls.crt, /etc/tls/tls.key"
8444 = { certificate = "local:tls.crt", key = "local:~/tls.key", app = "plain", client_ca = "/etc/ca.crt", client_certificate = "/c", client_key = "/k" }

[outgoing]
tcp = true
udp = false
unix = ["/var/run/app.sock"]
local = ["10.0.0.0/8", "*.corp:443", ":8125"]
remote = ["db.internal", "[fd00::1]:5432"]

[dns]
on = false
local = ["*.corp"]
remote = ["*.svc.cluster.local"]

[agent]
image = "busybox"
linger = "1m30s"
log = "debug"

[skip]
build_tools = false
programs = ["make", "~/bin/tool"]
"#;

const JSON: &str = r#"
{ // comments are allowed
  "target": "deploy/checkout", "namespace": "shop", "context": "staging", "container": "app", "engine": "trap",
  "env": {
    "include": ["DB_*"], "exclude": ["DB_PASSWORD"], "map": {"PATH": "POD_PATH"}, "unset": ["AWS_*"],
    "override": {"LOG_LEVEL": "debug", "PORT": 8080, "DEBUG": true, "EMPTY": ""},
  },
  "files": {
    "mode": "local", "remote": ["/data", "~/cache", "rel/*.d"], "local": ["./build/../src"], "hidden": ["/**/.git", "re:[.]key$"], "write": ["/data/out"], "changes": "../kept",
    "map": {"fixtures": "/srv/data"}
  },
  "incoming": {
    "mode": "steal", "ports": [80, 8080], "port_map": {"3000": 80}, "filter": ["X-User=me", "re:^x-tenant: (a|b)$"], "when_taken": "wait",
    "reconnect_clients": true, "tls": {"8443": "/etc/tls/tls.crt, /etc/tls/tls.key", "8444": {"certificate": "local:tls.crt", "key": "local:~/tls.key",
      "app": "plain", "client_ca": "/etc/ca.crt", "client_certificate": "/c", "client_key": "/k"}}
  },
  "outgoing": {
    "tcp": true, "udp": false, "unix": ["/var/run/app.sock"], "local": ["10.0.0.0/8", "*.corp:443", ":8125"],
    "remote": ["db.internal", "[fd00::1]:5432"]
  },
  "dns": {"on": false, "local": ["*.corp"], "remote": ["*.svc.cluster.local"]},
  "agent": {"image": "busybox", "linger": "1m30s", "log": "debug"},
  "skip": {"build_tools": false, "programs": ["make", "~/bin/tool"]} /* the end */
}
"#;

const YAML: &str = r#"
target: deploy/checkout
namespace: shop
context: staging
container: app
engine: trap
env:
  include: [DB_*]
  exclude: [DB_PASSWORD]
  override:
    LOG_LEVEL: debug
    PORT: 8080
    DEBUG: true
    EMPTY: ""
  map:
    PATH: POD_PATH
  unset: [AWS_*]
files:
  mode: local
  remote:
    - /data
    - ~/cache
    - rel/*.d
  local: [./build/../src]
  hidden: ["/**/.git", "re:[.]key$"]
  write: [/data/out]
  changes: ../kept
  map: {fixtures: /srv/data}
incoming:
  mode: steal
  ports: &ports [80, 8080]
  port_map:
    3000: 80
  filter:
    - X-User=me
    - "re:^x-tenant: (a|b)$"
  when_taken: wait
  reconnect_clients: true
  tls:
    8443: /etc/tls/tls.crt, /etc/tls/tls.key
    8444:
      certificate: local:tls.crt
      key: local:~/tls.key
      app: plain
      client_ca: /etc/ca.crt
      client_certificate: /c
      client_key: /k
outgoing:
  tcp: true
  udp: false
  unix: [/var/run/app.sock]
  local: ["10.0.0.0/8", "*.corp:443", ":8125"]
  remote: [db.internal, "[fd00::1]:5432"]
dns:
  on: false
  local: ["*.corp"]
  remote: ["*.svc.cluster.local"]
agent: {image: busybox, linger: 1m30s, log: debug}
skip:
  build_tools: false
  programs: [make, ~/bin/tool]
"#;

/// Everything but the positions and the directory; globs by their text.
fn show(name: &str, text: &str) -> String {
    let Resolved {
        target,
        namespace,
        context,
        container,
        agent,
        engine,
        plan,
        file,
        sources,
        warnings,
        changes,
    } = read(name, text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(sources.len(), KEYS.len(), "{name}: each key is in the example");
    let globs = |list: &[globset::GlobMatcher]| list.iter().map(|glob| glob.glob().to_string()).collect::<Vec<_>>();
    let paths = |list: &[rules::PathPattern]| list.iter().map(rules::PathPattern::source).collect::<Vec<_>>();
    let (env, files, outgoing) = (plan.env, plan.files, plan.outgoing);
    let shown = [
        format!("{target:?} {namespace:?} {context:?} {container:?} {agent:?} {engine:?} {warnings:?}"),
        format!(
            "{:?} {:?} {:?}",
            globs(&env.include),
            globs(&env.exclude),
            globs(&env.unset)
        ),
        format!("{:?} {:?}", env.overrides, env.map),
        format!("{:?} {:?} {:?} {changes:?}", files.mode, files.map, files.local_names),
        format!(
            "{:?} {:?} {:?} {:?}",
            paths(&files.remote),
            paths(&files.write),
            paths(&files.local),
            paths(&files.hidden)
        ),
        format!("{:?} {:?} {:?}", plan.incoming, plan.dns, plan.skip),
        format!("{} {} {:?}", outgoing.tcp, outgoing.udp, paths(&outgoing.unix)),
        format!("{:?} {:?}", outgoing.local, outgoing.remote),
    ];
    let file = file.unwrap();
    shown
        .join("\n")
        .replace(&file.parent().unwrap().display().to_string(), "DIRECTORY")
}

#[test]
fn the_three_formats_say_the_same() {
    let toml = show("inpod.toml", TOML);
    assert_eq!(toml, show("inpod.json", JSON));
    assert_eq!(toml, show("inpod.yaml", YAML));
    assert_eq!(toml, show("inpod.yml", YAML));
}

#[test]
fn every_key_arrives_in_the_plan() {
    let resolved = read("inpod.toml", TOML.as_bytes()).unwrap();
    let directory = resolved.file.as_deref().unwrap().parent().unwrap();
    let plan = &resolved.plan;
    assert_eq!(plan.env.dropped("DB_HOST".as_ref()), None);
    assert_eq!(plan.env.dropped("DB_PASSWORD".as_ref()), Some("env.exclude"));
    let env = plan
        .env
        .apply([("AWS_X".into(), "1".into())], [("PATH".into(), "/pod".into())]);
    let env: Vec<_> = env
        .iter()
        .map(|(name, value)| format!("{}={}", name.display(), value.display()))
        .collect();
    assert_eq!(
        env,
        ["DEBUG=true", "EMPTY=", "LOG_LEVEL=debug", "POD_PATH=/pod", "PORT=8080"]
    );
    for (path, place) in [
        (Path::new("/data/x"), Place::Remote),
        (Path::new("/home/me/cache/x"), Place::Remote),
        (&directory.join("rel/x.d/y"), Place::Remote),
        (&directory.join("rel/sub/x.d"), Place::Local),
        (&directory.join("src/x"), Place::Local),
        (Path::new("/srv/.git/config"), Place::Hidden),
        (Path::new("/srv/tls.key"), Place::Hidden),
        (Path::new("/run/nscd/socket"), Place::Local),
        (&directory.join("fixtures/a"), Place::Remote),
    ] {
        assert_eq!(plan.files.decide(path).place, place, "{}", path.display());
    }
    assert_eq!(
        plan.files.in_pod(&directory.join("fixtures/a")),
        Path::new("/srv/data/a")
    );
    assert_eq!(plan.incoming.pod_port(3000), Some(80));
    assert_eq!(plan.incoming.filter.terms().len(), 2);
    let tls = TlsPort {
        certificate: Pem::Pod("/etc/tls/tls.crt".into()),
        key: Pem::Pod("/etc/tls/tls.key".into()),
        plain: false,
        client_ca: None,
        client_identity: None,
    };
    assert_eq!(plan.incoming.tls[&8443], tls);
    let tls = TlsPort {
        certificate: Pem::Local(directory.join("tls.crt")),
        key: Pem::Local("/home/me/tls.key".into()),
        plain: true,
        client_ca: Some(Pem::Pod("/etc/ca.crt".into())),
        client_identity: Some((Pem::Pod("/c".into()), Pem::Pod("/k".into()))),
    };
    assert_eq!(plan.incoming.tls[&8444], tls);
    let names = ["db.internal"];
    let context = AddressContext {
        names: &names,
        own_listener: false,
    };
    assert_eq!(
        plan.outgoing
            .decide(Protocol::Tcp, "9.9.9.9:1".parse().unwrap(), context)
            .place,
        Place::Remote
    );
    assert_eq!(
        plan.outgoing
            .decide(Protocol::Tcp, "10.9.9.9:1".parse().unwrap(), context)
            .place,
        Place::Local
    );
    assert_eq!(
        plan.outgoing.decide_unix(Path::new("/var/run/app.sock")).place,
        Place::Remote
    );
    assert!(plan.skip.skips(Path::new("/home/me/bin/tool")) && !plan.skip.skips(Path::new("/usr/bin/gcc")));
    assert_eq!(
        (resolved.agent.image.as_deref(), resolved.agent.linger.as_secs()),
        (Some("busybox"), 90)
    );
}

#[test]
fn empty_files_and_empty_sections_are_fine() {
    for (name, text) in [
        ("inpod.toml", ""),
        ("inpod.toml", "# only a comment\n[env]\n"),
        ("inpod.toml", "\u{feff}target = \"x\""),
        ("inpod.json", ""),
        ("inpod.json", "// nothing\n"),
        ("inpod.json", "{\"env\": {}}"),
        ("inpod.json", "\u{feff}{}"),
        ("inpod.yaml", ""),
        ("inpod.yaml", "# nothing\n"),
        ("inpod.yaml", "---\n"),
        ("inpod.yaml", "env:\nfiles:\n"),
        ("inpod.yaml", "\u{feff}target: x\n"),
    ] {
        assert_eq!(error(name, text), "no error", "{name} {text:?}");
    }
}

#[test]
fn paths_are_made_absolute_by_name() {
    for (written, expected) in [
        ("/a/b/../c/./d//", "/a/c/d"),
        ("/../..", "/"),
        ("~", "/home/me"),
        ("~/x", "/home/me/x"),
        (".", "DIRECTORY"),
        ("./~", "DIRECTORY/~"),
        ("a/*/../b", "DIRECTORY/a/b"),
    ] {
        let text = format!("files.remote = [\"{written}\"]");
        let resolved = read("inpod.toml", text.as_bytes()).unwrap();
        let directory = resolved.file.unwrap().parent().unwrap().display().to_string();
        assert_eq!(
            resolved.plan.files.remote[0].source().replace(&directory, "DIRECTORY"),
            expected,
            "{written}"
        );
    }
}

#[test]
fn filters_combine_conditions_in_each_format() {
    let written = [
        (
            "toml",
            "[incoming]\nfilter = [\"X-User=me\", { any = [\"path:/a*\", { not = \"method:GET\" }, { all = [\"A=1\", \"B=2\"] }] }]",
        ),
        (
            "json",
            r#"{"incoming": {"filter": ["X-User=me", {"any": ["path:/a*", "not:method:GET", {"all": ["A=1", "B=2"]}]}]}}"#,
        ),
        (
            "yaml",
            "incoming:\n  filter:\n    - X-User=me\n    - any:\n        - path:/a*\n        - not: method:GET\n        - all: [A=1, B=2]\n",
        ),
    ];
    for (extension, text) in written {
        let filter = read(&format!("inpod.{extension}"), text.as_bytes())
            .unwrap()
            .plan
            .incoming
            .filter;
        let expected = "X-User=me and (path:/a* or not:method:GET or (A=1 and B=2))";
        assert_eq!(filter.to_string(), expected, "{extension}");
    }
    let long: Vec<_> = (0..33).map(|at| format!("\"A={at}\"")).collect();
    let long = format!("[{}]", long.join(", "));
    for (filter, expected) in [
        ("\"X-User=me\"", "expected a list, found the text \"X-User=me\""),
        (
            "[{ ayn = [\"A=1\"] }]",
            "expected \"all\", \"any\" or \"not\", found \"ayn\"",
        ),
        ("[{ any = [] }]", "expected a list of 1 to 32 conditions, found a list"),
        (
            "[{ any = \"A=1\" }]",
            "expected a list of 1 to 32 conditions, found the text \"A=1\"",
        ),
        (
            "[{ any = [\"A=1\"], all = [] }]",
            "expected text, or a table with one of `all`, `any` and `not`, found a table",
        ),
        ("[{ not = \"path:re:(\" }]", "not a regular expression: unclosed group"),
        (
            "[7]",
            "expected text, or a table with one of `all`, `any` and `not`, found the number 7",
        ),
        (&long, "a filter has at most 32 conditions and operators"),
    ] {
        let said = error("inpod.toml", &format!("[incoming]\nfilter = {filter}"));
        assert!(said.contains(expected), "{said}");
    }
}
