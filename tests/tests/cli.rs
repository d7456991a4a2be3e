//! The command itself: exit codes, places in configuration files, events for machines, help, what `ls` shows.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use serde_json::Value;
use tests::{Public, Run, cluster, inpod, testbed};

fn output(mut command: Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// `inpod exec` with a file, which never gets as far as a cluster.
fn with_file(name: &str, text: &str) -> (Option<i32>, String) {
    let directory = Public::new();
    std::fs::write(directory.path().join(name), text).unwrap();
    let mut command = inpod(&["exec", "--", "true"]);
    command.current_dir(directory.path()).env("KUBECONFIG", "/nonexistent");
    let (code, _, stderr) = output(command);
    (code, stderr)
}

#[test]
fn exit_codes_of_what_needs_no_cluster() {
    for (arguments, code, says) in [
        (&["--help"][..], 0, ""),
        (&["--version"], 0, ""),
        (&["exec", "--help"], 0, ""),
        (&[], 2, "Usage"),
        (&["exce"], 2, "exec"),
        (&["exec", "-t", "deploy/web"], 2, "COMMAND"),
        (&["exec", "--", "true"], 2, "no target is given"),
        (
            &["exec", "-t", "deploy/web", "--steal", "--mirror", "--", "true"],
            2,
            "cannot be used with",
        ),
        (
            &["exec", "-t", "deploy/web", "--header", "nonsense", "--", "true"],
            2,
            "--header",
        ),
        (&["exec", "-t", "nonsense", "--", "true"], 69, "nonsense"),
        (&["plan", "-t", "nonsense"], 69, "nonsense"),
        (&["plan", "/etc/hosts"], 0, "no target is given"),
        (&["exec", "-t", "thing/web", "--", "true"], 69, "thing"),
        (&["exec", "-t", "deploy/web", "--", "true"], 69, "kubeconfig"),
        (&["exec", "-t", "process/4194305", "--", "true"], 69, "4194305"),
        (
            &[
                "exec",
                "-f",
                "/nonexistent/inpod.toml",
                "-t",
                "deploy/web",
                "--",
                "true",
            ],
            78,
            "/nonexistent/inpod.toml",
        ),
        (&["ls"], 69, "kubeconfig"),
    ] {
        let mut command = inpod(arguments);
        command
            .env("KUBECONFIG", "/nonexistent")
            .env("HOME", "/nonexistent")
            .current_dir("/");
        let (found, _, stderr) = output(command);
        assert_eq!(found, Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    }
}

#[test]
fn help_lists_every_exit_code() {
    let (_, help, _) = output(inpod(&["exec", "--help"]));
    for code in [2, 69, 70, 71, 74, 77, 78, 126, 127] {
        let start = format!("{code:>3}  ");
        assert!(
            help.lines()
                .any(|line| line.trim_start().starts_with(start.trim_start())),
            "{code}: {help}"
        );
    }
    for flag in [
        "--target",
        "--namespace",
        "--context",
        "--container",
        "--steal",
        "--mirror",
        "--no-incoming",
        "--header",
        "--json",
    ] {
        assert!(help.contains(flag), "{flag}: {help}");
    }
}

#[test]
fn a_mistake_in_a_file_is_shown_in_its_place() {
    for (name, text, place, says) in [
        (
            "inpod.toml",
            "target = \"deploy/web\"\n[incoming]\nmode = \"stael\"\n",
            "inpod.toml:3:8:",
            "steal",
        ),
        ("inpod.toml", "tagret = \"deploy/web\"\n", "inpod.toml:1:1:", "target"),
        ("inpod.toml", "target = \n", "inpod.toml:1:", ""),
        (
            "inpod.json",
            "{\n  \"target\": \"deploy/web\",\n  \"env\": {\"exlude\": []}\n}\n",
            "inpod.json:3:11:",
            "exclude",
        ),
        ("inpod.json", "{\"target\": 7}", "inpod.json:1:12:", "target"),
        ("inpod.json", "{\"target\": \"deploy/web\"", "inpod.json:1:", ""),
        (
            "inpod.yaml",
            "target: deploy/web\nfiles:\n  mod: read\n",
            "inpod.yaml:3:3:",
            "mode",
        ),
        (
            "inpod.yaml",
            "target: deploy/web\ndns:\n  on: perhaps\n",
            "inpod.yaml:3:7:",
            "true",
        ),
        ("inpod.yaml", "target: [\n", "inpod.yaml:", ""),
    ] {
        let (code, stderr) = with_file(name, text);
        assert_eq!(code, Some(78), "{text}: {stderr}");
        assert!(stderr.contains(place) && stderr.contains(says), "{text}: {stderr}");
    }
}

#[test]
fn a_file_says_what_flags_say() {
    let directory = Public::new();
    let text = "target = \"deploy/web\"\nenv.override = { GREETING = \"from the file\" }\nincoming.mode = \"off\"\n";
    std::fs::write(directory.path().join("inpod.toml"), text).unwrap();
    let below = directory.path().join("below");
    std::fs::create_dir(&below).unwrap();
    let mut command = cluster(&["exec", "--", "sh", "-c", "echo $SERVICE $GREETING"]);
    command.current_dir(below);
    let (code, stdout, stderr) = output(command);
    assert_eq!((code, stdout.as_str()), (Some(0), "web from the file\n"), "{stderr}");
}

#[test]
fn events_are_json_lines() {
    let directory = Public::new();
    let events = directory.path().join("events");
    let script = "exec \"$0\" exec -t deploy/web --no-incoming --json=9 -v -- sh -c 'echo out; echo err >&2; exit 5' 9> \"$EVENTS\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .arg(tests::executable())
        .env("EVENTS", &events);
    command.env("KUBECONFIG", testbed().user_kubeconfig());
    assert_eq!(output(command), (Some(5), "out\n".to_owned(), "err\n".to_owned()));
    let text = std::fs::read_to_string(&events).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    let of = |kind: &str| {
        events
            .iter()
            .find(|event| event["event"] == kind)
            .unwrap_or_else(|| panic!("{kind}: {text}"))
    };
    assert!(of("phase")["name"].is_string());
    assert!(of("started")["target"].as_str().unwrap().contains("web"));
    assert!(of("process")["executable"].as_str().unwrap().ends_with("sh"));
    assert_eq!(of("exited")["status"], 5);
    assert_eq!(events.last().unwrap()["event"], "exited");
}

#[test]
fn a_failure_is_an_event_too() {
    let ended = Run::at("deploy/wbe").flags(&["--json"]).run(&["true"]);
    assert_eq!(ended.code(), 69);
    let lines: Vec<Value> = ended
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    let error = lines
        .iter()
        .find(|event| event["event"] == "error")
        .expect("the failure");
    assert_eq!(error["kind"], "target");
    assert!(error["message"].as_str().unwrap().contains("wbe"), "{error}");
    assert!(error["hints"].to_string().contains("web"), "{error}");
}

/// What this machine has, as root and without rights; a machine that lacks something fails here with the reason.
#[test]
fn doctor_finds_the_same_for_root_and_for_a_user_without_rights() {
    const NOBODY: u32 = 65_534;
    let directory = Public::new();
    let copy = directory.copy(&tests::executable());
    let doctor = |user: u32, without: &str| {
        let mut command = Command::new(&copy);
        command.args(["doctor", "--json"]).uid(user).gid(user).current_dir("/");
        command.env("INPOD_WITHOUT", without);
        let (code, stdout, stderr) = output(command);
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str::<Value>(&stdout).unwrap()
    };
    for user in [0, NOBODY] {
        let found = doctor(user, "");
        assert_eq!(found["engine"]["name"], "trap+layer", "{found:#}");
        for row in &found["capabilities"].as_array().unwrap()[..6] {
            assert_eq!(row["there"], true, "{found:#}");
        }
        let found = doctor(user, "process_vm,fuse");
        assert_eq!(
            found["engine"],
            serde_json::json!({"name": "layer", "because": "process_vm"})
        );
        assert_eq!(found["files"]["name"], "copy");
    }
    let (code, stdout, _) = output(inpod(&["doctor"]));
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("pidfd_getfd            yes") && stdout.contains("\nfiles: "),
        "{stdout}"
    );
    let mut wrong = inpod(&["doctor"]);
    wrong.env("INPOD_WITHOUT", "fuze");
    let (code, _, stderr) = output(wrong);
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("fuze") && stderr.contains("user_namespaces"),
        "{stderr}"
    );
}

#[test]
fn ls_shows_what_can_be_a_target() {
    let (code, stdout, stderr) = output(cluster(&["ls"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let rows: Vec<Vec<&str>> = stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["TARGET", "READY", "STATE", "CONTAINERS"]);
    let row = |target: &str| {
        rows.iter()
            .find(|row| row[0] == target)
            .unwrap_or_else(|| panic!("{target}: {stdout}"))
    };
    assert_eq!(row("deploy/web")[1], "1/1");
    assert_eq!(
        row("pod/sidecars")[3],
        "web,",
        "the container that is taken comes first"
    );
    assert!(rows.iter().all(|row| row.len() > 2), "{stdout}");

    let (code, stdout, _) = output(cluster(&["ls", "--json", "-n", "restricted"]));
    let listing: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &listing["namespace"]), (Some(0), &Value::from("restricted")));
    assert_eq!(listing["targets"][0]["target"], "pod/web");
    assert_eq!(listing["targets"][0]["containers"][0]["name"], "web");
    // `inpod ls | head -1` is no failure.
    let script = format!("'{}' ls | true; exit ${{PIPESTATUS[0]}}", tests::executable().display());
    let mut command = Command::new("bash");
    command
        .args(["-c", &script])
        .env("KUBECONFIG", testbed().user_kubeconfig());
    assert_eq!(output(command).0, Some(0));
}

#[test]
fn plan_tells_the_rules_before_anything_starts() {
    let (code, stdout, stderr) = output(cluster(&["plan", "-t", "deploy/web"]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("target: pod default/web-"), "{stderr}");
    let row = |path: &str| {
        let row = stdout.lines().find(|line| line.split_whitespace().next() == Some(path));
        let cells = row.unwrap_or_else(|| panic!("{path}: {stdout}")).split_whitespace();
        cells.skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("/etc"), "local a developer's or machine's own directory");
    assert_eq!(row("/etc/shop"), "remote the pod mounts a volume at /etc/shop");
    assert_eq!(row("/data"), "remote the pod mounts a volume at /data");
    let (code, stdout, _) = output(cluster(&["plan", "-t", "deploy/web", "--json", "/etc/shop/../shop/x"]));
    let plan: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (code, &plan["paths"][0]["path"]),
        (Some(0), &Value::from("/etc/shop/x"))
    );
    assert_eq!(plan["paths"][0]["place"], "remote");
}
