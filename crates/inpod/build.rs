//! `INPOD_EMBED_AGENT` and `INPOD_EMBED_LAYER` name the agent's program and the layer to be put inside the executable
//! (`cargo xtask dist`). The agent's content names the build: sessions share an agent in the cluster only where it is the
//! same. It is put there once more in gzip's format, since it may have a slow link before it.

use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> io::Result<()> {
    for (variable, condition) in [
        ("INPOD_EMBED_AGENT", "embedded_agent"),
        ("INPOD_EMBED_LAYER", "embedded_layer"),
    ] {
        println!("cargo:rustc-check-cfg=cfg({condition})");
        println!("cargo:rerun-if-env-changed={variable}");
        if let Ok(file) = std::env::var(variable) {
            println!("cargo:rerun-if-changed={file}");
            println!("cargo:rustc-cfg={condition}");
        }
    }
    // A file that cannot be read is an error where it is included.
    if let Some(agent) = std::env::var_os("INPOD_EMBED_AGENT").and_then(|file| std::fs::read(file).ok()) {
        let mut hasher = DefaultHasher::new();
        hasher.write(&agent);
        println!("cargo:rustc-env=INPOD_BUILD={:016x}", hasher.finish());
        pack(&agent)?;
    }
    Ok(())
}

fn pack(agent: &[u8]) -> io::Result<()> {
    let directory = std::env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(agent)?;
    std::fs::write(Path::new(&directory).join("agent.gz"), packed.finish()?)
}
