//! Programs that ask the pod's neighbours.

use super::{FILES_URL, Outcome, REDIS, Stage, printed, source};
use crate::guests;

pub(super) fn curl(stage: &Stage<'_>) -> Outcome {
    printed(
        &stage.exec(&[]).run(&["curl", "-sS", &format!("{FILES_URL}/page")]),
        "a page of the pod",
    )
}

pub(super) fn wget(stage: &Stage<'_>) -> Outcome {
    printed(
        &stage.exec(&[]).run(&["wget", "-qO-", &format!("{FILES_URL}/page")]),
        "a page of the pod",
    )
}

pub(super) fn git(stage: &Stage<'_>) -> Outcome {
    let directory = stage.scratch("git").join("clone");
    let url = format!("{FILES_URL}/repo.git");
    // By default git runs untouched, with this machine's network: who wants it in the pod says so.
    let exec = || stage.exec(&[]).env("INPOD_SKIP_BUILD_TOOLS", "false");
    printed(&exec().run(&["git", "ls-remote", &url]), "refs/heads/main")?;
    let directory = directory.to_str().expect("a path in text");
    printed(&exec().run(&["git", "clone", "-q", &url, directory]), "")?;
    printed(&exec().run(&["git", "-C", directory, "log", "--format=%s"]), "first")
}

pub(super) fn redis(stage: &Stage<'_>) -> Outcome {
    let (host, port) = REDIS;
    let key = format!("key-{}", stage.port);
    let ask = |words: &[&str]| {
        stage
            .exec(&[])
            .run(&[&["redis-cli", "-h", host, "-p", port], words].concat())
    };
    printed(&ask(&["set", &key, "of the pod"]), "OK")?;
    printed(&ask(&["get", &key]), "of the pod")
}

pub(super) fn go_client(stage: &Stage<'_>) -> Outcome {
    let program = guests::go_program("programs/go/httpclient");
    printed(
        &stage.exec(&[]).run(&[&program, &format!("{FILES_URL}/page")]),
        "a page of the pod",
    )
}

pub(super) fn go_run(stage: &Stage<'_>) -> Outcome {
    let file = source("go/httpclient.go");
    let run = stage.exec(&[]).env("GOTOOLCHAIN", "local");
    printed(
        &run.run(&["go", "run", &file, &format!("{FILES_URL}/page")]),
        "a page of the pod",
    )
}

pub(super) fn npm_start(stage: &Stage<'_>) -> Outcome {
    let run = stage
        .exec(&[])
        .directory(source("npm").as_ref())
        .env("NPM_CONFIG_UPDATE_NOTIFIER", "false");
    printed(&run.run(&["npm", "start", "--silent"]), "a page of the pod")
}

pub(super) fn pytest(stage: &Stage<'_>) -> Outcome {
    let run = stage
        .exec(&[])
        .directory(source("pytest").as_ref())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let ended = run.run(&[
        "/usr/bin/python3",
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
    ]);
    printed(&ended, "4 passed")
}

pub(super) fn nobody(stage: &Stage<'_>) -> Outcome {
    let url = format!("{FILES_URL}/page");
    let dropped = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    printed(
        &stage.exec(&[]).run(&[&dropped[..], &["curl", "-sS", &url]].concat()),
        "a page of the pod",
    )
}
