//! Reaches a target and says how long each phase took: `reach [-n NAMESPACE] AGENT TARGET [TIMES]`.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use target::{AgentBinary, AgentSettings, Connector, KubeOptions, Progress};
use wire::message::{ReplyBody, RequestBody};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut options = KubeOptions::default();
    if arguments.first().is_some_and(|first| first == "-n") {
        options.namespace = Some(arguments.remove(1));
        arguments.remove(0);
    }
    let [agent, target, rest @ ..] = arguments.as_slice() else {
        return Err("reach AGENT TARGET [TIMES]".into());
    };
    let times: usize = rest.first().map_or(Ok(1), |times| times.parse())?;
    for _ in 0..times {
        let mut settings = AgentSettings::new(AgentBinary::Path(agent.into()));
        settings.image = std::env::var("AGENT_IMAGE").ok();
        settings.linger = Duration::from_secs(20);
        settings.log = std::env::var("AGENT_LOG").ok();
        settings.needs.steal = std::env::var("STEAL").is_ok();
        let since = Instant::now();
        let outcome = reach(target, &options, settings).await;
        if let Err(error) = outcome {
            println!("{:.0?}: {error}", since.elapsed());
            if let Some(error) = error.downcast_ref::<target::TargetError>() {
                for hint in error.hints() {
                    println!("  hint: {hint}");
                }
            }
        }
    }
    Ok(())
}

async fn reach(target: &str, options: &KubeOptions, settings: AgentSettings) -> Result<(), Box<dyn std::error::Error>> {
    let since = Instant::now();
    let connector = Connector::resolve(&target.parse()?, options, settings).await?;
    println!("{}", connector.describe());
    let transport = connector
        .connect(|progress| {
            if let Progress::Ended(phase, took) = progress {
                println!("  {phase}: {took:.0?}");
            }
        })
        .await?;
    println!("  attached after {:.0?}", since.elapsed());
    if let Some(rights) = connector.rights() {
        println!("  {} {} (reused: {})", rights.container, rights.rung, rights.reused);
        for denial in rights.denials {
            println!("    not {}: {}", denial.rung, denial.message);
        }
    }
    let (link, _acceptor, _) = wire::connect(transport, wire::Hello::new([7; 16], [9; 16], "reach")).await?;
    let stream = link.open(&wire::message::Open::Control, &[]).await?;
    let (control, _events) = wire::ControlClient::new(stream);
    match control.call(RequestBody::Facts).await? {
        ReplyBody::Facts(facts) => println!("  {} uid {} {:?}", facts.hostname, facts.uid, facts.limits),
        other => println!("  {other:?}"),
    }
    println!("  facts after {:.0?}", since.elapsed());
    Ok(())
}
