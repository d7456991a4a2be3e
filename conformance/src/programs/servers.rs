//! Servers that take the pod's traffic.

use tests::Session;
use tests::http::Http;

use super::{Outcome, Stage, source};
use crate::{guests, run, world};

/// Two workers that run as somebody else, and a script of this machine's that reads a file of the pod.
pub(super) fn php_fpm(stage: &Stage<'_>) -> Outcome {
    let _only_one = run::alone(stage.world);
    let directory = stage.scratch("php-fpm");
    let (configuration, script) = (directory.join("php-fpm.conf"), directory.join("page.php"));
    let text = format!(
        "[global]\nerror_log = /dev/stderr\ndaemonize = no\n[pool]\nuser = nobody\ngroup = nogroup\n\
         listen = 0.0.0.0:{}\npm = static\npm.max_children = 2\n",
        stage.port
    );
    std::fs::write(&configuration, text).expect("the scratch directory can be written");
    let page = "<?php echo posix_geteuid(), ': ', file_get_contents('/data/conformance/text');";
    std::fs::write(&script, page).expect("the scratch directory can be written");
    let configuration = configuration.to_str().expect("a path in text");
    let mut session = stage.serve(
        stage.exec(&["--steal"]),
        &["/usr/sbin/php-fpm8.2", "--nodaemonize", "--fpm-config", configuration],
    );
    let script = script.to_str().expect("a path in text");
    for number in 0..8 {
        let answer = stage
            .world
            .network
            .enter(|| super::fastcgi::get(world::pod(stage.port), script));
        match answer {
            Ok(text) if text.contains("65534: hello from the pod") => {}
            other => {
                return Err(format!(
                    "request {number}: expected the page; came {other:?}\nstderr:\n{}",
                    session.stderr()
                ));
            }
        }
    }
    session
        .ended_early()
        .map_or(Ok(()), |status| Err(format!("ended by itself: {status}")))
}

pub(super) fn uvicorn(stage: &Stage<'_>) -> Outcome {
    let port = stage.port.to_string();
    let directory = source("pytest");
    let program = [
        "/usr/bin/python3",
        "-m",
        "uvicorn",
        "--workers",
        "2",
        "--host",
        "0.0.0.0",
        "--port",
        &port,
        "--app-dir",
        &directory,
        "asgi:application",
    ];
    steal(stage, &program, "/", "hello from the pod")
}

/// Asks several times, each over a connection of its own, so that several workers get some.
fn all_answer(stage: &Stage<'_>, mut session: Session, path: &str, wanted: &str) -> Outcome {
    for number in 0..12 {
        let answer = Http::connect(&stage.world.network, world::pod(stage.port))
            .and_then(|mut connection| connection.get(path, &["Connection: close"]));
        match answer {
            Ok(answer) if answer.body.contains(wanted) => {}
            other => {
                let (out, err) = (session.stdout(), session.stderr());
                return Err(format!(
                    "request {number}: expected `{wanted}`; came {other:?}\n{out}\nstderr:\n{err}"
                ));
            }
        }
    }
    session
        .ended_early()
        .map_or(Ok(()), |status| Err(format!("ended by itself: {status}")))
}

fn steal(stage: &Stage<'_>, program: &[&str], path: &str, wanted: &str) -> Outcome {
    let _only_one = run::alone(stage.world);
    let session = stage.serve(stage.exec(&["--steal"]), program);
    all_answer(stage, session, path, wanted)
}

pub(super) fn nginx(stage: &Stage<'_>) -> Outcome {
    let directory = stage.scratch("nginx");
    let at = directory.display();
    let configuration = format!(
        "daemon off; user nobody nogroup; worker_processes 4; pid {at}/pid; error_log stderr;\n\
         events {{ accept_mutex off; }}\n\
         http {{ access_log off; client_body_temp_path {at}; proxy_temp_path {at}; fastcgi_temp_path {at};\n\
           uwsgi_temp_path {at}; scgi_temp_path {at};\n\
           server {{ listen {port}; location = /text {{ alias /data/conformance/text; }} }} }}\n",
        port = stage.port
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, configuration).expect("the scratch directory can be written");
    steal(
        stage,
        &["nginx", "-c", file.to_str().expect("a path in text")],
        "/text",
        "hello from the pod",
    )
}

pub(super) fn gunicorn(stage: &Stage<'_>) -> Outcome {
    let bind = format!("0.0.0.0:{}", stage.port);
    let directory = source("pytest");
    let program = [
        "/usr/bin/gunicorn",
        "--workers",
        "3",
        "--bind",
        &bind,
        "--chdir",
        &directory,
        "application:application",
    ];
    steal(stage, &program, "/", "hello from the pod")
}

pub(super) fn node_cluster(stage: &Stage<'_>) -> Outcome {
    steal(
        stage,
        &["node", &source("npm/cluster.js"), &stage.port.to_string()],
        "/",
        "hello from the pod",
    )
}

pub(super) fn java(stage: &Stage<'_>) -> Outcome {
    let port = stage.port.to_string();
    let mut program = guests::java_program("HttpServing");
    program.push(port);
    let program: Vec<&str> = program.iter().map(String::as_str).collect();
    steal(stage, &program, "/", "hello from the pod")
}

pub(super) fn go(stage: &Stage<'_>) -> Outcome {
    let program = guests::go_program("programs/go/httpserver");
    steal(stage, &[&program, &stage.port.to_string()], "/", "hello from the pod")
}
