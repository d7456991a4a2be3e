//! `INPOD_EMBED_AGENT` names the agent's program to be put inside the executable (`cargo xtask dist`).

fn main() {
    println!("cargo:rustc-check-cfg=cfg(embedded_agent)");
    println!("cargo:rerun-if-env-changed=INPOD_EMBED_AGENT");
    if let Ok(agent) = std::env::var("INPOD_EMBED_AGENT") {
        println!("cargo:rerun-if-changed={agent}");
        println!("cargo:rustc-cfg=embedded_agent");
    }
}
