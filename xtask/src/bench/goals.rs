//! The goals and the guards against regression: the one table of both, and what was measured against them.

use std::fmt::Write as _;

/// A goal comes from the project's issues; a guard is what was reached and noise of this machine (two cores, shared).
struct Goal {
    name: &'static str,
    unit: &'static str,
    goal: Bound,
    guard: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}
use Bound::{AtLeast, AtMost};

const GOALS: &[Goal] = &[
    Goal {
        name: "start, no agent yet",
        unit: "s",
        goal: AtMost(0.7),
        guard: AtMost(1.2),
    },
    Goal {
        name: "start, agent there",
        unit: "s",
        goal: AtMost(0.25),
        guard: AtMost(0.4),
    },
    Goal {
        name: "down / bare exec",
        unit: "x",
        goal: AtLeast(0.9),
        guard: AtLeast(0.6),
    },
    Goal {
        name: "up / bare exec",
        unit: "x",
        goal: AtLeast(0.9),
        guard: AtLeast(0.6),
    },
    Goal {
        name: "round trip / bare exec",
        unit: "x",
        goal: AtMost(1.2),
        guard: AtMost(1.6),
    },
    Goal {
        name: "HTTP/1 passed on / haproxy",
        unit: "x",
        goal: AtLeast(0.9),
        guard: AtLeast(0.5),
    },
    Goal {
        name: "HTTP/1 passed on, median latency / haproxy",
        unit: "x",
        goal: AtMost(1.2),
        guard: AtMost(2.0),
    },
    Goal {
        name: "HTTP/2 passed on / haproxy",
        unit: "x",
        goal: AtLeast(0.7),
        guard: AtLeast(0.5),
    },
    Goal {
        name: "stolen request, median, added",
        unit: "ms",
        goal: AtMost(1.0),
        guard: AtMost(2.0),
    },
    Goal {
        name: "stolen request, p99, added",
        unit: "ms",
        goal: AtMost(5.0),
        guard: AtMost(20.0),
    },
    Goal {
        name: "agent's memory with 5 000 connections",
        unit: "MB",
        goal: AtMost(100.0),
        guard: AtMost(110.0),
    },
    Goal {
        name: "mirrored at 70 %, requests / bare",
        unit: "x",
        goal: AtLeast(0.97),
        guard: AtLeast(0.9),
    },
    Goal {
        name: "mirrored at 70 %, median latency / bare",
        unit: "x",
        goal: AtMost(1.1),
        guard: AtMost(1.5),
    },
    Goal {
        name: "mirrored at 70 %, copies / requests",
        unit: "x",
        goal: AtLeast(1.0),
        guard: AtLeast(0.9),
    },
    Goal {
        name: "agent's memory under mirrored load",
        unit: "MB",
        goal: AtMost(100.0),
        guard: AtMost(100.0),
    },
    Goal {
        name: "connect at 40 ms",
        unit: "ms",
        goal: AtMost(50.0),
        guard: AtMost(60.0),
    },
    Goal {
        name: "50 connects at 40 ms",
        unit: "ms",
        goal: AtMost(100.0),
        guard: AtMost(130.0),
    },
    Goal {
        name: "wrong results of 50 connects",
        unit: "",
        goal: AtMost(0.0),
        guard: AtMost(0.0),
    },
    Goal {
        name: "open+read+close",
        unit: "x",
        goal: AtMost(1.25),
        guard: AtMost(2.0),
    },
    Goal {
        name: "stat",
        unit: "x",
        goal: AtMost(1.25),
        guard: AtMost(2.0),
    },
    Goal {
        name: "open+read+close (copy view)",
        unit: "x",
        goal: AtMost(1.25),
        guard: AtMost(3.0),
    },
    Goal {
        name: "stat (copy view)",
        unit: "x",
        goal: AtMost(1.25),
        guard: AtMost(3.0),
    },
    Goal {
        name: "open+read+close, added (copy view, trap alone)",
        unit: "us",
        goal: AtMost(10.0),
        guard: AtMost(30.0),
    },
    Goal {
        name: "python3 -c 'import ssl, json, asyncio'",
        unit: "x",
        goal: AtMost(1.1),
        guard: AtMost(1.6),
    },
    Goal {
        name: "python3 -c 'import ssl, json, asyncio' (copy view)",
        unit: "x",
        goal: AtMost(1.1),
        guard: AtMost(1.6),
    },
    Goal {
        name: "node -e 0",
        unit: "x",
        goal: AtMost(1.1),
        guard: AtMost(1.6),
    },
    Goal {
        name: "node -e 0 (copy view)",
        unit: "x",
        goal: AtMost(1.1),
        guard: AtMost(1.6),
    },
    Goal {
        name: "java -version",
        unit: "x",
        goal: AtMost(1.1),
        guard: AtMost(1.6),
    },
    Goal {
        name: "java -version (copy view)",
        unit: "x",
        goal: AtMost(1.1),
        guard: AtMost(1.6),
    },
    Goal {
        name: "node, 2000 modules",
        unit: "x",
        goal: AtMost(1.15),
        guard: AtMost(1.6),
    },
    Goal {
        name: "node, 2000 modules (copy view)",
        unit: "x",
        goal: AtMost(1.15),
        guard: AtMost(2.0),
    },
    Goal {
        name: "Go HTTP server / bare",
        unit: "x",
        goal: AtLeast(0.9),
        guard: AtLeast(0.7),
    },
    Goal {
        name: "sh -c true",
        unit: "x",
        goal: AtMost(3.0),
        guard: AtMost(6.0),
    },
    Goal {
        name: "sh -c true (copy view)",
        unit: "x",
        goal: AtMost(3.0),
        guard: AtMost(6.0),
    },
    Goal {
        name: "getppid, added",
        unit: "us",
        goal: AtMost(0.1),
        guard: AtMost(0.3),
    },
    Goal {
        name: "read, added",
        unit: "us",
        goal: AtMost(0.1),
        guard: AtMost(0.3),
    },
    Goal {
        name: "write, added",
        unit: "us",
        goal: AtMost(0.1),
        guard: AtMost(0.3),
    },
    Goal {
        name: "epoll_wait, added",
        unit: "us",
        goal: AtMost(0.1),
        guard: AtMost(0.3),
    },
    Goal {
        name: "idle session, of a core",
        unit: "%",
        goal: AtMost(0.1),
        guard: AtMost(0.3),
    },
    Goal {
        name: "7 KB byte by byte, round trips",
        unit: "",
        goal: AtMost(2.0),
        guard: AtMost(3.0),
    },
    Goal {
        name: "cold open+read+close, round trips",
        unit: "",
        goal: AtMost(1.25),
        guard: AtMost(3.0),
    },
    Goal {
        name: "ls -l of 10 000, round trips",
        unit: "",
        goal: AtMost(5.0),
        guard: AtMost(10.0),
    },
    Goal {
        name: "import sympy, round trips",
        unit: "",
        goal: AtMost(40.0),
        guard: AtMost(60.0),
    },
    Goal {
        name: "import sympy, warm",
        unit: "x",
        goal: AtMost(1.3),
        guard: AtMost(2.5),
    },
    Goal {
        name: "node, 2 000 remote modules, round trips",
        unit: "",
        goal: AtMost(40.0),
        guard: AtMost(60.0),
    },
    Goal {
        name: "node, 2 000 remote modules, warm",
        unit: "x",
        goal: AtMost(1.3),
        guard: AtMost(3.0),
    },
    Goal {
        name: "grep -r over 5 000 files, times a trip each",
        unit: "x",
        goal: AtLeast(20.0),
        guard: AtLeast(10.0),
    },
    Goal {
        name: "200 MB file / link",
        unit: "x",
        goal: AtLeast(0.8),
        guard: AtLeast(0.5),
    },
    Goal {
        name: "read of an open file / local",
        unit: "x",
        goal: AtLeast(0.9),
        guard: AtLeast(0.6),
    },
    Goal {
        name: "read of an open 1 MB file / local",
        unit: "x",
        goal: AtLeast(0.9),
        guard: AtLeast(0.5),
    },
    Goal {
        name: "1 MB file / local",
        unit: "x",
        goal: AtLeast(0.9),
        guard: AtLeast(0.6),
    },
    Goal {
        name: "stat of a file / local",
        unit: "x",
        goal: AtLeast(0.6),
        guard: AtLeast(0.4),
    },
    Goal {
        name: "open+read+close of a file",
        unit: "us",
        goal: AtMost(5.0),
        guard: AtMost(15.0),
    },
    Goal {
        name: "64 readers / one",
        unit: "x",
        goal: AtLeast(1.0),
        guard: AtLeast(0.6),
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No goal: for the reader.
    Reported,
    Reached,
    Missed,
    Regressed,
}

struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    note: String,
    verdict: Verdict,
    goal: Option<Bound>,
}

/// What was measured.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            AtMost(bound) => value <= bound,
            AtLeast(bound) => value >= bound,
        }
    }
}

impl Table {
    /// A value that has a goal, with what it was made of.
    ///
    /// # Errors
    /// When [`GOALS`] does not know the name: a mistake in the part that measures it.
    pub(super) fn judge(&mut self, name: &str, value: f64, note: impl Into<String>) -> Result<(), String> {
        let goal = GOALS
            .iter()
            .find(|goal| goal.name == name)
            .ok_or_else(|| format!("no goal is called `{name}`"))?;
        let verdict = match (goal.guard.holds(value), goal.goal.holds(value)) {
            (false, _) => Verdict::Regressed,
            (true, false) => Verdict::Missed,
            (true, true) => Verdict::Reached,
        };
        let note = note.into();
        self.rows.push(Row {
            name: name.to_owned(),
            value,
            unit: goal.unit,
            note,
            verdict,
            goal: Some(goal.goal),
        });
        Ok(())
    }

    /// A value without a goal.
    pub(super) fn report(&mut self, name: impl Into<String>, value: f64, unit: &'static str, note: impl Into<String>) {
        let (name, note) = (name.into(), note.into());
        self.rows.push(Row {
            name,
            value,
            unit,
            note,
            verdict: Verdict::Reported,
            goal: None,
        });
    }

    pub(super) fn names(&self, verdict: Verdict) -> Vec<&str> {
        self.rows
            .iter()
            .filter(|row| row.verdict == verdict)
            .map(|row| row.name.as_str())
            .collect()
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = "| what | measured | goal | | made of |\n|---|---:|---:|---|---|\n".to_owned();
        for row in &self.rows {
            let goal = match row.goal {
                Some(AtMost(bound)) => format!("<= {bound}"),
                Some(AtLeast(bound)) => format!(">= {bound}"),
                None => String::new(),
            };
            let verdict = match row.verdict {
                Verdict::Reported => "",
                Verdict::Reached => "reached",
                Verdict::Missed => "missed",
                Verdict::Regressed => "REGRESSED",
            };
            let value = number(row.value);
            let _ = writeln!(
                text,
                "| {} | {value} {} | {goal} | {verdict} | {} |",
                row.name, row.unit, row.note
            );
        }
        text
    }
}

/// Three digits that matter.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The middle value; not a number for none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_judged_by_goal_and_guard() {
        let verdict = |name, value| {
            let mut table = Table::default();
            table.judge(name, value, "").expect("it is in the table");
            table.rows[0].verdict
        };
        assert!(verdict("down / bare exec", 0.95) == Verdict::Reached);
        assert!(verdict("down / bare exec", 0.8) == Verdict::Missed);
        assert!(verdict("down / bare exec", 0.5) == Verdict::Regressed);
        assert!(verdict("start, no agent yet", f64::NAN) == Verdict::Regressed);
    }

    #[test]
    fn a_guard_is_never_stricter_than_its_goal() {
        for Goal { name, goal, guard, .. } in GOALS {
            match (goal, guard) {
                (AtMost(goal), AtMost(guard)) => assert!(goal <= guard, "{name}"),
                (AtLeast(goal), AtLeast(guard)) => assert!(goal >= guard, "{name}"),
                _ => panic!("{name}: one is a minimum, the other a maximum"),
            }
        }
    }
}
