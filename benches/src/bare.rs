//! The same transfers over a bare exec of kube-rs, with its buffers at 256 KiB: what a session's outgoing connection is
//! compared with.

mod numbers;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, AttachedProcess};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use numbers::{median_us, rate, say};

const BUFFER: usize = 256 << 10;
const WARM_UP: usize = 50;
/// When a transfer counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

#[allow(clippy::print_stderr, reason = "a program's usage")]
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [namespace, pod, container, what, count] = &arguments[..] else {
        eprintln!("usage: bench-bare NAMESPACE POD CONTAINER echo|down|up COUNT-OR-BYTES");
        return ExitCode::from(2);
    };
    let outcome = tokio::time::timeout(PATIENCE, run(namespace, pod, container, what, count)).await;
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("bench-bare {what}: {error}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("bench-bare {what}: nothing within {PATIENCE:?}");
            ExitCode::FAILURE
        }
    }
}

async fn run(namespace: &str, pod: &str, container: &str, what: &str, count: &str) -> io::Result<()> {
    let count: usize = count.parse().map_err(io::Error::other)?;
    let client = kube::Client::try_default().await.map_err(io::Error::other)?;
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let command: &[&str] = match what {
        "echo" => &["cat"],
        "down" => &["dd", "if=/dev/zero", "bs=256k"],
        "up" => &["sh", "-c", "cat >/dev/null; echo read"],
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let parameters = AttachParams::default()
        .container(container)
        .stdin(true)
        .stderr(false)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER);
    let exec = pods
        .exec(pod, command.iter().copied(), &parameters)
        .await
        .map_err(io::Error::other)?;
    match what {
        "echo" => echo(exec, count).await,
        "down" => down(exec, count).await,
        _ => up(exec, count).await,
    }
}

async fn echo(mut exec: AttachedProcess, count: usize) -> io::Result<()> {
    let (mut to, mut from) = both(&mut exec)?;
    let mut times = Vec::with_capacity(count);
    for round in 0..count + WARM_UP {
        let begun = Instant::now();
        to.write_all(b"x").await?;
        to.flush().await?;
        from.read_exact(&mut [0]).await?;
        if round >= WARM_UP {
            times.push(begun.elapsed());
        }
    }
    say("round_trip_us", median_us(&mut times));
    Ok(())
}

async fn down(mut exec: AttachedProcess, bytes: usize) -> io::Result<()> {
    let (_open, mut from) = both(&mut exec)?;
    let mut buffer = vec![0; BUFFER];
    if from.read(&mut buffer).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (begun, mut received) = (Instant::now(), 0);
    while received < bytes {
        match from.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => received += count,
        }
    }
    say("down_mb_s", rate(received, begun));
    Ok(())
}

async fn up(mut exec: AttachedProcess, bytes: usize) -> io::Result<()> {
    let (mut to, mut from) = both(&mut exec)?;
    let buffer = vec![0; BUFFER];
    let begun = Instant::now();
    for _ in 0..bytes.div_ceil(BUFFER) {
        to.write_all(&buffer).await?;
    }
    to.shutdown().await?;
    drop(to);
    let mut said = [0; 4];
    from.read_exact(&mut said).await?;
    say("up_mb_s", rate(bytes.div_ceil(BUFFER) * BUFFER, begun));
    Ok(())
}

fn both(
    exec: &mut AttachedProcess,
) -> io::Result<(
    impl tokio::io::AsyncWrite + Unpin + use<>,
    impl tokio::io::AsyncRead + Unpin + use<>,
)> {
    exec.stdin()
        .zip(exec.stdout())
        .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
}
