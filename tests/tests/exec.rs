//! A program of this machine with a pod's environment, files and name, as a shell would start it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::Command;

use rustix::process::Signal;
use testbed::FreshPod;
use tests::{Public, Run, guests, is_alive, scratch, testbed, wait_until};

fn web() -> Run {
    Run::at("deploy/web")
}

#[test]
fn the_pods_environment_without_what_would_break_tools() {
    let set = [
        ("PATH", "/nowhere"),
        ("HOME", "/nowhere"),
        ("LD_PRELOAD", "/nowhere.so"),
        ("NODE_OPTIONS", "--require=/nowhere.js"),
        ("PYTHONPATH", "/nowhere"),
        ("GOFLAGS", "-nowhere"),
        ("PLAIN", "of the pod"),
        ("BOTH", "of the pod"),
        ("SECRET", "a=b\nc \u{e4}"),
    ];
    let pod = testbed()
        .admin()
        .fresh_pod(&FreshPod {
            env: &set,
            ..FreshPod::default()
        })
        .unwrap();
    let ended = Run::at(&format!("pod/{}", pod.name))
        .env("BOTH", "of the machine")
        .env("ONLY_HERE", "of the machine")
        .run(&[
            "/usr/bin/python3",
            "-c",
            "import os, json; print(json.dumps(dict(os.environ)))",
        ]);
    let env: serde_json::Value = serde_json::from_str(&ended.ok()).unwrap();
    assert_eq!(env["PLAIN"], "of the pod");
    assert_eq!(env["BOTH"], "of the pod");
    assert_eq!(env["ONLY_HERE"], "of the machine");
    assert_eq!(env["SECRET"], "a=b\nc \u{e4}");
    assert!(env["KUBERNETES_SERVICE_HOST"].is_string(), "{env}");
    for (name, value) in &set[..6] {
        assert_ne!(env[*name], *value, "{name}");
    }
}

#[test]
fn files_and_host_name() {
    let pod = testbed().admin().pod_of_deployment("default", "web").unwrap();
    for path in [
        "/etc/shop/shop.toml",
        "/run/secrets/shop/password",
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
        "/etc/resolv.conf",
        "/etc/hosts",
        "/etc/hostname",
    ] {
        assert_eq!(
            web().run(&["cat", path]).ok(),
            pod.exec(&["cat", path]).unwrap(),
            "{path}"
        );
    }
    assert_eq!(web().run(&["hostname"]).ok().trim(), pod.name);
    assert_eq!(web().run(&["uname", "-n"]).ok().trim(), pod.name);
    assert_eq!(web().run(&["busybox", "hostname"]).ok().trim(), pod.name);
}

#[test]
fn the_apps_exit_status_is_inpods() {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("ulimit -c 0; kill -SEGV $$", 139),
    ] {
        assert_eq!(web().run(&["sh", "-c", script]).code(), code, "{script}");
    }
}

#[test]
fn programs_that_cannot_be_started() {
    let missing = web().run(&["no-such-program"]);
    assert_eq!(missing.code(), 127, "{}", missing.stderr);
    assert!(missing.stderr.contains("no-such-program"), "{}", missing.stderr);
    let path = scratch("not-executable");
    std::fs::write(&path, "text").unwrap();
    let denied = web().run(&[path.to_str().unwrap()]);
    assert_eq!(denied.code(), 126, "{}", denied.stderr);
    assert!(denied.stderr.contains("not-executable"), "{}", denied.stderr);
    assert_eq!(web().run(&["/etc"]).code(), 126);
}

#[test]
fn signals_to_inpod_reach_the_app() {
    let script = "trap 'echo got TERM; exit 42' TERM; trap 'echo got HUP' HUP; trap 'echo got USR1' USR1; \
                  echo ready; while :; do read line < /dev/zero & wait; done";
    let script = script.replace("read line < /dev/zero & wait", "sleep 1000 & wait");
    let mut session = web().start(&["sh", "-c", &script]);
    session.wait_for_stdout("ready");
    session.signal(Signal::HUP);
    session.wait_for_stdout("got HUP");
    session.signal(Signal::USR1);
    session.wait_for_stdout("got USR1");
    let ended = session.stop();
    assert_eq!(
        (ended.code(), ended.stdout.ends_with("got TERM\n")),
        (42, true),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
}

#[test]
fn standard_streams_are_the_apps() {
    let input: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let ended = web().stdin(&input).run(&["sha256sum"]);
    let expected = Run::at("deploy/web")
        .stdin(&input)
        .run(&["sh", "-c", "cat | cat | sha256sum"]);
    assert_eq!(ended.ok(), expected.ok());
    let ended = web().stdin(b"one\ntwo\n").run(&[
        "sh",
        "-c",
        "read line; echo out $line; echo err >&2; exec 1>&-; cat >&2",
    ]);
    assert_eq!(ended.stdout, "out one\n");
    assert!(
        ended.stderr.contains("err\n") && ended.stderr.contains("two\n"),
        "{}",
        ended.stderr
    );
}

#[test]
fn children_in_a_pipeline_and_with_an_emptied_environment() {
    let script = r#"
        cat /etc/shop/shop.toml | grep currency | tr a-z A-Z
        env -i /bin/cat /run/secrets/shop/password; echo
        env -i /bin/sh -c '/usr/bin/env -i /bin/cat /etc/hostname'
        (exec env -i /usr/bin/curl -sS http://web.default.svc.cluster.local/) | grep ^service
        echo "$(busybox env -i busybox cat /run/secrets/shop/token)"
    "#;
    let lines = web().run(&["sh", "-c", script]).lines();
    let host = testbed()
        .admin()
        .pod_of_deployment("default", "web")
        .unwrap()
        .name
        .clone();
    assert_eq!(
        lines,
        [
            "CURRENCY = \"EUR\"",
            "not-a-real-secret",
            &host,
            "service=web",
            "0123456789abcdef"
        ]
    );
}

#[test]
fn a_daemon_ends_with_its_session() {
    // The checkout may lie where only the pod has files.
    let public = Public::new();
    let record = public.path().join("daemon");
    let script = format!(
        "env -i setsid /bin/sh -c '(/bin/sh -c \"echo \\$\\$ > {0}; exec sleep 100000\" &) ' >/dev/null 2>&1 </dev/null; \
         until [ -s {0} ]; do :; done; exit 3",
        record.display()
    );
    assert_eq!(web().run(&["sh", "-c", &script]).code(), 3);
    let pid: u32 = std::fs::read_to_string(&record).unwrap().trim().parse().unwrap();
    wait_until("the daemon's end", || !is_alive(pid));
}

#[test]
fn node_and_its_children() {
    let lines = web().run(&["node", &guests::script("children.js")]).lines();
    assert_eq!(
        lines,
        [
            "file currency = \"EUR\"",
            "shell WEB",
            "own not-a-real-secret",
            "host true"
        ]
    );
}

#[test]
fn python_its_children_and_threads() {
    let lines = web().run(&["/usr/bin/python3", &guests::script("children.py")]).lines();
    let expected = [
        "subprocess currency = \"EUR\"",
        "fork currency = \"EUR\"",
        "posix_spawn currency = \"EUR\" 0",
        "threads 16 {('currency = \"EUR\"', True)}",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn go_run() {
    // What is only built is built before, so that the time is the session's.
    let program = guests::script("gorun/main.go");
    let built = Command::new("go")
        .args(["build", "-o", "/dev/null", &program])
        .status()
        .unwrap();
    assert!(built.success());
    let ended = web().run(&["go", "run", &program]);
    assert_eq!(ended.ok(), "web currency = \"EUR\" true 1\n");
}

#[test]
fn a_shells_script_and_its_jobs() {
    let script = "for n in 1 2 3 4 5 6 7 8; do (cat /etc/shop/shop.toml > /dev/null && exit $n) & done; \
                  sum=0; for job in $(jobs -p); do wait $job; sum=$((sum + $?)); done; echo $sum";
    assert_eq!(web().run(&["bash", "-c", script]).ok(), "36\n");
}
