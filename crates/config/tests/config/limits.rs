//! Large, deep and hostile files: refused, and quickly.

use std::time::{Duration, Instant};

use crate::{error, read};

/// Far more than any of these take, far less than one that got out of hand would.
const QUICK: Duration = Duration::from_secs(60);

#[track_caller]
fn refused(name: &str, text: &str, expected: &str) {
    let start = Instant::now();
    let error = error(name, text);
    assert!(
        error.contains(expected),
        "{name}: {}",
        error.chars().take(400).collect::<String>()
    );
    assert!(start.elapsed() < QUICK, "{name}: {:?}", start.elapsed());
    assert!(
        error.len() < 10_000,
        "{name}: the message is {} bytes long",
        error.len()
    );
}

#[test]
fn nesting_is_bounded() {
    for depth in [17, 200, 20_000, 250_000] {
        refused(
            "inpod.toml",
            &format!("x = {}{}", "[".repeat(depth), "]".repeat(depth)),
            "inpod.toml:1:",
        );
        refused(
            "inpod.json",
            &format!("{{\"x\": {}{}}}", "[".repeat(depth), "]".repeat(depth)),
            "inpod.json:1:",
        );
        refused(
            "inpod.yaml",
            &format!("x: {}{}", "[".repeat(depth), "]".repeat(depth)),
            "inpod.yaml:1:",
        );
    }
    refused("inpod.toml", &format!("{}x = 1", "a.".repeat(100_000)), "inpod.toml:1:");
    refused("inpod.json", &"{\"a\":".repeat(100_000), "inpod.json:1:");
    refused(
        "inpod.yaml",
        &(0..500)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .collect::<String>(),
        "inpod.yaml:",
    );
}

#[test]
fn the_deepest_allowed_nesting_is_an_unknown_key_and_not_a_crash() {
    let depth = config::MAX_DEPTH - 1;
    for (name, text) in [
        ("inpod.toml", format!("x = {}{}", "[".repeat(depth), "]".repeat(depth))),
        (
            "inpod.json",
            format!("{{\"x\": {}{}}}", "[".repeat(depth), "]".repeat(depth)),
        ),
        ("inpod.yaml", format!("x: {}{}", "[".repeat(depth), "]".repeat(depth))),
    ] {
        refused(name, &text, "unknown key `x`");
    }
}

#[test]
fn sizes_are_bounded() {
    let items = |item: &str, count: usize| vec![item; count].join(",");
    refused(
        "inpod.toml",
        &format!("incoming.ports = [{}]", items("1", 1001)),
        "1001 entries; at most 1000",
    );
    refused(
        "inpod.toml",
        &format!("incoming.filter = [{}]", items("\"a=b\"", 33)),
        "a filter has at most 32 conditions and operators",
    );
    refused(
        "inpod.toml",
        &format!("target = \"{}\"", "a".repeat(4097)),
        "4097 bytes long; at most 4096",
    );
    refused(
        "inpod.json",
        &format!("{{\"incoming\": {{\"ports\": [{}]}}}}", items("1", 500_000)),
        "500000 entries",
    );
    refused(
        "inpod.yaml",
        &format!("incoming: {{ports: [{}]}}", items("1", 300_000)),
        "inpod.yaml:1:",
    );
    refused(
        "inpod.toml",
        &format!("incoming.ports = [{}]", items("0", 1000)),
        "and 990 more",
    );
    let keys: String = (0..80_000).map(|key| format!("k{key}=1\n")).collect();
    refused("inpod.toml", &keys, "and 79990 more");
    refused(
        "inpod.toml",
        &format!("{}\nx = 1", "a".repeat(1 << 20)),
        "is larger than",
    );
    let error = read("inpod.toml", b"target = \"x\"\n\xff").unwrap_err().to_string();
    assert_eq!(
        error,
        "inpod.toml:2:1: the file is not UTF-8 from here on\n  2 | \n    | ^"
    );
}

#[test]
fn aliases_do_not_multiply() {
    let mut text = String::from("a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n");
    for level in 1..9 {
        let line = vec![format!("*a{}", level - 1); 10].join(",");
        text.push_str(&format!("a{level}: &a{level} [{line}]\n"));
    }
    refused("inpod.yaml", &text, "inpod.yaml:");
    refused("inpod.yaml", "a: &a\n  b: *a\n", "inpod.yaml:");
}

#[test]
fn many_large_globs_and_patterns_are_quick() {
    let glob = format!("\"/{}\"", "{a,b*,[c-z]}?".repeat(300));
    let text = format!("files.hidden = [{}]\nx = 1", vec![glob; 200].join(","));
    refused("inpod.toml", &text, "inpod.toml:");
    let pattern = format!("\"re:{}\"", "[a-z]{1,9}".repeat(100));
    refused(
        "inpod.toml",
        &format!("incoming.filter = [{}]\nincoming.x = 1", vec![pattern; 32].join(",")),
        "inpod.toml:",
    );
}

#[test]
fn a_position_in_a_long_line_is_shown_cut_out() {
    let text = format!(
        "env.exclude = [{}, 5, {}]",
        vec!["\"A\""; 100].join(", "),
        vec!["\"B\""; 100].join(", ")
    );
    let error = error("inpod.toml", &text);
    let caret = error.lines().find(|line| line.ends_with('^')).unwrap();
    let shown = error.lines().find(|line| line.contains("  1 | ")).unwrap();
    assert_eq!(shown.chars().nth(caret.chars().count() - 1), Some('5'), "{error}");
    assert!(shown.len() < 140, "{error}");
}

/// The examples with seeded mutations; CI runs more of the same.
#[test]
fn fuzz_entries_survive_mutations() {
    type Entry = fn(&[u8]);
    let seeds: [(Entry, &str); 3] = [
        (
            config::fuzz_toml,
            "target = \"a\"\n[env]\noverride = { A = 1 }\ninclude = [\"A*\"]\n[incoming]\nfilter = [\"re:a\"]\n",
        ),
        (
            config::fuzz_json,
            "{\"target\": \"a\", // x\n \"env\": {\"override\": {\"A\": 1}, \"include\": [\"A*\"]}, \"files\": {\"remote\": [\"~/a\"]}}",
        ),
        (
            config::fuzz_yaml,
            "target: a\nenv: &e\n  override: {A: 1}\n  include: [A*, 'b']\nfiles:\n  remote:\n  - ~/a\nx: *e\n",
        ),
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    for (fuzz, seed) in seeds {
        for _ in 0..3000 {
            let mut bytes = seed.as_bytes().to_vec();
            for _ in 0..1 + random() % 4 {
                let at = random() % bytes.len().max(1);
                if bytes.len() < 2 {
                    break;
                }
                match random() % 4 {
                    0 => bytes[at] = u8::try_from(random() % 256).unwrap(),
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b"[]{}\"':,*&!|>-#=\n\t ~%@"[random() % 22]),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            fuzz(&bytes);
        }
    }
}
