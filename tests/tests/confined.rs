//! inpod in a container under the runtime's default seccomp profile, as a CI job of the cluster runs it: with a service
//! account and without added rights. The profile refuses `pidfd_getfd`, so the layer works alone.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use testbed::{FreshPod, Pod};
use tests::{executable, guests, testbed};

/// Where the pod has inpod and the guests. What lies below /opt is never taken for the target's.
const INPOD: &str = "/opt/inpod/inpod";
const GUESTS: &str = "/opt/guests";
/// Busybox, which is static, is the image's shell.
const STATIC: &str = "/bin/busybox";

const NOBODY: u32 = 65_534;

/// A service account with the documented rights, removed when dropped.
struct Account(String);

impl Account {
    fn new(test: &str) -> Self {
        let name = format!("inpod-tests-{test}-{}", std::process::id());
        let group = "rbac.authorization.k8s.io";
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
            {"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": name},
             "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "inpod"},
             "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]},
        ]});
        testbed().admin().kubectl.apply(&objects.to_string()).unwrap();
        Self(name)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        for kind in ["serviceaccount", "rolebinding"] {
            let _ = testbed()
                .admin()
                .kubectl
                .run(&["delete", kind, &self.0, "--wait=false"]);
        }
    }
}

/// A pod with this machine's programs, inpod and the guests in it.
struct Job(Pod);

impl Job {
    fn new(account: &Account, user: u32, capabilities: &[&str]) -> Self {
        let directory = |path: &Path| path.parent().unwrap().canonicalize().unwrap();
        let go = guests::go("http");
        let places = [
            ("usr", "/usr".into(), "/usr"),
            ("lib", "/usr/lib".into(), "/lib"),
            ("lib64", "/usr/lib64".into(), "/lib64"),
            (
                "inpod",
                directory(&executable()),
                Path::new(INPOD).parent().unwrap().to_str().unwrap(),
            ),
            ("guests", directory(&go), GUESTS),
        ];
        let volumes = places
            .iter()
            .map(|(name, here, _)| json!({"name": name, "hostPath": {"path": here}}));
        let mounts = places
            .iter()
            .map(|(name, _, there)| json!({"name": name, "mountPath": there, "readOnly": true}));
        let pod = testbed().admin().fresh_pod(&FreshPod {
            spec: json!({
                "serviceAccountName": account.0,
                "volumes": volumes.collect::<Vec<_>>(),
                "containers": [{
                    "name": "main", "image": "inpod.test/busybox:1", "imagePullPolicy": "Never",
                    "volumeMounts": mounts.collect::<Vec<_>>(),
                    "securityContext": {
                        "runAsUser": user, "runAsGroup": user,
                        "seccompProfile": {"type": "RuntimeDefault"},
                        "capabilities": {"add": capabilities},
                    },
                }],
            }),
            ..FreshPod::default()
        });
        Self(pod.unwrap())
    }

    fn inpod(&self, arguments: &[&str]) -> Output {
        let command = [&["env", "HOME=/tmp", "PATH=/usr/bin:/bin", INPOD], arguments].concat();
        self.0.exec_command(None, &command).unwrap().output().unwrap()
    }

    fn exec(&self, program: &[&str]) -> Said {
        let arguments = [&["exec", "-t", "deploy/web", "--no-incoming", "--"], program].concat();
        Said::of(&self.inpod(&arguments))
    }

    fn doctor(&self) -> Value {
        let said = Said::of(&self.inpod(&["doctor", "--json"]));
        assert_eq!(said.code, Some(0), "{said:?}");
        serde_json::from_str(&said.out).unwrap()
    }
}

#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(output.status.signal(), None);
        Self {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    fn says(&self, all: &[&str]) {
        for words in all {
            assert!(self.err.contains(words), "{words:?} is not in {self:?}");
        }
    }
}

fn capability<'a>(doctor: &'a Value, name: &str) -> &'a Value {
    let all = doctor["capabilities"].as_array().unwrap();
    all.iter().find(|capability| capability["name"] == name).unwrap()
}

fn the_layer_does_it_alone(job: &Job) {
    let doctor = job.doctor();
    assert_eq!(capability(&doctor, "notification")["there"], true, "{doctor}");
    for (name, help) in [("pidfd_getfd", "SYS_PTRACE"), ("user_namespaces", "Unconfined")] {
        let refused = capability(&doctor, name);
        let says = |field: &str, words: &str| refused[field].as_str().is_some_and(|text| text.contains(words));
        assert!(
            refused["there"] == false && says("why", "seccomp profile") && says("help", help),
            "{refused}"
        );
    }
    assert_eq!(doctor["engine"]["name"], "layer");
    assert_eq!(doctor["files"]["name"], "copy");

    let script = "import os, socket, urllib.request as http\n\
                  print(os.environ['SERVICE'], open('/etc/shop/shop.toml').readlines()[1].strip(), socket.gethostname()[:4])\n\
                  print(http.urlopen('http://stock/', timeout=30).readline().decode().strip())";
    let python = job.exec(&["python3", "-c", script]);
    assert_eq!(python.out, "web currency = \"EUR\" web-\napples=12\n", "{python:?}");
    python.says(&["engine: layer, because trap needs"]);
    // Children with an emptied environment too.
    let bash = job.exec(&["bash", "-c", "env -i /usr/bin/curl -sS -m 30 http://web/ | head -1"]);
    assert_eq!(bash.out, "service=web\n", "{bash:?}");

    let go = format!("{GUESTS}/http-go");
    for program in [&[&*go, "http://web/"][..], &[STATIC, "true"]] {
        let refused = job.exec(program);
        assert_eq!((refused.code, &*refused.out), (Some(126), ""), "{refused:?}");
        let named = format!("{} was refused: it is statically linked", program[0]);
        refused.says(&["inpod: error: process ", &named, "the capability SYS_PTRACE"]);
    }
    let below = job.exec(&["bash", "-c", &format!("{STATIC} true; echo $?")]);
    assert_eq!((below.code, &*below.out), (Some(71), "126\n"), "{below:?}");
    below.says(&[&format!("{STATIC} was refused: it is statically linked"), "SYS_PTRACE"]);
}

#[test]
fn under_the_runtimes_default_profile() {
    let account = Account::new("confined");
    for user in [0, NOBODY] {
        the_layer_does_it_alone(&Job::new(&account, user, &[]));
    }
}

/// What `inpod doctor` says would help does help.
#[test]
fn with_the_capability_every_program_is_served() {
    let account = Account::new("ptrace");
    let job = Job::new(&account, NOBODY, &["SYS_PTRACE"]);
    assert_eq!(job.doctor()["engine"]["name"], "trap+layer");
    let go = job.exec(&[&format!("{GUESTS}/http-go"), "http://web/"]);
    assert!(go.out.starts_with("service=web\n"), "{go:?}");
}
