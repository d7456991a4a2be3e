//! inpod inside of gVisor, where there is no seccomp notification and much else is missing: the layer works alone. The
//! sandbox has no network but its own loopback; the API server is reached through a unix socket.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::{PATIENCE, executable, guests, testbed, workspace};

/// Where the API server is found in the sandbox.
const API: &str = "127.0.0.1:16443";

/// The directory of a test, and the way out of its sandbox.
struct Sandbox {
    directory: tempfile::TempDir,
    runsc: PathBuf,
}

/// What became of a command.
#[derive(Debug)]
struct Ended {
    code: Option<i64>,
    out: String,
    err: String,
}

impl Ended {
    fn says(&self, all: &[&str]) {
        for words in all {
            assert!(self.err.contains(words), "{words:?} is not in {self:?}");
        }
    }
}

impl Sandbox {
    fn new() -> Self {
        let sandbox = Self {
            directory: tempfile::tempdir().unwrap(),
            runsc: guests::runsc(),
        };
        let plain = testbed().user().json(&["config", "view", "--raw"]).unwrap();
        let mut config = plain.clone();
        let cluster = &mut config["clusters"][0]["cluster"];
        cluster["server"] = format!("https://{API}").into();
        // A name that its certificate has.
        cluster["tls-server-name"] = "kubernetes".into();
        std::fs::write(sandbox.path("kubeconfig"), config.to_string()).unwrap();
        let server = plain["clusters"][0]["cluster"]["server"].as_str().unwrap();
        let server = server.strip_prefix("https://").unwrap().parse().unwrap();
        let listener = UnixListener::bind(sandbox.path("api")).unwrap();
        std::thread::spawn(move || serve(&listener, server));
        sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs commands one after the other, as root of the sandbox.
    fn run(&self, commands: &[Vec<String>]) -> Vec<Ended> {
        let state = format!("--root={}", self.path("state").display());
        let kubeconfig = format!("KUBECONFIG={}", self.path("kubeconfig").display());
        let mut child = Command::new("timeout")
            .args(["--kill-after=5", &PATIENCE.as_secs().to_string()])
            .arg(&self.runsc)
            .args([&*state, "--ignore-cgroups", "--network=none", "--host-uds=open", "do"])
            .args(["/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "HOME=/tmp", &kubeconfig])
            .args(["/usr/bin/python3", &guests::script("sandbox.py"), API])
            .arg(self.path("api"))
            .current_dir(workspace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = serde_json::to_vec(commands).unwrap();
        child.stdin.take().unwrap().write_all(&commands).unwrap();
        let output = child.wait_with_output().unwrap();
        let ended: Vec<Value> =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ended = ended.iter().map(|ended| Ended {
            code: ended["code"].as_i64(),
            out: text(&ended["out"]),
            err: text(&ended["err"]),
        });
        ended.collect()
    }
}

/// Carries connections to the API server.
fn serve(listener: &UnixListener, server: SocketAddr) {
    for here in listener.incoming().map_while(Result::ok) {
        let there = TcpStream::connect(server).unwrap();
        let (mut back, mut from) = (here.try_clone().unwrap(), there.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut &here, &mut &there);
            let _ = there.shutdown(Shutdown::Write);
        });
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut back);
            let _ = back.shutdown(Shutdown::Write);
        });
    }
}

fn inpod(arguments: &[&str]) -> Vec<String> {
    let program = executable().canonicalize().unwrap().display().to_string();
    [&[&*program], arguments]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

fn exec(program: &[&str]) -> Vec<String> {
    inpod(&[&["exec", "-t", "deploy/web", "--no-incoming", "--"], program].concat())
}

#[test]
fn the_layer_does_it_alone() {
    let display = |path: &Path| path.display().to_string();
    let (go, fixed) = (display(&guests::go("http")), display(&guests::c("http", true)));
    let script = "import os, socket, urllib.request as http\n\
                  print(os.environ['SERVICE'], open('/etc/shop/shop.toml').readlines()[1].strip(), socket.gethostname()[:4])\n\
                  print(http.urlopen('http://stock/', timeout=30).readline().decode().strip())";
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned);
    let below = format!("{fixed} http://web/; echo $?");
    let ended = Sandbox::new().run(&[
        inpod(&["doctor", "--json"]),
        exec(&["python3", "-c", script]),
        exec(&["bash", "-c", "env -i /usr/bin/curl -sS -m 30 http://web/ | head -1"]),
        exec(&[&go, "http://web/"]),
        exec(&[&fixed, "http://web/"]),
        exec(&["bash", "-c", &below]),
        [
            &nobody[..],
            &exec(&["bash", "-c", "id -u; cat /etc/shop/shop.toml | tail -1"]),
        ]
        .concat(),
    ]);
    let [doctor, python, bash, refused_go, refused_static, refused_below, nobody] = &ended[..] else {
        panic!("{ended:?}")
    };

    let doctor: Value = serde_json::from_str(&doctor.out).unwrap();
    let capabilities = doctor["capabilities"].as_array().unwrap();
    let there = capabilities.iter().filter(|capability| capability["there"] == true);
    let there: Vec<_> = there.filter_map(|capability| capability["name"].as_str()).collect();
    assert_eq!(there, ["process_vm", "fuse"], "{doctor}");
    let says = |field: &str| capabilities[0][field].as_str().unwrap().to_owned();
    assert!(
        says("why").contains("this kernel has no seccomp notification"),
        "{doctor}"
    );
    assert!(says("help").contains("outside of gVisor"), "{doctor}");
    assert_eq!(doctor["engine"]["name"], "layer");
    assert_eq!(doctor["engine"]["because"], "notification");
    assert_eq!(doctor["files"]["name"], "copy");

    assert_eq!(python.out, "web currency = \"EUR\" web-\napples=12\n", "{python:?}");
    python.says(&["engine: layer, because trap needs seccomp notification"]);
    assert_eq!(bash.out, "service=web\n", "{bash:?}");
    assert_eq!(nobody.out, "65534\nshelves = 3\n", "{nobody:?}");
    for (refused, program) in [(refused_go, &go), (refused_static, &fixed)] {
        assert_eq!((refused.code, &*refused.out), (Some(126), ""), "{refused:?}");
        let named = format!("{program} was refused: it is statically linked");
        refused.says(&["inpod: error: process ", &named, "outside of gVisor"]);
    }
    assert_eq!(
        (refused_below.code, &*refused_below.out),
        (Some(71), "126\n"),
        "{refused_below:?}"
    );
    refused_below.says(&[
        &format!("{fixed} was refused: it is statically linked"),
        "outside of gVisor",
    ]);
}
