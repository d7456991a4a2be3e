//! Where the agent's program is: inside this executable, or beside it in development; and how it is brought to a target.

use target::{AgentBinary, AgentSettings, Connector, TargetError};

use crate::cli::{BUILD, PlaceArgs};
use crate::error::CliError;
#[cfg(not(embedded_agent))]
use crate::error::Kind;
use crate::exec::no_target;

/// The agent's file name beside the command.
#[cfg(not(embedded_agent))]
const BESIDE: &str = "inpod-agent";

#[cfg(embedded_agent)]
static EMBEDDED: AgentBinary = AgentBinary::Embedded {
    program: include_bytes!(env!("INPOD_EMBED_AGENT")),
    packed: include_bytes!(concat!(env!("OUT_DIR"), "/agent.gz")),
};

/// How the agent is delivered and run.
///
/// # Errors
/// When there is no agent's program.
pub fn agent_settings(resolved: &config::Resolved) -> Result<AgentSettings, CliError> {
    Ok(AgentSettings {
        image: resolved.agent.image.clone(),
        linger: resolved.agent.linger,
        log: Some(resolved.agent.log.as_str().to_owned()),
        build: BUILD.to_owned(),
        needs: target::Needs {
            steal: resolved.plan.incoming.mode == rules::IncomingMode::Steal,
        },
        ..AgentSettings::new(binary()?)
    })
}

/// The target, for who looks and takes nothing.
///
/// # Errors
/// When none is named, it cannot be found, or there is no agent's program.
pub async fn target_to_look_at(resolved: &config::Resolved, place: &PlaceArgs) -> Result<Connector, CliError> {
    let target = resolved.target.as_deref().ok_or_else(no_target)?;
    let spec = target.parse().map_err(TargetError::from)?;
    let settings = AgentSettings {
        needs: target::Needs::default(),
        ..agent_settings(resolved)?
    };
    Ok(Connector::resolve(&spec, &place.kube(resolved), settings).await?)
}

#[cfg(embedded_agent)]
#[expect(clippy::unnecessary_wraps, reason = "the development build can fail here")]
fn binary() -> Result<AgentBinary, CliError> {
    Ok(EMBEDDED.clone())
}

#[cfg(not(embedded_agent))]
fn binary() -> Result<AgentBinary, CliError> {
    let here = std::env::current_exe().map_err(|error| CliError::new(Kind::Machine, &error))?;
    let beside = here.with_file_name(BESIDE);
    if beside.exists() {
        return Ok(AgentBinary::Path(beside));
    }
    Err(CliError {
        kind: Kind::Machine,
        message: format!("the agent's program is missing: {}", beside.display()),
        causes: Vec::new(),
        hints: vec!["cargo xtask dist builds one executable with everything inside".to_owned()],
    })
}
