//! The testbed itself: that it is what the end-to-end tests take it for. Needs root and brings it up.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use testbed::{FreshPod, Testbed, delay_proxy};

const NEEDS: &str = "the testbed must come up";

fn testbed() -> Testbed {
    Testbed::require().expect(NEEDS)
}

/// What `curl` in the pod `client` prints.
fn curl(testbed: &Testbed, arguments: &[&str]) -> String {
    let client = testbed.admin().pod("default", "client").expect(NEEDS);
    client
        .exec(&[&["curl", "-sS", "--max-time", "10"], arguments].concat())
        .expect("the pod `client` must reach it")
}

#[test]
#[ignore = "needs a cluster: `cargo test -p testbed -- --ignored`"]
fn a_service_reaches_its_dependency_by_name() {
    let testbed = testbed();
    assert!(curl(&testbed, &["http://web.default.svc.cluster.local/stock"]).contains("apples=12"));
    let answer = curl(&testbed, &["-H", "X-User: a", "http://web/some/path"]);
    let client = testbed.admin().pod("default", "client").unwrap();
    assert!(
        answer.contains("> X-User: a") && answer.contains("path=/some/path"),
        "{answer}"
    );
    // Nothing on the way translates the client's address.
    assert!(
        answer.contains(&format!("client={}:", client.ip)),
        "{answer} {}",
        client.ip
    );
}

#[test]
#[ignore = "needs a cluster"]
fn third_party_services_answer() {
    let testbed = testbed();
    assert_eq!(curl(&testbed, &["http://nginx"]), "nginx in a pod\n");
    let client = testbed.admin().pod("default", "client").unwrap();
    assert_eq!(client.exec(&["redis-cli", "-h", "redis", "ping"]).unwrap(), "PONG\n");
    for name in ["baseline", "restricted"] {
        let pod = testbed.admin().pod(name, "web").unwrap();
        assert!(curl(&testbed, &[&format!("http://{}:8080/", pod.ip)]).starts_with(&format!("service={name}\n")));
    }
}

#[test]
#[ignore = "needs a cluster"]
fn the_plain_user_has_the_documented_rights_only() {
    let user = testbed().user();
    let can = |verb: &str, resource: &str, subresource: &str| {
        let subresource = format!("--subresource={subresource}");
        let answer = user
            .command(&["auth", "can-i", verb, resource, &subresource])
            .output()
            .unwrap();
        String::from_utf8_lossy(&answer.stdout).into_owned()
    };
    for (verb, resource, subresource) in [
        ("get", "pods", ""),
        ("list", "deployments.apps", ""),
        ("patch", "pods", "ephemeralcontainers"),
        ("get", "pods", "exec"),
        ("create", "pods", "exec"),
        ("list", "namespaces", ""),
    ] {
        assert_eq!(
            can(verb, resource, subresource),
            "yes\n",
            "{verb} {resource}/{subresource}"
        );
    }
    for (verb, resource, subresource) in [
        ("get", "secrets", ""),
        ("get", "pods", "log"),
        ("create", "pods", ""),
        ("update", "pods", ""),
        ("get", "nodes", ""),
        ("create", "pods", "portforward"),
    ] {
        assert_eq!(
            can(verb, resource, subresource),
            "no\n",
            "{verb} {resource}/{subresource}"
        );
    }
    assert!(user.run(&["get", "pods", "--namespace", "kube-system"]).is_err());
    assert!(
        user.run(&["exec", "deploy/web", "--", "cat", "/etc/shop/shop.toml"])
            .unwrap()
            .contains("currency")
    );
}

#[test]
#[ignore = "needs a cluster"]
fn only_root_can_read_the_administrators_kubeconfig() {
    let testbed = testbed();
    let running = testbed::up(&testbed::Options::QUIET).unwrap();
    assert!(!running.started);
    let cat = |path: &std::path::Path| {
        Command::new("setpriv")
            .args(["--reuid=65534", "--clear-groups", "cat"])
            .arg(path)
            .output()
            .unwrap()
    };
    assert!(cat(&testbed.user_kubeconfig()).status.success());
    assert!(!cat(&running.admin_kubeconfig).status.success());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&running.admin_kubeconfig), 0o600);
    assert_eq!(mode(running.admin_kubeconfig.parent().unwrap()), 0o700);
}

#[test]
#[ignore = "needs a cluster"]
fn from_the_machine_only_the_api_server_is_reachable() {
    let testbed = testbed();
    let web = testbed.admin().pod_of_deployment("default", "web").unwrap();
    let connect = |address: String| {
        let address: SocketAddr = address.parse().unwrap();
        TcpStream::connect_timeout(&address, Duration::from_secs(1))
    };
    assert!(connect("198.51.100.2:6443".to_owned()).is_ok());
    for hidden in [
        format!("{}:8080", web.ip),
        "10.96.0.1:443".to_owned(),
        "198.51.100.2:10250".to_owned(),
    ] {
        assert!(connect(hidden.clone()).is_err(), "{hidden}");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn the_pods_reach_nothing_outside() {
    let testbed = testbed();
    let client = testbed.admin().pod("default", "client").unwrap();
    for outside in ["198.51.100.1", "192.0.2.1", "203.0.113.1"] {
        let tried = client.exec(&["curl", "-sS", "--max-time", "1", &format!("http://{outside}:80")]);
        assert!(tried.is_err(), "{outside}");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn a_fresh_pod_is_ready_and_goes_away() {
    let admin = testbed().admin();
    let pod = admin
        .fresh_pod(&FreshPod {
            user: Some(1000),
            ..FreshPod::default()
        })
        .unwrap();
    assert!(pod.exec(&["id", "-u"]).unwrap().starts_with("1000"));
    let processes = pod.processes().unwrap();
    let names: Vec<&str> = processes.iter().map(|process| process.name.as_str()).collect();
    assert_eq!(names, ["pause", "shop"]);

    assert_eq!(pod.nft_ruleset().unwrap(), "");
    assert!(
        pod.in_network("nft")
            .unwrap()
            .args(["add", "table", "inet", "mine"])
            .status()
            .unwrap()
            .success()
    );
    assert!(pod.nft_ruleset().unwrap().contains("table inet mine"));

    let name = pod.name.clone();
    drop(pod);
    testbed::wait_for("see it go", Duration::from_secs(20), || {
        Ok(if admin.pod("default", &name).is_err() {
            Ok(())
        } else {
            Err("it is there".to_owned())
        })
    })
    .unwrap();
}

#[test]
#[ignore = "needs a cluster"]
fn a_distant_cluster_is_slower_and_otherwise_the_same() {
    let testbed = testbed();
    let round_trip = Duration::from_millis(200);
    let proxy = delay_proxy(round_trip).unwrap();
    let time = |kubeconfig: &std::path::Path| {
        let start = Instant::now();
        let path = kubeconfig.display().to_string();
        let got = testbed
            .user()
            .run(&["--kubeconfig", &path, "get", "--raw=/version"])
            .unwrap();
        assert!(got.contains("v1.34"), "{got}");
        start.elapsed()
    };
    let (near, far) = (time(&testbed.user_kubeconfig()), time(proxy.kubeconfig()));
    // Connecting, TLS and the request are a round trip each.
    assert!(far >= near + 2 * round_trip, "{near:?} {far:?}");
}

#[test]
#[ignore = "needs a cluster"]
fn echo_source_and_sink_do_so() {
    let testbed = testbed();
    let echo = testbed.admin().pod_of_deployment("default", "echo").unwrap();
    // From the node's side of the pod's network: the pod's own loopback.
    let mut enter = echo.in_network("bash").unwrap();
    let script = "exec 3<>/dev/tcp/127.0.0.1/7000; echo hello >&3; read -r line <&3; echo \"$line\"; \
                  head -c 1000000 < /dev/tcp/127.0.0.1/7001 | wc -c";
    let output = enter.args(["-c", script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n1000000\n");
}

#[test]
#[ignore = "needs a cluster"]
fn kubectl_carries_streams_both_ways() {
    let testbed = testbed();
    let client = testbed.admin().pod("default", "client").unwrap();
    let mut exec = testbed.user().command(&["exec", "--stdin", &client.name, "--", "cat"]);
    let mut child = exec
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"there and back").unwrap();
    let mut answer = String::new();
    child.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(answer, "there and back");
}

#[test]
#[ignore = "needs a cluster"]
fn admission_refuses_what_the_namespaces_labels_say() {
    let admin = testbed().admin();
    for (namespace, added, refused) in [
        ("default", "NET_ADMIN", false),
        ("baseline", "NET_ADMIN", true),
        ("restricted", "NET_BIND_SERVICE", true),
    ] {
        let container = serde_json::json!([{
            "name": "main", "image": "inpod.test/shop:1", "imagePullPolicy": "Never", "args": ["web"],
            "securityContext": {"capabilities": {"add": [added]}},
        }]);
        let spec = serde_json::json!({"containers": container});
        let made = admin.fresh_pod(&FreshPod {
            namespace,
            spec,
            ..FreshPod::default()
        });
        assert_eq!(made.is_err(), refused, "{namespace} {made:?}");
        if let Err(problem) = made {
            assert!(problem.to_string().contains("violates PodSecurity"), "{problem}");
        }
    }
}

#[test]
#[ignore = "needs a cluster"]
fn datagrams_and_record_types() {
    let client = testbed().admin().pod("default", "client").unwrap();
    assert_eq!(
        client.exec(&["sh", "-c", "echo hi | nc -u -w 1 echo 7000"]).unwrap(),
        "hi\n"
    );
    let lookup = |kind: &str, name: &str| {
        client
            .exec(&["nslookup", &format!("-type={kind}"), name])
            .unwrap_or_default()
    };
    assert!(lookup("mx", "any.records.test").contains("mail.records.test"));
    assert!(lookup("txt", "any.records.test").contains("a text"));
    assert!(lookup("srv", "_http._tcp.web.default.svc.cluster.local").contains("80 web.default.svc.cluster.local"));
}
