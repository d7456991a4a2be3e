use std::time::{Duration, Instant};
use target::*;
use tokio::io::*;
async fn measure(name: &str, io: impl AsyncRead + AsyncWrite + Unpin) {
    let (mut r, mut w) = split(io);
    let mut b = [0u8; 1];
    for _ in 0..200 { w.write_all(b"x").await.unwrap(); w.flush().await.unwrap(); r.read_exact(&mut b).await.unwrap(); }
    let mut t: Vec<Duration> = vec![];
    for _ in 0..2000 { let s = Instant::now(); w.write_all(b"x").await.unwrap(); w.flush().await.unwrap(); r.read_exact(&mut b).await.unwrap(); t.push(s.elapsed()); }
    t.sort();
    let n = 64usize << 20;
    let s = Instant::now();
    let data = vec![7u8; 1 << 16];
    let send = async { let mut left = n; while left > 0 { w.write_all(&data).await.unwrap(); left -= data.len(); } w.flush().await.unwrap(); };
    let recv = async { let mut buf = vec![0u8; 1 << 18]; let mut got = 0; while got < n { got += r.read(&mut buf).await.unwrap(); } };
    tokio::join!(send, recv);
    println!("{name}: rtt median {:?} p90 {:?}; echo {:.0} MB/s", t[1000], t[1800], 64.0 * 1.048 / s.elapsed().as_secs_f64());
}
#[tokio::main]
async fn main() {
    let pod = std::env::args().nth(1).unwrap();
    for _ in 0..3 {
        let mut s = AgentSettings::new(AgentBinary::Path("/tmp/standin".into())); s.build = "bench".into();
        let c = Connector::resolve(&format!("pod/{pod}").parse().unwrap(), &KubeOptions::default(), s).await.unwrap();
        let t = c.connect(|_| ()).await.unwrap();
        measure("ours", t).await;
        let client = kube::Client::try_default().await.unwrap();
        let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::default_namespaced(client);
        let ap = kube::api::AttachParams::default().stdin(true).stderr(false).max_stdin_buf_size(262144).max_stdout_buf_size(262144).container("tools");
        let mut e = pods.exec(&pod, ["cat"], &ap).await.unwrap();
        let io = tokio::io::join(e.stdout().unwrap(), e.stdin().unwrap());
        measure("kube", io).await;
    }
}
