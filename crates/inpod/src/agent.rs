//! Where the agent's program is: inside this executable, or beside it in development.

use target::{AgentBinary, AgentSettings};

use crate::cli::BUILD;
use crate::error::CliError;
#[cfg(not(embedded_agent))]
use crate::error::Kind;

/// The agent's file name beside the command.
#[cfg(not(embedded_agent))]
const BESIDE: &str = "inpod-agent";

#[cfg(embedded_agent)]
static EMBEDDED: &[u8] = include_bytes!(env!("INPOD_EMBED_AGENT"));

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

#[cfg(embedded_agent)]
#[expect(clippy::unnecessary_wraps, reason = "the development build can fail here")]
fn binary() -> Result<AgentBinary, CliError> {
    Ok(AgentBinary::Embedded(EMBEDDED))
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
