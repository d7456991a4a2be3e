//! Starts the playground, prints the target to attach to, and stays until it is ended.
#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::path::Path;

fn main() -> Result<(), playground::PlaygroundError> {
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/static/x86_64-unknown-linux-gnu/release/shop");
    let directory = std::env::temp_dir().join(format!("inpod-playground-{}", std::process::id()));
    let playground = playground::Playground::start(&shop, &directory)?;
    println!("process/{}", playground.pid());
    loop {
        std::thread::park();
    }
}
