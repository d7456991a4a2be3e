//! The table, the notes, and which session is meant.

use wire::message::Counts;

use super::*;

fn sessions() -> Vec<SessionEntry> {
    let counts = Counts {
        seen: 40,
        matched: 12,
        passed: 28,
        mirrored: 5,
        dropped: 1,
    };
    let claim = |port, mode, filter: Option<&str>| ClaimEntry {
        port,
        mode,
        filter: filter.map(str::to_owned),
        counts,
    };
    let entry = |first, owner: &str, age_ms, claims| SessionEntry {
        session: std::array::from_fn(|at| if at == 0 { first } else { 0xab }),
        owner: owner.to_owned(),
        age_ms,
        claims,
    };
    vec![
        entry(
            0x3f,
            "ada@workshop",
            3_900_000,
            vec![
                claim(80, ClaimMode::Steal, Some("X-User=ada")),
                claim(81, ClaimMode::Mirror, None),
                claim(53, ClaimMode::StealDatagrams, None),
            ],
        ),
        entry(0x30, "eve\u{1b}[2J", 59_999, Vec::new()),
    ]
}

#[test]
fn a_line_for_each_claim() {
    let expected = "\
SESSION   OWNER (SELF-NAMED)  SINCE  PORT    MODE    SEEN  MATCHED  PASSED  MIRRORED  DROPPED  FILTER
3fababab  ada@workshop        1 h    80      steal   40    12       28      -         -        X-User=ada
3fababab  ada@workshop        1 h    81      mirror  40    -        -       5         1        all
3fababab  ada@workshop        1 h    53/udp  steal   40    12       -       -         1        all
30ababab  eve\u{fffd}[2J             59 s   -       -       -     -        -       -         -        -
";
    assert_eq!(table(&sessions()), expected);
    assert_eq!(table(&[]), "");
}

#[test]
fn what_is_beside_the_table() {
    let none: &[String] = &[];
    assert_eq!(
        notes("pod a", 1, none, &sessions()),
        "inpod: target: pod a; owners are names that their clients gave themselves\n"
    );
    assert_eq!(
        notes("pod a", 0, none, &[]),
        "inpod: nobody holds anything at pod a: no agent runs there\n"
    );
    assert_eq!(
        notes("pod a", 1, none, &[]),
        "inpod: nobody holds anything at pod a: its agent has no session\n"
    );
    let other = notes("pod a", 0, &["inpod-0-0".to_owned()], &[]);
    assert!(
        !other.contains("no agent") && other.contains("not listed: inpod-0-0"),
        "{other}"
    );
}

#[test]
fn json_has_everything() {
    let value = session_json(&sessions()[0]);
    assert_eq!(value["session"], format!("3f{}", "ab".repeat(15)));
    assert_eq!(value["owner_self_named"], "ada@workshop");
    let expected = serde_json::json!({
        "port": 80, "transport": "tcp", "mode": "steal", "filter": "X-User=ada", "seen": 40, "matched": 12, "passed": 28, "mirrored": 5, "dropped": 1,
    });
    assert_eq!(value["claims"][0], expected);
    assert_eq!(value["claims"][1]["filter"], Value::Null);
}

#[test]
fn a_session_is_meant_by_how_its_name_begins() {
    let sessions = sessions();
    let owner = |wanted: &str| find(&sessions, wanted, "pod a").map(|found| found.owner.as_str());
    assert_eq!(owner("3f"), Ok("ada@workshop"));
    assert_eq!(owner("3FABABAB"), Ok("ada@workshop"));
    let error = owner("77").unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (Kind::Usage, "there is no session `77` at pod a")
    );
    assert_eq!(
        error.hints,
        ["one of those there: 3fababab (ada@workshop), 30ababab (eve\u{1b}[2J)"]
    );
    let error = owner("3").unwrap_err();
    assert!(
        error.message.contains("several") && error.hints[0].contains("3fabababab"),
        "{error}"
    );
    assert!(owner("").is_err());
    let error = find(&[], "3", "pod a").unwrap_err();
    assert_eq!(
        (error.message.as_str(), error.hints.len()),
        ("there is no session `3` at pod a: nobody holds anything there", 0)
    );
}

#[test]
fn ages() {
    for (age, expected) in [
        (0, "0 s"),
        (60_000, "1 min"),
        (3_599_999, "59 min"),
        (90_000_000, "1 d"),
    ] {
        assert_eq!(since(age), expected);
    }
}
