//! How a subcommand asks the cluster.

use crate::error::{CliError, Kind};

/// Runs it on this thread.
///
/// # Errors
/// Its own, or why nothing can be run.
pub(crate) fn block_on<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, CliError>
where
    CliError: From<E>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(Kind::Machine, &error))?;
    Ok(runtime.block_on(work)?)
}
