//! `inpod sessions` on the real cluster: who holds what, what has come, and the end of one at another's wish.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::{Command, Output};

use serde_json::{Value, json};
use testbed::Pod;
use tests::{Session, Stage, cluster, inpod, shop, wait_until};

const PORT: u16 = 8080;

fn output(mut command: Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// `inpod sessions ARGUMENTS`, as a person of this name.
fn sessions(user: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = cluster(&[&["sessions"], arguments].concat());
    command.env("USER", user);
    output(command)
}

fn listed(stage: &Stage) -> Vec<Value> {
    let target = format!("pod/{}", stage.pod.name);
    let (code, stdout, stderr) = sessions("eve", &["-t", &target, "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let listing: Value = serde_json::from_str(&stdout).unwrap();
    listing["sessions"].as_array().unwrap().clone()
}

/// A session of this user whose requests are those that name them; in force when this returns.
fn session(stage: &Stage, user: &str) -> Session {
    let target = format!("pod/{}", stage.pod.name);
    let header = format!("X-User={user}");
    let mut command = inpod(&["exec", "-t", &target, "--json", "--steal", "--header", &header, "--"]);
    command.env("USER", user);
    command.args(["env", &format!("SERVICE={user}"), &shop().display().to_string(), "web"]);
    let mut session = Session::spawn(command);
    session.wait_for_claim(PORT);
    session
}

fn ephemeral_containers(pod: &Pod) -> usize {
    let admin = tests::testbed().admin();
    let pod = admin.kubectl.json(&["get", "pod", &pod.name]).unwrap();
    pod["spec"]["ephemeralContainers"].as_array().map_or(0, Vec::len)
}

#[test]
fn two_sessions_are_told_apart_and_one_ends_the_other() {
    let stage = Stage::new();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let ada = session(&stage, "ada");
    let bob = session(&stage, "bob");
    let mut client = stage.connect();
    let mut ask = |user: &str, who: &str| {
        let response = client.get("/", &[&format!("X-User: {user}")]).unwrap();
        assert_eq!(response.service(), who, "{user}");
    };
    for _ in 0..5 {
        ask("ada", "ada");
        ask("bob", "bob");
        ask("bob", "bob");
        ask("eve", "real");
    }
    let found = listed(&stage);
    let claim = |user: &str, matched: u64| {
        json!([{
            "port": PORT, "transport": "tcp", "mode": "steal", "filter": format!("X-User={user}"),
            "seen": 20, "matched": matched, "passed": 5, "mirrored": 0, "dropped": 0,
        }])
    };
    for (entry, user, matched) in [(&found[0], "ada", 5), (&found[1], "bob", 10)] {
        assert_eq!(entry["owner_self_named"], format!("{user}@{host}"));
        assert_eq!(entry["claims"], claim(user, matched));
        assert!(entry["age_milliseconds"].as_u64().is_some_and(|age| age > 0), "{entry}");
    }
    assert_eq!(found.len(), 2, "who looks is not listed");

    let target = format!("pod/{}", stage.pod.name);
    let (code, stdout, stderr) = sessions("eve", &["-t", &target]);
    assert_eq!(code, Some(0), "{stderr}");
    let row = stdout.lines().nth(2).unwrap().split_whitespace().collect::<Vec<_>>();
    let id = &found[1]["session"].as_str().unwrap()[..8];
    assert_eq!(row[..2], [id, &format!("bob@{host}")], "{stdout}");
    assert!(row.ends_with(&["10", "5", "-", "-", "X-User=bob"]), "{stdout}");
    assert!(
        stderr.contains(&stage.pod.name) && stderr.contains("gave themselves"),
        "{stderr}"
    );

    let (code, _, stderr) = sessions("eve", &["stop", "-t", &target, "nobody"]);
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains(id) && stderr.contains(&format!("ada@{host}")),
        "{stderr}"
    );
    let (code, stdout, stderr) = sessions("eve", &["stop", "-t", &target, id]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains(&format!("stopped {id} (bob@{host})")), "{stdout}");
    // Its claim has gone with the answer, and no request of the others is lost.
    ask("bob", "real");
    ask("ada", "ada");
    let ended = bob.wait();
    assert_eq!(ended.code(), 74, "{}", ended.stderr);
    let by = format!("eve@{host}");
    assert!(
        ended.events("stopped").contains(&json!({"event": "stopped", "by": by})),
        "{}",
        ended.stderr
    );
    let error = &ended.events("error")[0];
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("stopped by {by}")) && message.contains("inpod sessions stop"),
        "{message}"
    );
    let left = listed(&stage);
    assert_eq!((left.len(), &left[0]["session"]), (1, &found[0]["session"]));
    for kind in ["warning", "lost", "stopped"] {
        assert!(ada.events(kind).is_empty(), "{}", ada.stderr());
    }
    drop(client);

    // The agent stays for a while after its last session; that is nobody.
    let ended = ada.stop();
    assert_eq!(
        ended.events("counted")[0],
        json!({
            "event": "counted", "transport": "tcp", "port": PORT, "mode": "stolen",
            "seen": 22, "matched": 6, "passed": 6, "mirrored": 0, "dropped": 0, "lost": 0,
        })
    );
    wait_until("the end of the last session", || listed(&stage).is_empty());
    let (code, stdout, stderr) = sessions("eve", &["-t", &target]);
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert!(stderr.contains("nobody holds anything"), "{stderr}");
    stage.wait_for_own_rules();
    assert_eq!(ephemeral_containers(&stage.pod), 1);
}

#[test]
fn who_is_in_the_way_is_waited_for_or_ended() {
    let stage = Stage::new();
    let first = stage.with_local_shop(&["--steal"], "first");
    let patient = ["env", "SERVICE=patient", &shop().display().to_string(), "web"];
    let patient = stage.session(&["--steal", "--wait"], &patient);
    wait_until("the refusal", || !patient.events("claim-refused").is_empty());
    let refused = patient.events("claim-refused");
    let reason = refused[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("already steals") && reason.contains("waiting until"),
        "{reason}"
    );
    assert_eq!(stage.who_answers(&[]), "first");
    drop(first);
    wait_until("its turn", || !patient.events("claimed").is_empty());
    assert_eq!(stage.who_answers(&[]), "patient");
    assert_eq!(patient.events("claim-refused").len(), 1, "it says so once");

    let over = stage.with_local_shop(&["--steal", "--take-over"], "over");
    assert_eq!(stage.who_answers(&[]), "over");
    let ended = patient.wait();
    assert_eq!(ended.code(), 74, "{}", ended.stderr);
    assert!(ended.stderr.contains("--take-over"), "{}", ended.stderr);
    drop(over);
    stage.wait_for_own_rules();
}

#[test]
fn where_no_agent_is_none_is_started() {
    let stage = Stage::new();
    let target = format!("pod/{}", stage.pod.name);
    let (code, stdout, stderr) = sessions("eve", &["-t", &target]);
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert!(
        stderr.contains("nobody holds anything") && stderr.contains("no agent"),
        "{stderr}"
    );
    assert_eq!(listed(&stage), [] as [Value; 0]);
    let (code, _, stderr) = sessions("eve", &["stop", "-t", &target, "3f"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("nobody holds anything"), "{stderr}");
    assert_eq!(ephemeral_containers(&stage.pod), 0);
    assert!(stage.agent().is_none());

    // An agent that was killed is none either.
    let session = stage.session(&["--no-incoming"], &["sleep", "1000"]);
    wait_until("the session", || listed(&stage).len() == 1);
    assert_eq!(listed(&stage)[0]["claims"], json!([]));
    tests::processes::signal(stage.agent().unwrap(), rustix::process::Signal::KILL).unwrap();
    assert_eq!(session.wait().code(), 74);
    wait_until("nobody", || listed(&stage).is_empty());
    assert_eq!(ephemeral_containers(&stage.pod), 1);

    // A process has an agent for each session, which only that one reaches.
    let process = std::process::id();
    let (code, _, stderr) = sessions("eve", &["-t", &format!("process/{process}")]);
    assert_eq!(code, Some(77), "{stderr}");
    assert!(stderr.contains(&format!("process {process}")), "{stderr}");
}
