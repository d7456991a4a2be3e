//! The matrix' cells: which there are, and whether one holds.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tests::Ended;

use crate::language::{Engine, Language, View};
use crate::run::{self, By, Shown};
use crate::site::Site;
use crate::slow::Slow;
use crate::table::{BEHAVIOURS, Behaviour, Exception, Expectation, How, Place, expectation, is_tried_with};
use crate::world::World;

/// The guests' ports, one for each cell that serves: below those that kernels hand out.
const FIRST_PORT: u16 = 21_000;

#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub behaviour: &'static Behaviour,
    pub language: Language,
    pub engine: Engine,
    pub view: View,
}

/// Every cell of these engines and views.
#[must_use]
pub fn all(engines: &[Engine], views: &[View]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for view in views {
        for engine in engines {
            for behaviour in BEHAVIOURS {
                let languages = behaviour.languages.iter();
                let tried = languages.filter(|language| is_tried_with(behaviour, **language, *view));
                cells.extend(tried.map(|language| Cell {
                    behaviour,
                    language: *language,
                    engine: *engine,
                    view: *view,
                }));
            }
        }
    }
    cells
}

impl Cell {
    /// `behaviour::language::engine`, with `::path` or `::copy` where the files are not at their places.
    #[must_use]
    pub fn name(&self) -> String {
        format!(
            "{}::{}::{}{}",
            self.behaviour.name,
            self.language.name(),
            self.engine.name(),
            self.view.suffix()
        )
    }

    fn is_done_together(&self) -> bool {
        matches!(self.behaviour.how, How::Together | How::TogetherWithScratch)
    }

    fn expectation(&self) -> Expectation {
        expectation(self.behaviour, self.language, self.engine, self.view)
    }
}

/// One process that has done all that may be done together.
type Together = Arc<OnceLock<Arc<Ended>>>;

/// Runs cells in one world.
#[derive(Debug)]
pub struct Matrix {
    pub world: World,
    /// Guests run without inpod, and what is the pod's must not be seen.
    bare: bool,
    together: Mutex<HashMap<(Language, Engine, View), Together>>,
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
        let shown = self.show(cell);
        let judged = if self.bare {
            self.printed(cell, cell.behaviour.expect, &shown)
        } else {
            self.judge(cell, &shown)
        };
        if self.bare && cell.behaviour.place == Place::Pod {
            return match judged {
                Err(_) => Ok(()),
                Ok(()) => Err("held without inpod: it shows nothing".to_owned()),
            };
        }
        judged
    }

    /// All that a language does in one process, while inpod's processes stand still most of the time.
    ///
    /// # Errors
    /// What was expected and what came, where they differ.
    pub fn check_slowly(&self, language: Language, engine: Engine, view: View) -> Result<(), String> {
        let words = self.words(language, view);
        let by = By::Engine(engine, view);
        let mut session = run::behaviours(&self.world, language, by, &["--no-incoming"], &words);
        // What the machine allows is tried before: who is stopped in the middle of that may take the layer for the better engine.
        tests::wait_until("the session's start", || {
            !session.events("started").is_empty() || session.ended_early().is_some()
        });
        let slow = Slow::down(session.pid());
        let shown = plain(session.wait());
        let stops = slow.end();
        if stops == 0 {
            return Err("it never stood still: this shows nothing".to_owned());
        }
        let cells = all(&[engine], &[view]).into_iter();
        let done = cells.filter(|cell| cell.language == language && cell.is_done_together());
        let differing: Vec<String> = done
            .filter_map(|cell| Some(format!("{}: {}", cell.name(), self.judge(&cell, &shown).err()?)))
            .collect();
        if differing.is_empty() {
            Ok(())
        } else {
            Err(differing.join("\n"))
        }
    }

    fn judge(&self, cell: &Cell, shown: &Shown) -> Result<(), String> {
        match cell.expectation() {
            Expectation::Refused => refused(cell, &shown.ended),
            Expectation::Prints(lines) => self.printed(cell, lines, shown),
            Expectation::Differs(exception) => self
                .differs(cell, exception, shown)
                .and_then(|()| says(exception, &shown.ended)),
        }
    }

    fn differs(&self, cell: &Cell, exception: &Exception, shown: &Shown) -> Result<(), String> {
        match exception.expect {
            Some(lines) => self.printed(cell, lines, shown),
            None => match self.printed(cell, cell.behaviour.expect, shown) {
                Err(_) => Ok(()),
                Ok(()) => Err("holds, against an exception: remove that from the table".to_owned()),
            },
        }
    }

    fn show(&self, cell: &Cell) -> Shown {
        let by = if self.bare {
            By::Nobody
        } else {
            By::Engine(cell.engine, cell.view)
        };
        let Behaviour { name, how, .. } = *cell.behaviour;
        let alone =
            |words: &[String]| run::behaviours(&self.world, cell.language, by, &["--no-incoming"], words).wait();
        match how {
            How::Stolen | How::Mirrored | How::StolenByWorkers
                if !self.bare && matches!(cell.expectation(), Expectation::Refused) =>
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
                    Arc::clone(together.entry((cell.language, cell.engine, cell.view)).or_default())
                };
                let ended = slot.get_or_init(|| Arc::new(alone(&self.words(cell.language, cell.view))));
                plain(Ended {
                    status: ended.status,
                    stdout: ended.stdout.clone(),
                    stderr: ended.stderr.clone(),
                })
            }
        }
    }

    /// All that a language does in one process.
    fn words(&self, language: Language, view: View) -> Vec<String> {
        let does = BEHAVIOURS
            .iter()
            .filter(|behaviour| is_tried_with(behaviour, language, view));
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

/// Nobody called it.
fn plain(ended: Ended) -> Shown {
    Shown {
        ended,
        client: String::new(),
        caller: Ok(()),
    }
}

/// The tool told the person of it.
fn says(exception: &Exception, ended: &Ended) -> Result<(), String> {
    if ended.stderr.contains(exception.says) {
        return Ok(());
    }
    Err(format!(
        "expected to be told `{}`; stderr:\n{}",
        exception.says, ended.stderr
    ))
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
