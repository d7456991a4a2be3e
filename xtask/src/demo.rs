//! `cargo xtask demo`: a local program inside the playground, one printed line of evidence for each capability.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use playground::{PORT, Playground, STOCK_NAME, WEB};

use crate::build::statically;
use crate::dist;
use crate::shell::{say, step};

/// How long a part of the demo may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to show.
#[derive(Args, Default)]
pub struct Options {
    /// Builds nothing: `inpod` and `shop` lie in this directory.
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
}

/// Builds, starts the playground, shows.
///
/// # Errors
/// The first part that does not hold.
pub fn run(options: &Options) -> Result<(), String> {
    if let Some(programs) = &options.programs {
        return show(&programs.join("inpod"), &programs.join("shop"));
    }
    let (inpod, shop) = build()?;
    show(&inpod, &shop)
}

fn build() -> Result<(PathBuf, PathBuf), String> {
    let inpod = step("build", dist::run)?;
    Ok((inpod, statically(&["shop"])?.join("shop")))
}

/// The same as a user without any rights, who cannot even see this checkout (toolchains often lie in a 0700 home): runs
/// copies of the programs as uid 65534. For root.
///
/// # Errors
/// The first part that does not hold.
pub fn run_unprivileged() -> Result<(), String> {
    let (inpod, shop) = build()?;
    let xtask = std::env::current_exe().map_err(|error| format!("which program is this? {error}"))?;
    let directory = std::env::temp_dir().join(format!("inpod-demo-programs-{}", std::process::id()));
    let copied = std::fs::create_dir_all(&directory).and_then(|()| {
        for (from, name) in [(&inpod, "inpod"), (&shop, "shop"), (&xtask, "xtask")] {
            std::fs::copy(from, directory.join(name))?;
        }
        Ok(())
    });
    let shown = copied
        .map_err(|error| format!("cannot copy the programs: {error}"))
        .and_then(|()| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
            command
                .arg(directory.join("xtask"))
                .args(["demo", "--programs"])
                .arg(&directory);
            command
                .current_dir("/")
                .env("HOME", "/nonexistent")
                .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
            crate::shell::run(&mut command)
        });
    let _ = std::fs::remove_dir_all(&directory);
    shown
}

fn show(inpod: &Path, shop: &Path) -> Result<(), String> {
    let directory = std::env::temp_dir().join(format!("inpod-demo-{}", std::process::id()));
    let playground = Playground::start(shop, &directory).map_err(|error| format!("{error}"))?;
    let demo = Demo {
        inpod,
        shop,
        target: format!("process/{}", playground.pid()),
        playground: &playground,
    };
    say(&format!(
        "the playground runs: a service `web` at {WEB}:{PORT}, its dependency, and a steady client, all in namespaces of their own"
    ));
    let before = demo.nft();
    demo.environment()?;
    demo.files()?;
    demo.names_and_connections()?;
    demo.mirror()?;
    demo.steal()?;
    demo.untouched(&before)?;
    say(
        "\nThat was a local program living in another process' place. Next: `inpod exec -t deploy/NAME -- PROGRAM` on your own cluster.",
    );
    Ok(())
}

struct Demo<'a> {
    inpod: &'a Path,
    shop: &'a Path,
    target: String,
    playground: &'a Playground,
}

impl Demo<'_> {
    fn exec(&self, flags: &[&str], program: &[&str]) -> Command {
        let mut command = Command::new(self.inpod);
        command
            .args(["exec", "-t", &self.target])
            .args(flags)
            .arg("--")
            .args(program)
            .stdin(Stdio::null());
        command
    }

    fn output(&self, flags: &[&str], program: &[&str]) -> Result<String, String> {
        let output = self
            .exec(flags, program)
            .output()
            .map_err(|error| format!("cannot run inpod: {error}"))?;
        text(&program.join(" "), &output)
    }

    fn environment(&self) -> Result<(), String> {
        let printed = self.output(
            &["--no-incoming"],
            &["sh", "-c", "echo $SHOP_CURRENCY $STOCK_URL; echo ${NODE_OPTIONS-none}"],
        )?;
        expect("environment", &printed, "EUR stock.shop.internal:80\nnone\n")?;
        evidence(
            "environment",
            "`echo $SHOP_CURRENCY $STOCK_URL` prints EUR stock.shop.internal:80; its NODE_OPTIONS is left out",
        );
        Ok(())
    }

    fn files(&self) -> Result<(), String> {
        let printed = self.output(
            &["--no-incoming"],
            &["cat", "/etc/shop/shop.toml", "/data/catalog/items.json"],
        )?;
        expect("files", &printed, "hello from inside")?;
        expect("files", &printed, "lamp")?;
        evidence(
            "files",
            &format!(
                "`cat /etc/shop/shop.toml` prints {}",
                printed.lines().next().unwrap_or_default()
            ),
        );
        Ok(())
    }

    fn names_and_connections(&self) -> Result<(), String> {
        let url = format!("http://{STOCK_NAME}/");
        let program = [self.shop_text(), "client", &url, "--count", "1", "--report", "1"];
        let printed = self.output(&["--no-incoming"], &program)?;
        expect("names and connections", &printed, "answered=1 failed=0")?;
        evidence(
            "names, connections",
            &format!("{STOCK_NAME} is resolved and called from inside: {}", printed.trim()),
        );
        let host = self.output(&["--no-incoming"], &["uname", "-n"])?;
        expect("host name", &host, playground::HOSTNAME)?;
        evidence("host name", &format!("`uname -n` prints {}", host.trim()));
        Ok(())
    }

    fn mirror(&self) -> Result<(), String> {
        let mut local = Local::start(self, &[])?;
        local.wait_for("X-User: somebody")?;
        let still = self.ask("somebody")?;
        expect("mirror", &still, "service=web")?;
        evidence(
            "mirror",
            "the local program sees the steady client's requests, and the real service keeps answering them",
        );
        local.stop();
        Ok(())
    }

    fn steal(&self) -> Result<(), String> {
        let mut local = Local::start(self, &["--steal", "--header", "X-User=me"])?;
        let deadline = Instant::now() + PATIENCE;
        let mut mine = self.ask("me")?;
        while !mine.contains("from the laptop") && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            mine = self.ask("me")?;
        }
        expect("steal", &mine, "from the laptop")?;
        let others = self.ask("somebody")?;
        expect("steal", &others, "service=web")?;
        evidence(
            "steal by header",
            "a request with X-User: me is answered by the local program, others still by the real service",
        );
        local.stop();
        Ok(())
    }

    /// The ruleset and the service are as before, and the steady client never failed.
    fn untouched(&self, before: &str) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while self.nft() != before {
            if Instant::now() > deadline {
                return Err(format!("packet rules are left behind:\n{}", self.nft()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = self.playground.log();
        let last = log
            .lines()
            .rfind(|line| line.starts_with("answered="))
            .unwrap_or_default()
            .to_owned();
        expect("untouched", &last, "failed=0")?;
        let answer = self.ask("me")?;
        expect("untouched", &answer, "service=web")?;
        evidence(
            "untouched",
            &format!("the real service answers everybody again; the steady client through it all: {last}"),
        );
        Ok(())
    }

    /// Asks the real address as another client inside would.
    fn ask(&self, user: &str) -> Result<String, String> {
        let url = format!("http://{WEB}:{PORT}/");
        let header = format!("X-User: {user}");
        let arguments = [
            self.shop_text(),
            "client",
            &url,
            "--count",
            "1",
            "--report",
            "1",
            "--header",
            &header,
        ];
        let output = self
            .playground
            .inside(&arguments)
            .map_err(|error| format!("cannot ask inside: {error}"))?;
        text("the client inside", &output)
    }

    /// The packet rules inside, where `nft` is installed; otherwise nothing to compare.
    fn nft(&self) -> String {
        self.playground
            .inside(&["nft", "list", "ruleset"])
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    }

    fn shop_text(&self) -> &str {
        self.shop.to_str().unwrap_or("shop")
    }
}

/// A local server program under `inpod exec`, its output in a file.
struct Local {
    child: std::process::Child,
    log: PathBuf,
}

/// Prints every request's headers and answers in its own words; any language would do.
const SERVER: &str = r#"
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        print(self.client_address[0], self.path, str(self.headers).strip().replace("\n", " | "), flush=True)
        body = b"service=web from the laptop\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"#;

impl Local {
    fn start(demo: &Demo<'_>, flags: &[&str]) -> Result<Self, String> {
        let log = std::env::temp_dir().join(format!("inpod-demo-{}-{}.log", std::process::id(), flags.len()));
        let file = std::fs::File::create(&log).map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let errors = file
            .try_clone()
            .map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        let child = demo
            .exec(flags, &["python3", "-c", SERVER])
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("cannot run inpod: {error}"))?;
        Ok(Self { child, log })
    }

    fn wait_for(&mut self, wanted: &str) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let printed = std::fs::read_to_string(&self.log).unwrap_or_default();
            if printed.contains(wanted) {
                return Ok(());
            }
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) || Instant::now() > deadline {
                return Err(format!(
                    "the local program never saw `{wanted}`; it printed:\n{printed}"
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it as Ctrl-C in another terminal would.
    fn stop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_file(&self.log);
    }
}

fn text(what: &str, output: &Output) -> Result<String, String> {
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    Err(format!(
        "{what}: {}\n{printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}

fn expect(what: &str, printed: &str, wanted: &str) -> Result<(), String> {
    if printed.contains(wanted) {
        Ok(())
    } else {
        Err(format!("{what}: expected `{wanted}` in:\n{printed}"))
    }
}

fn evidence(what: &str, line: &str) {
    say(&format!("  {what:<19} {line}"));
}
