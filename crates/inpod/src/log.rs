//! The developer's log on stderr, off unless `INPOD_LOG` asks for it (the form of `RUST_LOG`).

use tracing_subscriber::EnvFilter;

/// Starts it, for this process and what it forks. No thread is made.
pub fn init() {
    let Ok(filter) = EnvFilter::try_from_env("INPOD_LOG") else {
        return;
    };
    // A second logger in one process is a test's; the first stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}
