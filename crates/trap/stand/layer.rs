//! The layer for a program of the stand.

use std::path::{Path, PathBuf};

use guest::image::Facts;
use guest::marker::Marker;
use guest::protocol::Ready;
use trap::{Calls, PathView};

use crate::options::Options;

/// What [`prepare`] makes: beside the events, so that it goes with the test's own directory when the stand is killed.
fn directory(options: &Options) -> PathBuf {
    let beside = options.events.as_deref().and_then(Path::parent);
    beside
        .map_or_else(std::env::temp_dir, Path::to_owned)
        .join(format!("trap-stand-{}", std::process::id()))
}

/// Removes it.
pub(crate) fn clean_up(options: &Options) {
    let _ = std::fs::remove_dir_all(directory(options));
}

/// The layer's file and the socket for its calls, as the engine wants them.
pub(crate) fn prepare(options: &Options, ready: &Ready, marker: Marker) -> (Option<PathBuf>, Option<Calls>) {
    if options.engine == "trap" {
        return (None, None);
    }
    let source = std::env::var_os("INPOD_LAYER").expect("INPOD_LAYER names the layer's file");
    let library = std::fs::read(source).unwrap();
    let directory = directory(options);
    std::fs::create_dir(&directory).unwrap();
    let socket = directory.join("calls");
    let alone = options.engine == "layer";
    let plan = options.plan();
    let view = options.view.place();
    let facts = Facts {
        view: view.as_deref(),
        marker,
        hostname: &ready.hostname,
        files: &plan.files,
        paths: options.view != PathView::Native,
        asked: options
            .cache
            .parent()
            .map_or(&[], |_| std::slice::from_ref(&options.cache)),
        unix_sockets: !options.unix.is_empty(),
        socket: alone.then_some(socket.as_path()),
        preload: Path::new(""),
    };
    let layer = trap::preload::write(&library, &directory, &facts).unwrap();
    let direct = std::env::var_os("INPOD_WITHOUT").is_none();
    let calls = alone.then(|| Calls::listen(&socket, direct).unwrap());
    (Some(layer), calls)
}
