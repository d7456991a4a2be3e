//! `hold-playground SHOP DIRECTORY`: a playground of the user who runs this; prints its process id and holds it until
//! standard input ends.
#![allow(clippy::print_stdout, reason = "the test reads it")]

use std::io::Read;
use std::path::PathBuf;

fn main() -> Result<(), playground::PlaygroundError> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [shop, directory] = paths.as_slice() else {
        return Ok(());
    };
    let playground = playground::Playground::start(shop, directory)?;
    println!("{}", playground.pid());
    // Whatever ends it.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    drop(playground);
    Ok(())
}
