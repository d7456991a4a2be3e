//! `INPOD_EMBED_AGENT` and `INPOD_EMBED_LAYER` name the agent's program and the layer to be put inside the executable
//! (`cargo xtask dist`).

fn main() {
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
}
