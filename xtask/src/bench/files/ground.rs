//! The files to read, in a playground, and inpod with an agent that is near or far.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use playground::{Playground, WEB};

use super::super::load;
use crate::build::{layer, programs, statically};
use crate::shell::{root, run};

/// Where the files are in the pod.
pub(super) const POD: &str = "/data/bench";
/// What sends bytes for as long as somebody takes them.
pub(super) const SOURCE: &str = "10.77.0.10:7001";
/// Files that are searched.
pub(super) const GREPPED: u32 = 5000;
const LISTED: usize = 10_000;
const BIG: u64 = 200_000_000;

/// A playground with the files in it.
pub(super) struct Ground {
    playground: Playground,
    source: Child,
    stages: PathBuf,
}

impl Ground {
    pub(super) fn prepare(guest: &Path) -> Result<Self, String> {
        let directory = root().join("target/bench");
        let stages = stages(&directory, guest)?;
        let shop = statically(&["shop"])?.join("shop");
        let playground = Playground::start(&shop, &directory.join("playground")).map_err(|error| error.to_string())?;
        let at = playground.root().join(POD.trim_start_matches('/'));
        fill(&at).map_err(|error| format!("cannot write {}: {error}", at.display()))?;
        load::project(&at.join("modules"))?;
        let site = site(&directory)?;
        run(Command::new("cp").arg("-rl").arg(site).arg(at.join("site")))?;
        debug_assert!(SOURCE.starts_with(WEB), "the source is the playground's");
        let source = playground
            .command(&[&guest.display().to_string(), "serve", SOURCE])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot run nsenter: {error}"))?;
        Ok(Self {
            playground,
            source,
            stages,
        })
    }

    /// The same files without a session.
    pub(super) fn local(&self) -> PathBuf {
        self.playground.root().join(POD.trim_start_matches('/'))
    }

    /// A program in a session whose agent is 100 ms away.
    pub(super) fn far(&self, words: &[&str]) -> Command {
        self.session("far", words)
    }

    pub(super) fn near(&self, words: &[&str]) -> Command {
        self.session("near", words)
    }

    fn session(&self, stage: &str, words: &[&str]) -> Command {
        let mut command = Command::new(self.stages.join(stage).join("inpod"));
        command
            .args(["exec", "-t", &format!("process/{}", self.playground.pid())])
            .args(["--no-incoming", "-v", "--json", "--"])
            .args(words);
        command
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = self.source.kill();
        let _ = self.source.wait();
    }
}

/// The development build of inpod twice, which finds its agent beside it: once the agent, once a relay to it.
fn stages(directory: &Path, guest: &Path) -> Result<PathBuf, String> {
    let (agent, layer) = (statically(&["agent"])?.join("agent"), layer()?);
    // A target directory of its own: the one beside is the distribution's, with everything inside.
    run(programs(&["inpod"])
        .env_remove("INPOD_EMBED_AGENT")
        .env_remove("INPOD_EMBED_LAYER"))?;
    let inpod = root().join("target/release/inpod");
    let relay = format!(
        "#!/bin/sh\nexec '{}' relay 50 '{}' \"$@\"\n",
        guest.display(),
        agent.display()
    );
    let stage = |name: &str, put: &dyn Fn(&Path) -> io::Result<()>| -> io::Result<()> {
        let stage = directory.join("stages").join(name);
        fs::create_dir_all(&stage)?;
        let program = stage.join("inpod-agent");
        for (from, to) in [(&inpod, stage.join("inpod")), (&layer, stage.join("libinpod_layer.so"))] {
            let _ = fs::remove_file(&to);
            fs::copy(from, to)?;
        }
        let _ = fs::remove_file(&program);
        put(&program)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
    };
    stage("near", &|program| fs::copy(&agent, program).map(drop))
        .and_then(|()| stage("far", &|program| fs::write(program, &relay)))
        .map_err(|error| format!("cannot lay out inpod in {}: {error}", directory.display()))?;
    Ok(directory.join("stages"))
}

fn fill(at: &Path) -> io::Result<()> {
    let write = |name: &str, content: &[u8]| {
        let path = at.join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, content)
    };
    write("bytewise/7k", &[b'x'; 7000])?;
    write("megabyte", &vec![b'm'; 1 << 20])?;
    for number in 0..5 {
        write(&format!("deep{number}/a/b/c/d/e/f/g/h/small"), b"a few bytes\n")?;
    }
    for number in 0..LISTED {
        write(&format!("many/entry-{number:05}"), b"")?;
    }
    for number in 0..GREPPED {
        let text = format!("line {number} of a text in which little is found\n").repeat(40);
        write(
            &format!("grep/part{:03}/text{number:04}.txt", number / 50),
            text.as_bytes(),
        )?;
    }
    let mut big = io::BufWriter::new(fs::File::create(at.join("big"))?);
    // What cannot be packed: answers are.
    let mut noise = fs::File::open("/dev/urandom")?.take(BIG);
    io::copy(&mut noise, &mut big)?;
    big.flush()
}

/// sympy as pip installs it, compiled by the Python that imports it.
fn site(directory: &Path) -> Result<PathBuf, String> {
    let site = directory.join("site");
    if !site.join("sympy").is_dir() {
        run(Command::new("python3")
            .args(["-m", "pip", "install", "-q", "--no-compile", "--no-deps", "--target"])
            .arg(&site)
            .args(["sympy", "mpmath"]))?;
    }
    run(Command::new("/usr/bin/python3")
        .args(["-m", "compileall", "-q"])
        .arg(&site))?;
    Ok(site)
}
