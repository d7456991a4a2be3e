//! The matrix' cells: which there are, and whether one holds.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tests::Ended;

use crate::language::{Engine, Language};
use crate::run::{self, By, Shown};
use crate::site::Site;
use crate::table::{BEHAVIOURS, Behaviour, Expectation, How, Place, expectation};
use crate::world::World;

/// The guests' ports, one for each cell that serves: below those that kernels hand out.
const FIRST_PORT: u16 = 21_000;

#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub behaviour: &'static Behaviour,
    pub language: Language,
    pub engine: Engine,
}

/// Every cell of these engines.
#[must_use]
pub fn all(engines: &[Engine]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for engine in engines {
        for behaviour in BEHAVIOURS {
            cells.extend(behaviour.languages.iter().map(|language| Cell {
                behaviour,
                language: *language,
                engine: *engine,
            }));
        }
    }
    cells
}

impl Cell {
    /// `behaviour::language::engine`.
    #[must_use]
    pub fn name(&self) -> String {
        format!(
            "{}::{}::{}",
            self.behaviour.name,
            self.language.name(),
            self.engine.name()
        )
    }
}

/// One process that has done all that may be done together.
type Together = Arc<OnceLock<Arc<Ended>>>;

/// Runs cells in one world.
#[derive(Debug)]
pub struct Matrix {
    world: World,
    /// Guests run without inpod, and what is the pod's must not be seen.
    bare: bool,
    together: Mutex<HashMap<(Language, Engine), Together>>,
    next_port: AtomicU16,
}

impl Matrix {
    #[must_use]
    pub fn new(site: Site, bare: bool) -> Self {
        Self {
            world: World::new(site),
            bare,
            together: Mutex::default(),
            next_port: AtomicU16::new(FIRST_PORT),
        }
    }

    /// # Errors
    /// What was expected and what came, when they differ.
    pub fn check(&self, cell: &Cell) -> Result<(), String> {
        let wanted = if self.bare {
            Expectation::Prints(cell.behaviour.expect)
        } else {
            expectation(cell.behaviour, cell.language, cell.engine)
        };
        let shown = self.show(cell);
        let judged = match wanted {
            Expectation::Refused => refused(cell, &shown.ended),
            Expectation::Prints(lines) | Expectation::Differs(Some(lines)) => self.printed(cell, lines, &shown),
            Expectation::Differs(None) => match self.printed(cell, cell.behaviour.expect, &shown) {
                Err(_) => Ok(()),
                Ok(()) => Err("holds, against an exception: remove that from the table".to_owned()),
            },
        };
        if self.bare && cell.behaviour.place == Place::Pod {
            return match judged {
                Err(_) => Ok(()),
                Ok(()) => Err("held without inpod: it shows nothing".to_owned()),
            };
        }
        judged
    }

    fn show(&self, cell: &Cell) -> Shown {
        let by = if self.bare { By::Nobody } else { By::Engine(cell.engine) };
        let Behaviour { name, how, .. } = *cell.behaviour;
        let plain = |ended| Shown {
            ended,
            client: String::new(),
            caller: Ok(()),
        };
        let alone =
            |words: &[String]| run::behaviours(&self.world, cell.language, by, &["--no-incoming"], words).wait();
        match how {
            How::Stolen | How::Mirrored | How::StolenByWorkers
                if !self.bare && expectation(cell.behaviour, cell.language, cell.engine) == Expectation::Refused =>
            {
                plain(alone(&[name.to_owned()]))
            }
            How::Stolen | How::Mirrored | How::StolenByWorkers => {
                let port = self.next_port.fetch_add(1, Ordering::Relaxed);
                run::serving(&self.world, cell.language, by, name, how, port)
            }
            How::Alone => plain(alone(&[name.to_owned()])),
            How::Together | How::TogetherWithScratch => {
                let slot = {
                    let mut together = self.together.lock().unwrap_or_else(PoisonError::into_inner);
                    Arc::clone(together.entry((cell.language, cell.engine)).or_default())
                };
                let ended = slot.get_or_init(|| Arc::new(alone(&self.words(cell.language))));
                plain(Ended {
                    status: ended.status,
                    stdout: ended.stdout.clone(),
                    stderr: ended.stderr.clone(),
                })
            }
        }
    }

    /// All that a language does in one process.
    fn words(&self, language: Language) -> Vec<String> {
        let does = BEHAVIOURS
            .iter()
            .filter(|behaviour| behaviour.languages.contains(&language));
        let word = |behaviour: &Behaviour| match behaviour.how {
            How::Together => Some(behaviour.name.to_owned()),
            How::TogetherWithScratch => Some(self.world.filled_in(&format!("{}={{scratch}}", behaviour.name))),
            _ => None,
        };
        does.filter_map(word).collect()
    }

    fn printed(&self, cell: &Cell, lines: &[&str], shown: &Shown) -> Result<(), String> {
        let wanted: Vec<String> = lines
            .iter()
            .map(|line| self.world.filled_in(line).replace("{client}", &shown.client))
            .collect();
        let mut got = run::section(&shown.ended.stdout, cell.behaviour.name);
        if cell.behaviour.how == How::StolenByWorkers {
            // `listening` comes first; which worker got what is nobody's choice.
            got.get_mut(1..).unwrap_or_default().sort_unstable();
        }
        if got == wanted && shown.caller.is_ok() {
            return Ok(());
        }
        let mut text = String::from("expected:\n");
        wanted.iter().for_each(|line| _ = writeln!(text, "    {line}"));
        text.push_str("came:\n");
        got.iter().for_each(|line| _ = writeln!(text, "    {line}"));
        if let Err(error) = &shown.caller {
            let _ = writeln!(text, "the caller in the pod: {error}");
        }
        let _ = write!(text, "{}\nstderr:\n{}", shown.ended.status, shown.ended.stderr);
        Err(text)
    }
}

/// Ended with a failure that names the process and what it would have run.
fn refused(cell: &Cell, ended: &Ended) -> Result<(), String> {
    let command = crate::guests::command(cell.language);
    let executable = command[0].rsplit('/').next().unwrap_or_default();
    let says = |line: &str| {
        let number = line
            .split_once("process ")
            .map(|(_, rest)| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        number.is_some_and(|rest| rest.starts_with(' ') && rest.contains(executable) && rest.contains("was refused"))
    };
    if ended.code() != 0 && ended.stdout.is_empty() && ended.stderr.lines().any(says) {
        return Ok(());
    }
    Err(format!(
        "expected a refusal that names the process and {executable}; came, with {}:\n{}{}",
        ended.status, ended.stdout, ended.stderr
    ))
}
