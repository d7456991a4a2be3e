//! Bringing the testbed up: caches first, then the node, then what runs in it.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{At, Error, Result, run};
use crate::kubectl::Kubectl;
use crate::lock::Lock;
use crate::node::{Node, Program, log, tail};
use crate::paths::Paths;
use crate::stamp::Fingerprint;
use crate::state::State;
use crate::wait::wait_for;
use crate::{cgroups, cluster, components, credentials, down, images, packages, programs};

/// Told of each phase as it begins and as it ends.
pub enum Phase<'a> {
    Begins(&'a str),
    Ended(&'a str, Duration),
}

pub struct Options<'a> {
    pub report: &'a (dyn Fn(Phase<'_>) + Sync),
}

impl Options<'_> {
    pub const QUIET: Options<'static> = Options { report: &|_| {} };

    fn phase<T>(&self, name: &str, phase: impl FnOnce() -> Result<T>) -> Result<T> {
        (self.report)(Phase::Begins(name));
        let start = Instant::now();
        let outcome = phase();
        (self.report)(Phase::Ended(name, start.elapsed()));
        outcome
    }
}

#[derive(Debug)]
pub struct Running {
    /// False: it ran already, from the same inputs.
    pub started: bool,
    /// Of the user with the documented minimum of rights.
    pub user_kubeconfig: PathBuf,
    /// Readable by root only.
    pub admin_kubeconfig: PathBuf,
}

/// Brings the testbed up, unless it runs and was started from the same sources. Needs root. Of several callers at once one
/// does the work, and the others find it done.
pub fn up(options: &Options<'_>) -> Result<Running> {
    let paths = Paths::of_workspace();
    let _lock = Lock::take(&paths)?;
    let inputs = prepare(&paths, options)?;
    let running = running(&paths, &inputs);
    let started = running.is_none();
    match running {
        Some(state) => mend(&paths, options, state)?,
        None => {
            down::take_down(&paths)?;
            start(&paths, options, inputs).inspect_err(|_| {
                // The error that matters is the first one.
                drop(down::take_down(&paths));
            })?;
        }
    }
    Ok(Running {
        started,
        user_kubeconfig: paths.user_kubeconfig(),
        admin_kubeconfig: paths.admin_kubeconfig(),
    })
}

/// Packages, programs and images, and the fingerprint of all that a running testbed was started from.
fn prepare(paths: &Paths, options: &Options<'_>) -> Result<String> {
    options.phase("packages", packages::install_missing)?;
    let (kubernetes, images) = options.phase("programs and images", || {
        thread::scope(|scope| {
            let kubernetes = scope.spawn(|| programs::kubernetes(paths));
            let images = images::build(paths)?;
            let kubernetes = kubernetes
                .join()
                .map_err(|_| Error::unexpected("build kubernetes", "it panicked"))??;
            Ok((kubernetes, images))
        })
    })?;
    let commands = (components::first(paths), components::second(paths));
    let texts = (components::config(paths), cluster::manifests());
    Ok(kubernetes
        .and(images)
        .and(Fingerprint::of((commands, texts)))
        .to_string())
}

/// What runs already, if it came up completely, nothing of it has ended, and it was started from the same inputs.
fn running(paths: &Paths, inputs: &str) -> Option<State> {
    let state = State::load(&paths.state())?;
    let fits = state.complete && state.inputs == inputs && state.dead().is_empty();
    let healthy = fits && is_healthy(&Kubectl::new(paths, paths.admin_kubeconfig()));
    healthy.then_some(state)
}

/// Puts back what tests have deleted or broken.
fn mend(paths: &Paths, options: &Options<'_>, mut state: State) -> Result<()> {
    let admin = Kubectl::new(paths, paths.admin_kubeconfig());
    if cluster::are_ready(&admin, &state.ready)? {
        return Ok(());
    }
    options.phase("pods that were missing", || {
        cluster::apply_basics(&admin)?;
        cluster::apply(&admin)?;
        state.ready = cluster::wait_until_ready(&admin, || alive(paths, &state))?;
        state.save(&paths.state())
    })
}

fn is_healthy(kubectl: &Kubectl) -> bool {
    kubectl.run(&["get", "--raw=/readyz", "--request-timeout=5s"]).is_ok()
}

fn start(paths: &Paths, options: &Options<'_>, inputs: String) -> Result<()> {
    let mut state = State::new(inputs);
    let admin = Kubectl::new(paths, paths.admin_kubeconfig());

    let node = options.phase("node", || {
        fs::create_dir_all(paths.logs()).at("create", &paths.logs())?;
        credentials::create(paths)?;
        components::write_config(paths)?;
        cgroups::create()?;
        let node = Node::create(paths)?;
        state.node = Some(node.init.clone());
        state.save(&paths.state())?;
        node.set_up(paths)?;
        Ok(node)
    })?;

    start_programs(paths, &node, &mut state, components::first(paths))?;
    thread::scope(|scope| {
        let imports = scope.spawn(|| import_images(paths, &node));
        options.phase("API server", || {
            wait_for("reach the API server", Duration::from_secs(60), || {
                alive(paths, &state)?;
                Ok(if is_healthy(&admin) {
                    Ok(())
                } else {
                    Err(tail(&log(paths, "apiserver")))
                })
            })
        })?;
        options.phase("controllers and kubelet", || {
            start_programs(paths, &node, &mut state, components::second(paths))?;
            cluster::apply_basics(&admin)
        })?;
        // A pod whose image is not there yet is tried again only after a while.
        options.phase("images", || {
            imports
                .join()
                .map_err(|_| Error::unexpected("import the images", "it panicked"))?
        })
    })?;

    options.phase("manifests", || cluster::apply(&admin))?;
    state.ready = options.phase("pods", || cluster::wait_until_ready(&admin, || alive(paths, &state)))?;
    state.complete = true;
    state.save(&paths.state())
}

fn start_programs(paths: &Paths, node: &Node, state: &mut State, programs: Vec<Program>) -> Result<()> {
    for program in programs {
        state.programs.push(node.start(paths, &program)?);
        state.save(&paths.state())?;
    }
    Ok(())
}

fn import_images(paths: &Paths, node: &Node) -> Result<()> {
    let socket = node.path("run/containerd/containerd.sock");
    wait_for("reach containerd", Duration::from_secs(30), || {
        Ok(if socket.exists() {
            Ok(())
        } else {
            Err(tail(&log(paths, "containerd")))
        })
    })?;
    for archive in images::archives(paths) {
        let mut import = node.command(components::CTR.as_ref());
        run("import an image", import.args(components::import_arguments(&archive)))?;
    }
    Ok(())
}

/// An error with the end of its log when a program has ended, which none should.
fn alive(paths: &Paths, state: &State) -> Result<()> {
    match state.dead().first() {
        None => Ok(()),
        Some(program) => Err(Error::unexpected(
            format!("keep {} running", program.name),
            tail(&log(paths, &program.name)),
        )),
    }
}
