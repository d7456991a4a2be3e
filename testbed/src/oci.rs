//! An OCI image archive (image-spec 1.1: image layout, one manifest, one uncompressed layer) made from a directory.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::error::{At, Error, Result, run};

pub(crate) struct Settings<'a> {
    /// As pods name it, for instance `inpod.test/busybox:1`.
    pub reference: &'a str,
    pub entrypoint: &'a [&'a str],
    pub user: &'a str,
}

/// Writes `archive` for the tree at `root`, whose files all become root's.
pub(crate) fn write(root: &Path, settings: &Settings<'_>, archive: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(archive.parent().unwrap_or(root)).at("create a directory beside", archive)?;
    let blobs = work.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).at("create", &blobs)?;

    let layer_file = work.path().join("layer.tar");
    tar(root, &layer_file, &["."])?;
    let layer = store(&blobs, &layer_file)?;
    let config = store_json(&blobs, &work.path().join("config"), &config(settings, &layer))?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
    });
    let manifest = store_json(&blobs, &work.path().join("manifest"), &manifest)?;

    let mut entry = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
    // What containerd names the image by on import.
    entry["annotations"] = json!({"io.containerd.image.name": settings.reference});
    let index = work.path().join("index.json");
    let content = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(&index, content.to_string()).at("write", &index)?;
    let layout = work.path().join("oci-layout");
    fs::write(&layout, r#"{"imageLayoutVersion":"1.0.0"}"#).at("write", &layout)?;
    tar(work.path(), archive, &["oci-layout", "index.json", "blobs"])
}

fn config(settings: &Settings<'_>, layer: &Blob) -> Value {
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": settings.entrypoint,
            "User": settings.user,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)]},
    })
}

struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.size})
    }
}

/// Moves the file to where its digest says.
fn store(blobs: &Path, file: &Path) -> Result<Blob> {
    let doing = "compute a digest";
    let sums = run(doing, Command::new("sha256sum").arg(file))?;
    let digest = sums
        .split_whitespace()
        .next()
        .ok_or_else(|| Error::unexpected(doing, "sha256sum printed nothing"))?;
    let size = fs::metadata(file).at("look at", file)?.len();
    fs::rename(file, blobs.join(digest)).at("move", file)?;
    Ok(Blob {
        digest: digest.to_owned(),
        size,
    })
}

fn store_json(blobs: &Path, file: &Path, content: &Value) -> Result<Blob> {
    fs::write(file, content.to_string()).at("write", file)?;
    store(blobs, file)
}

/// The same bytes for the same tree.
fn tar(directory: &Path, archive: &Path, names: &[&str]) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--sort=name",
        "--numeric-owner",
        "--owner=0",
        "--group=0",
        "--mtime=@0",
        "--file",
    ]);
    tar.arg(archive).arg("--directory").arg(directory).args(names);
    run("pack an image", &mut tar).map(drop)
}
