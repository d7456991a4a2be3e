//! What is written for which event, how often `-v` must be said, and that a slow reader delays nothing.

use std::io::Read;
use std::sync::mpsc::{Receiver, Sender};

use super::*;
use crate::error::Kind;

/// Every line that a style writes for `events`.
fn told(style: Style, terminal: bool, events: &[Event]) -> String {
    let (mut reader, writer) = io::pipe().unwrap();
    let report = Report::to(writer, style, false).unwrap();
    let report = Report {
        line_end: if terminal { "\r\n" } else { "\n" },
        ..report
    };
    events.iter().for_each(|event| report.event(event));
    report.finish();
    drop(report);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

fn events() -> Vec<Event> {
    vec![
        Event::Phase {
            name: "attach".into(),
            milliseconds: None,
        },
        Event::Phase {
            name: "attach".into(),
            milliseconds: Some(12),
        },
        Event::Started {
            target: "deploy/a".into(),
            summary: "files and names are the pod's.\nPort 80 is mirrored.".into(),
        },
        Event::Claimed {
            port: 80,
            transport: guest::protocol::Transport::Tcp,
            mode: "mirror".into(),
            older_connections: 0,
        },
        Event::Process {
            pid: 7,
            executable: "/bin/sh".into(),
            mode: "trap".into(),
        },
        Event::Decision {
            what: "/data".into(),
            place: "remote".into(),
            why: "because".into(),
        },
        Event::Warning {
            message: "care\u{1b}[2J".into(),
        },
        Event::Exited { status: 3 },
        Event::Waiting {
            name: "deliver".into(),
            what: "sending the agent to the pod".into(),
            milliseconds: 5_001,
            sent: Some(1_203_456),
            of: Some(3_912_345),
        },
    ]
}

#[test]
fn a_person_sees_more_with_each_v() {
    let zero = told(Style::Person { verbose: 0 }, false, &events());
    let expected = "inpod: deploy/a: files and names are the pod's.\n       Port 80 is mirrored.\ninpod: port 80: mirror\n\
                    inpod: care\u{fffd}[2J\ninpod: sending the agent to the pod: 1203 of 3912 kB (5 s)\n";
    assert_eq!(zero, expected);
    let one = told(Style::Person { verbose: 1 }, false, &events());
    assert_eq!(one.lines().count(), 8, "{one}");
    assert!(
        one.starts_with("inpod: attach (12 ms)\n") && one.contains("process 7") && !one.contains("/data"),
        "{one}"
    );
    let two = told(Style::Person { verbose: 2 }, true, &events());
    assert!(two.contains("inpod: /data: remote (because)\r\n"), "{two}");
    assert_eq!(two.matches('\n').count(), two.matches("\r\n").count());
}

#[test]
fn json_has_one_object_for_each_event() {
    let text = told(Style::Json { descriptor: 2 }, false, &events());
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), events().len());
    assert_eq!(
        lines[0],
        serde_json::json!({"event": "phase", "name": "attach", "milliseconds": null})
    );
    assert_eq!(
        lines[3],
        serde_json::json!({
            "event": "claimed", "port": 80, "transport": "tcp", "mode": "mirror", "older_connections": 0,
        })
    );
}

#[test]
fn an_error_is_told_in_both_forms() {
    let error = CliError {
        kind: Kind::Refused,
        message: "no".into(),
        causes: vec!["c".into()],
        hints: vec!["h".into()],
    };
    let tell = |style| {
        let (mut reader, writer) = io::pipe().unwrap();
        let report = Report::to(writer, style, false).unwrap();
        report.error(&error);
        report.finish();
        drop(report);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(
        tell(Style::Person { verbose: 0 }),
        "inpod: error: no\n         because: c\n         try: h\n"
    );
    let json: serde_json::Value = serde_json::from_str(&tell(Style::Json { descriptor: 2 })).unwrap();
    let expected =
        serde_json::json!({"event": "error", "kind": "refused", "message": "no", "causes": ["c"], "hints": ["h"]});
    assert_eq!(json, expected);
}

/// Writes nothing until it is let go.
struct Stuck(Receiver<()>, Sender<usize>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        let _ = self.1.send(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_never_reads_delays_nothing_and_the_rest_is_counted() {
    let (go, gate) = mpsc::channel();
    let (count, counted) = mpsc::channel();
    let report = Report::to(Stuck(gate, count), Style::Person { verbose: 0 }, false).unwrap();
    let warning = Event::Warning { message: "x".into() };
    // One may already be with the writer.
    (0..WAITING + 11).for_each(|_| report.event(&warning));
    let dropped = report.dropped.load(Ordering::Relaxed);
    assert!((10..=11).contains(&dropped), "{dropped}");
    drop(go);
    assert!(counted.recv_timeout(Duration::from_secs(20)).is_ok());
    report.finish();
}

#[test]
fn descriptors_that_cannot_be_written_are_refused() {
    let file = File::open("/dev/null").unwrap();
    for descriptor in [std::os::fd::AsRawFd::as_raw_fd(&file), 99_999, -1] {
        let error = Report::new(Style::Json { descriptor }).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(9), "{descriptor}: EBADF");
    }
}

#[test]
fn counts_are_one_line_for_each_port() {
    let counted = |port, mode: &str, [seen, matched, passed, mirrored, dropped, lost]: [u64; 6]| Event::Counted {
        port,
        transport: guest::protocol::Transport::Tcp,
        mode: mode.to_owned(),
        seen,
        matched,
        passed,
        mirrored,
        dropped,
        lost,
    };
    let events = [
        counted(80, "stolen", [5, 2, 3, 0, 0, 0]),
        counted(81, "mirrored", [4, 0, 0, 3, 1, 2]),
        counted(82, "stolen", [0; 6]),
    ];
    let text = told(Style::Person { verbose: 0 }, false, &events);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "inpod: port 80, stolen: requests and connections seen: 5, matched: 2, passed to the real app: 3",
            "inpod: port 81, mirrored: requests and connections seen: 4, mirrored: 3, not mirrored whole: 1, not taken whole by the app: 2",
        ]
    );
    assert!(lines[2].starts_with("inpod: port 82: nothing came to it while it was stolen; "));
    assert_eq!(lines.len(), 3);
}
