//! Whether what is sent to a pod reaches the session, tried and told, on the real cluster.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use serde_json::Value;
use tests::{Session, Stage, wait_until};

fn checked(session: &Session) -> Vec<Value> {
    wait_until("the check", || !session.events("checked").is_empty());
    session.events("checked")
}

/// Leads all connections of the port around every redirection, as an eBPF network would.
fn lead_around(stage: &Stage) {
    let mut nft = stage.pod.in_network("nft").unwrap();
    let chain =
        |hook: &str| format!("chain {hook} {{ type filter hook {hook} priority -300; tcp dport 8080 notrack; }}");
    nft.arg(format!(
        "table inet around {{\n{}\n{}\n}}",
        chain("prerouting"),
        chain("output")
    ));
    let output = nft.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_connection_through_the_pods_address_comes_to_steal_and_mirror() {
    let stage = Stage::new();
    for flags in [
        &["--steal", "--check"][..],
        &["--steal", "--header", "X-User=me", "--check"],
        &["--mirror", "--check"],
        &["--mirror", "--header", "X-User=me", "--check"],
    ] {
        let session = stage.with_local_shop(flags, "local");
        let found = checked(&session);
        let message = found[0]["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("address {} came through", stage.pod.ip)),
            "{message}"
        );
        assert_eq!((&found[0]["port"], &found[0]["reached"]), (&8080.into(), &true.into()));
        let ended = session.stop();
        let counted = ended.events("counted");
        assert_eq!(counted[0]["seen"], 0, "the check is not counted: {flags:?}");
    }
}

#[test]
fn what_is_led_around_a_steal_is_told() {
    let stage = Stage::new();
    lead_around(&stage);
    let session = stage.with_local_shop(&["--steal", "--check"], "local");
    let found = checked(&session);
    let message = found[0]["message"].as_str().unwrap();
    assert!(
        message.contains("past this session") && found[0]["reached"] == false,
        "{message}"
    );
    let warnings = || {
        let mut warnings = session.events("warning");
        warnings.retain(|warning| warning["message"].as_str().unwrap().contains("younger than the steal"));
        warnings
    };
    let mut clients = Vec::new();
    wait_until("the warning", || {
        // Those that came before the first look count as older.
        let mut client = stage.connect();
        assert_eq!(client.get("/", &[]).unwrap().service(), "real");
        clients.push(client);
        std::thread::sleep(std::time::Duration::from_millis(200));
        !warnings().is_empty()
    });
    assert_eq!(warnings().len(), 1);
}

#[test]
fn what_goes_through_a_steal_is_not_warned_of() {
    let stage = Stage::new();
    let mut older = stage.connect();
    assert_eq!(older.get("/", &[]).unwrap().service(), "real");
    let session = stage.with_local_shop(&["--steal", "--header", "X-User=me"], "local");
    let begun = std::time::Instant::now();
    let mut clients = Vec::new();
    while begun.elapsed() < std::time::Duration::from_secs(7) {
        let mut client = stage.connect();
        assert_eq!(client.get("/", &[]).unwrap().service(), "real");
        clients.push(client);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(older.get("/", &[]).unwrap().service(), "real");
    assert!(session.events("warning").is_empty(), "{}", session.stderr());
}
