//! A Go program with a thousand goroutines, for two minutes, or for as many seconds as `INPOD_CONFORMANCE_SOAK` says.

use tests::{Run, Session};

use crate::guests;
use crate::language::Engine;
use crate::world::World;

/// What sees static programs.
pub const ENGINES: &[Engine] = &[Engine::TrapAndLayer, Engine::Trap];

/// One run, under way.
#[derive(Debug)]
pub struct Soak {
    session: Session,
    seconds: u64,
    /// What its workers write.
    _directory: tempfile::TempDir,
}

/// How long it takes, in seconds.
#[must_use]
pub fn seconds() -> u64 {
    let said = std::env::var("INPOD_CONFORMANCE_SOAK").ok();
    said.map_or(120, |said| {
        said.parse().expect("INPOD_CONFORMANCE_SOAK is a number of seconds")
    })
}

impl Soak {
    /// Behind all others of this machine: it runs beside other tests.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(world: &World, engine: Engine) -> Self {
        let inpod = tests::inpod(&[]);
        let mut command = std::process::Command::new("nice");
        command.args(["-n", "10"]).arg(inpod.get_program());
        command
            .current_dir(tests::workspace())
            .stdin(std::process::Stdio::null());
        command.env_remove("INPOD_TARGET");
        // The collector runs all the time, and its signals interrupt whatever runs or waits.
        let run = Run::by(command, &world.target())
            .flags(&["--engine", engine.flag(), "--json", "--no-incoming"])
            .env("GOGC", "1")
            .env("GODEBUG", "asyncpreemptoff=0,gcstoptheworld=0")
            .env("GOMAXPROCS", "8");
        let directory = tempfile::tempdir_in(world.scratch.path()).expect("the scratch directory can be written");
        let program = guests::go_program("trouble/soak");
        let (seconds, at) = (seconds(), directory.path().to_str().expect("a path in text"));
        let session = run.start(&[&program, &seconds.to_string(), at]);
        Self {
            session,
            seconds,
            _directory: directory,
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When a byte was wrong, a connection lost, or descriptors grew in number.
    pub fn end(mut self) -> Result<(), String> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(self.seconds) + 3 * tests::PATIENCE;
        while self.session.ended_early().is_none() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let in_time = self.session.ended_early().is_some();
        let ended = if in_time {
            self.session.wait()
        } else {
            self.session.stop()
        };
        let text = format!("{} {}\nstderr:\n{}", ended.status, ended.stdout, ended.stderr);
        if !in_time || ended.code() != 0 || !ended.stdout.contains("\ndone: ") {
            return Err(format!("expected that it ends well; came, with {text}"));
        }
        growing(&ended.stdout).map_or(Ok(()), |what| Err(format!("{what}; {text}")))
    }
}

/// Whose descriptors are more in the last third than they ever were in the first.
fn growing(printed: &str) -> Option<String> {
    let samples: Vec<Vec<usize>> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("sample ")?.split_once(": "))
        .map(|(_, counts)| counts.split(' ').filter_map(|count| count.parse().ok()).collect())
        .collect();
    let third = samples.len() / 3;
    if third == 0 || samples[0].len() < 3 {
        return Some("too few samples were taken".to_owned());
    }
    let (first, last) = (&samples[..third], &samples[samples.len() - third..]);
    (0..samples[0].len()).find_map(|process| {
        let most = |samples: &[Vec<usize>]| samples.iter().filter_map(|sample| sample.get(process)).max().copied();
        (most(last) > most(first)).then(|| {
            format!("open descriptors grow: column {process} (the program, the supervisor, the server) of the samples")
        })
    })
}

#[cfg(test)]
mod samples {
    use super::growing;

    #[test]
    fn one_descriptor_more_is_seen() {
        let printed = |last: &str| format!("sample 0: 9 20 30\nsample 1: 8 25 30\nsample 2: {last}\n");
        assert_eq!(growing(&printed("9 20 30")), None);
        let grown = growing(&printed("9 20 31"));
        assert!(grown.is_some_and(|text| text.contains("column 2")));
        assert!(growing("sample 0: 9 20 30\n").is_some() && growing("").is_some());
    }
}
