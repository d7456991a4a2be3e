//! Connections and datagrams leave from the pod, for every kind of program, and end as they would there.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::OnceLock;

use testbed::{FreshPod, Pod};
use tests::{Public, Run, guests, playground, testbed};

/// Addresses that nobody has, within the cluster's own range: where interception is broken they lead nowhere.
const BLACK_HOLE: &str = "10.96.255.1";
const NO_HOST: &str = "10.96.255.2";
const NO_NET: &str = "10.96.255.3";
const PROHIBITED: &str = "10.96.255.4";

fn web() -> Run {
    Run::at("deploy/web")
}

/// A pod whose network refuses in every way there is.
struct Refusing(Pod);

impl Refusing {
    fn new() -> Self {
        let pod = testbed().admin().fresh_pod(&FreshPod::default()).unwrap();
        let script = format!(
            "set -e; echo 1 > /proc/sys/net/ipv4/tcp_syn_retries; echo 0 > /proc/sys/net/ipv4/tcp_syn_linear_timeouts; \
             ip route add unreachable {NO_HOST}; ip route add prohibit {PROHIBITED}; \
             nft 'table ip away {{ chain out {{ type filter hook output priority 0; ip daddr {BLACK_HOLE} drop; \
             ip daddr {NO_NET} reject with icmp type net-unreachable; }}; }}'"
        );
        let set = pod.in_network("sh").unwrap().args(["-c", &script]).output().unwrap();
        assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
        Self(pod)
    }

    fn run(&self, program: &[&str]) -> String {
        Run::at(&format!("pod/{}", self.0.name))
            .run(program)
            .ok()
            .trim()
            .to_owned()
    }
}

fn connect_guests() -> [String; 2] {
    [false, true].map(|is_static| guests::c("connect", is_static).display().to_string())
}

fn echo_address() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(|| {
        let kubectl = testbed().admin().kubectl;
        let service = kubectl
            .json(&["get", "service", "echo", "--namespace", "default"])
            .unwrap();
        service["spec"]["clusterIP"].as_str().unwrap().to_owned()
    })
}

/// Where every port but a few answers by RST. The service's address would answer by ICMP, which is limited to one a second.
fn echo_pod() -> String {
    testbed()
        .admin()
        .pod_of_deployment("default", "echo")
        .unwrap()
        .ip
        .clone()
}

#[test]
fn http_by_full_and_short_names_from_every_kind_of_program() {
    let (dynamic, fixed) = (guests::c("http", false), guests::c("http", true));
    let go = guests::go("http");
    for host in ["web.default.svc.cluster.local", "web", "web.default"] {
        let url = format!("http://{host}/");
        for program in [
            vec![dynamic.to_str().unwrap(), host, "80"],
            vec![fixed.to_str().unwrap(), host, "80"],
            vec![go.to_str().unwrap(), &url],
            vec!["curl", "-sS", &url],
            vec!["busybox", "wget", "-q", "-O", "-", &url],
            vec![
                "/usr/bin/python3",
                "-c",
                "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())",
                &url,
            ],
        ] {
            let text = web().run(&program).ok();
            assert!(text.starts_with("service=web\n"), "{program:?}: {text}");
        }
    }
}

#[test]
fn clients_in_python() {
    let lines = web().run(&["/usr/bin/python3", &guests::script("clients.py")]).lines();
    let expected = [
        "urllib service=web",
        "redis ['+PONG', '+OK', '$5', 'value']",
        "udp unconnected True",
        "udp connected True",
        "asyncio 1225",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn clients_in_node() {
    let lines = web().run(&["node", &guests::script("clients.js"), &echo_pod()]).lines();
    assert_eq!(
        lines,
        [
            "http service=web",
            "fetch service=web",
            "echo connected 7000",
            "refused ECONNREFUSED"
        ]
    );
}

fn name_server() -> String {
    let admin = testbed().admin();
    let pod = admin.pod_of_deployment("default", "web").unwrap();
    let resolv = pod.exec(&["cat", "/etc/resolv.conf"]).unwrap();
    let mut servers = resolv.lines().filter_map(|line| line.strip_prefix("nameserver "));
    servers.next().unwrap().to_owned()
}

#[test]
fn dns_queries_by_hand() {
    let server = name_server();
    let expected = format!("{} from {server}:53\n", echo_address());
    for is_static in [false, true] {
        let guest = guests::c("dns", is_static);
        for how in ["connected", "unconnected"] {
            let name = "echo.default.svc.cluster.local";
            assert_eq!(
                web().run(&[guest.to_str().unwrap(), &server, name, how]).ok(),
                expected,
                "{how}"
            );
        }
    }
    let nslookup = web()
        .run(&["busybox", "nslookup", "echo.default.svc.cluster.local"])
        .ok();
    assert!(nslookup.contains(echo_address()), "{nslookup}");
}

/// More sockets than the link has streams; each is a flow of its own, which ends with it.
#[test]
fn a_name_asked_from_thousands_of_sockets_one_after_the_other() {
    let (server, script) = (name_server(), guests::script("questions.py"));
    let name = "echo.default.svc.cluster.local";
    let answers = web().run(&["/usr/bin/python3", &script, &server, name, "5000"]);
    assert_eq!(answers.ok(), format!("{}\n", echo_address()));
}

#[test]
fn connects_fail_as_they_do_in_the_pod() {
    let pod = Refusing::new();
    // Port 1 of the pod itself has no listener, and on this machine the address leads nowhere.
    let own = pod.0.ip.clone();
    for guest in connect_guests() {
        for how in ["blocking", "nonblocking"] {
            for (address, expected) in [
                (own.as_str(), "ECONNREFUSED"),
                (NO_HOST, "EHOSTUNREACH"),
                (NO_NET, "ENETUNREACH"),
                (PROHIBITED, "EACCES"),
                (BLACK_HOLE, "ETIMEDOUT"),
            ] {
                assert_eq!(pod.run(&[&guest, how, address, "1"]), expected, "{how} to {address}");
            }
        }
    }
    let go = guests::go("http");
    let ended = Run::at(&format!("pod/{}", pod.0.name)).run(&[go.to_str().unwrap(), &format!("http://{own}:1/")]);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("connection refused"), "{}", ended.stderr);
}

#[test]
fn a_connected_sockets_peer_is_the_remote_one() {
    for guest in connect_guests() {
        for how in ["blocking", "nonblocking"] {
            let expected = format!("connected {}:7000\n", echo_address());
            assert_eq!(
                web().run(&[&guest, how, echo_address(), "7000"]).ok(),
                expected,
                "{how}"
            );
        }
    }
}

#[test]
fn fifty_connects_at_once() {
    for guest in connect_guests() {
        assert_eq!(
            web().run(&[&guest, "many", echo_address(), "7000", "50"]).ok(),
            "50 connected, 0 failed\n"
        );
        assert_eq!(
            web().run(&[&guest, "many", &echo_pod(), "1", "50"]).ok(),
            "0 connected, 50 failed\n"
        );
    }
}

#[test]
fn the_apps_own_listener_stays_its_own() {
    for guest in connect_guests() {
        assert_eq!(web().run(&[&guest, "own"]).ok(), "own\n");
    }
}

#[test]
fn the_pods_loopback_is_the_apps_where_it_does_not_listen_itself() {
    // The pod's own server, which nothing on this machine is.
    let pod = testbed().admin().fresh_pod(&FreshPod {
        args: &["web", "127.0.0.1:18080"],
        port: None,
        ..FreshPod::default()
    });
    let pod = pod.unwrap();
    let text = Run::at(&format!("pod/{}", pod.name))
        .run(&["curl", "-sS", "http://127.0.0.1:18080/"])
        .ok();
    assert!(text.contains(&format!("host={}\n", pod.name)), "{text}");
}

#[test]
fn much_both_ways_and_a_half_close() {
    let count = 64 << 20;
    let text = web()
        .run(&[
            "/usr/bin/python3",
            &guests::script("exchange.py"),
            "echo",
            "7000",
            &count.to_string(),
        ])
        .ok();
    assert_eq!(text, format!("{count} same\n"));
    let reply = web()
        .stdin(b"until the end")
        .run(&["busybox", "nc", echo_address(), "7000"]);
    assert_eq!(reply.ok(), "until the end");
}

/// A service at a unix socket in a target: it reads to the end and answers with as many `p`.
fn listen_at(path: &Path) {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                got.fill(b'p');
                // A guest that has ended has read enough.
                let _ = stream.write_all(&got);
            });
        }
    });
}

/// Below the pattern the target's sockets are connected to, and its errors are seen: ENOENT for a path that is not there,
/// ECONNREFUSED for a socket that nobody has. Everywhere else it is this machine's.
fn unix_sockets(run: impl Fn() -> Run, root: &Path) {
    let directory = root.join("tmp/inpod-unix");
    std::fs::create_dir_all(&directory).unwrap();
    listen_at(&directory.join("app.sock"));
    drop(UnixListener::bind(directory.join("left.sock")).unwrap());
    let here = Public::new();
    let local = here.path().join("here.sock");
    listen_at(&local);
    let run = || run().env("INPOD_OUTGOING_UNIX", "/tmp/inpod-unix/*.sock");
    let paths = ["app.sock", "none.sock", "left.sock"].map(|name| format!("/tmp/inpod-unix/{name}"));
    for is_static in [false, true] {
        let guest = guests::c("unix", is_static).display().to_string();
        let arguments: Vec<&str> = [guest.as_str()]
            .into_iter()
            .chain(paths.iter().map(String::as_str))
            .collect();
        assert_eq!(run().run(&arguments).ok(), "100000 p 2 111\n");
        let at_home = run().run(&[&guest, local.to_str().unwrap(), "/tmp/inpod-unix-none.sock"]);
        assert_eq!(at_home.ok(), "100000 p 2\n");
    }
    let python = "import socket; s = socket.socket(1); s.connect('/tmp/inpod-unix/app.sock'); s.sendall(b'hello'); s.shutdown(1); \
                  print(s.recv(9), s.getpeername())";
    let said = run().run(&["python3", "-c", python]).ok();
    assert_eq!(said, "b'ppppp' /tmp/inpod-unix/app.sock\n");
}

#[test]
fn unix_sockets_by_pattern_are_the_pods() {
    let pod = testbed().admin().fresh_pod(&FreshPod::default()).unwrap();
    let shop = pod
        .processes()
        .unwrap()
        .into_iter()
        .find(|process| process.name == "shop")
        .unwrap();
    let target = format!("pod/{}", pod.name);
    unix_sockets(|| Run::at(&target), Path::new(&format!("/proc/{}/root", shop.pid)));
}

#[test]
fn unix_sockets_by_pattern_are_the_playgrounds() {
    let playground = playground("unix");
    let root = format!("/proc/{}/root", playground.pid());
    unix_sockets(|| Run::inside(&playground), Path::new(&root));
}
