//! The agents that serve in a pod already. Nothing is added and nothing delivered.

use std::time::{Duration, Instant};

use wire::BoxTransport;

use super::deliver::PodTarget;
use super::enter::Tried;
use super::pod;
use super::script;
use super::start::{self, Fate, Stem};
use crate::connector::Serving;
use crate::error::TargetError;

/// How long a container that seems to run may refuse exec.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);

impl PodTarget {
    /// One transport to each agent of this build, whichever container of the pod it is for.
    pub(crate) async fn serving(&self) -> Result<Serving, TargetError> {
        let pod = self.pod(false).await?;
        let targets = pod::containers(&pod).iter();
        let targets = targets.filter_map(|container| pod::check_running(&pod, &container.name).ok());
        let stems: Vec<Stem> = targets.map(|target| self.stem(&target)).collect();
        let mut serving = Serving::default();
        for name in start::agents(&pod) {
            if !stems.iter().any(|stem| stem.is_of(&name)) {
                serving.others.push(name);
            } else if let Some(transport) = self.attach(&name).await? {
                serving.agents.push(transport);
            }
        }
        Ok(serving)
    }

    /// `None` where no agent serves: it has ended, or does not serve yet.
    async fn attach(&self, container: &str) -> Result<Option<BoxTransport>, TargetError> {
        let command = ["sh", "-c", script::ATTACH, "inpod", container];
        let since = Instant::now();
        loop {
            let message = match self.try_exec(container, &command).await? {
                Tried::Said(stream, line) => match line.as_str() {
                    script::ATTACHING => return Ok(Some(Box::new(stream))),
                    script::NOBODY => return Ok(None),
                    other => format!("its container said `{other}`, which is not understood"),
                },
                Tried::Broke(error) => error.to_string(),
                Tried::Refused(message) => message,
            };
            let pod = self.read().await?;
            if start::fate(&pod, container) != Fate::Open {
                return Ok(None);
            }
            if since.elapsed() > PATIENCE {
                return match start::is_running(&pod, container) {
                    true => Err(TargetError::NoAnswer {
                        pod: self.name.clone(),
                        container: container.to_owned(),
                        message,
                    }),
                    false => Ok(None),
                };
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
