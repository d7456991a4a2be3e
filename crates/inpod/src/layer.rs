//! Where the layer is: inside this executable, or beside it in development.

use std::path::Path;

use guest::image::Facts;
use trap::preload::{self, PreloadError};

use crate::error::{CliError, Kind};

#[cfg(embedded_layer)]
static EMBEDDED: &[u8] = include_bytes!(env!("INPOD_EMBED_LAYER"));

/// Puts the layer with this session's facts into `directory`.
///
/// # Errors
/// When there is no layer, or it cannot be written there.
pub(crate) fn write(directory: &Path, facts: &Facts<'_>) -> Result<std::path::PathBuf, CliError> {
    let library = library()?;
    preload::write(&library, directory, facts).map_err(|error: PreloadError| CliError::new(Kind::Machine, &error))
}

#[cfg(embedded_layer)]
#[expect(clippy::unnecessary_wraps, reason = "the development build can fail here")]
fn library() -> Result<std::borrow::Cow<'static, [u8]>, CliError> {
    Ok(EMBEDDED.into())
}

#[cfg(not(embedded_layer))]
fn library() -> Result<std::borrow::Cow<'static, [u8]>, CliError> {
    let here = std::env::current_exe().map_err(|error| CliError::new(Kind::Machine, &error))?;
    let beside = here.with_file_name(preload::NAME);
    std::fs::read(&beside).map(Into::into).map_err(|error| {
        CliError::new(Kind::Machine, &error).hints([format!(
            "{} is missing; cargo xtask dist builds one executable with everything inside",
            beside.display()
        )])
    })
}
