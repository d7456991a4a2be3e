//! Whether the layer alone can serve a program: its loader must take the layer in, and its calls must go through libc.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use guest::elf::{Executable, HEAD, Loading};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, Register};

use crate::exec::gains_rights;

/// `#!` of a `#!` of ...: the kernel follows four (`BINPRM_MAX_RECURSION`).
const DEEPEST: usize = 5;
/// A first line is looked at as far as the kernel does (`BINPRM_BUF_SIZE`).
const FIRST_LINE: u64 = 256;

/// What is known of files that were looked through for system calls: it takes milliseconds for a large one.
#[derive(Debug, Default)]
pub(crate) struct Looked(Mutex<HashMap<(u64, u64, i64), bool>>);

/// Why the layer alone cannot serve the program, with what would help; `None` when it can, and for what cannot be read (the
/// kernel will say why).
pub(crate) fn refusal(path: &Path, looked: &Looked) -> Option<String> {
    let mut path = path.to_owned();
    for _ in 0..DEEPEST {
        match look(&path, looked) {
            Look::Served => return None,
            Look::Refused(why) => {
                return Some(format!(
                    "{why}; only the engine `trap` serves every program (`inpod doctor` says whether this machine allows it)"
                ));
            }
            Look::Interpreter(next) => path = next,
        }
    }
    None
}

enum Look {
    Served,
    Refused(&'static str),
    /// A script: what counts is what runs it.
    Interpreter(PathBuf),
}

fn look(path: &Path, looked: &Looked) -> Look {
    let Ok(mut file) = File::open(path) else {
        return Look::Served;
    };
    let mut head = [0; HEAD];
    let length = file.read(&mut head).unwrap_or(0);
    match Executable::of(&head[..length]) {
        Executable::Script => interpreter(file).map_or(Look::Served, Look::Interpreter),
        Executable::Native => {
            if gains_rights(path).is_some() {
                return Look::Refused("it gains privileges, so the loader ignores LD_PRELOAD");
            }
            let Ok(loading) = Loading::of(&mut file) else {
                return Look::Served;
            };
            match &loading.interpreter {
                None => Look::Refused("it is statically linked, so LD_PRELOAD does not reach it"),
                Some(loader) if loader.to_string_lossy().contains("musl") => {
                    Look::Refused("it is linked with musl, whose inner calls cannot be hooked")
                }
                Some(_) if looked.makes_calls(&mut file, &loading) => {
                    Look::Refused("it makes system calls itself, past libc")
                }
                Some(_) => Look::Served,
            }
        }
        Executable::Foreign | Executable::Unknown => Look::Served,
    }
}

/// The program in a script's first line.
fn interpreter(mut file: File) -> Option<PathBuf> {
    file.seek(SeekFrom::Start(2)).ok()?;
    let mut line = String::new();
    BufReader::new(file.take(FIRST_LINE)).read_line(&mut line).ok()?;
    line.split_ascii_whitespace().next().map(PathBuf::from)
}

impl Looked {
    /// Whether the program's own code has a `syscall` instruction.
    fn makes_calls(&self, file: &mut File, loading: &Loading) -> bool {
        let Ok(metadata) = file.metadata() else { return false };
        let key = (metadata.dev(), metadata.ino(), metadata.mtime());
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        known.unwrap_or_else(|| {
            let found = loading.code.iter().any(|(at, length)| has_call(file, *at, *length));
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found);
            found
        })
    }
}

/// Bytes before a place from which it is decoded up to there.
const RUN_UP: usize = 64;

/// Looks through part of a file in pieces that overlap by [`RUN_UP`].
fn has_call(file: &mut File, at: u64, length: u64) -> bool {
    const PIECE: usize = 1 << 20;
    if file.seek(SeekFrom::Start(at)).is_err() {
        return false;
    }
    let mut code = file.take(length);
    let mut piece = Vec::new();
    loop {
        let kept = piece.len();
        if (&mut code).take(PIECE as u64).read_to_end(&mut piece).is_err() || piece.len() == kept {
            return false;
        }
        // What the last piece ended with was looked at, but for its last byte.
        let new = kept.saturating_sub(1);
        let found = piece[new..].windows(2).enumerate().filter(|(_, pair)| *pair == CALL);
        if found
            .map(|(index, _)| new + index)
            .any(|place| is_instruction(&piece, place))
        {
            return true;
        }
        piece.drain(..piece.len().saturating_sub(RUN_UP));
    }
}

/// The `syscall` instruction.
const CALL: [u8; 2] = [0x0f, 0x05];

/// Whether a call is made at `place`, and it is not only bytes inside of another instruction, or a table, that look like one.
/// Decoding x86 falls into step after a few instructions wherever it begins, so most of many beginnings meet a true one; and
/// somewhere before it the call's number was put into rax.
fn is_instruction(code: &[u8], place: usize) -> bool {
    let starts = place.saturating_sub(RUN_UP)..place;
    let tried = starts.len();
    let (mut met, mut numbered) = (0, 0);
    for start in starts {
        let mut decoder = Decoder::new(64, &code[start..], DecoderOptions::NONE);
        let mut has_number = false;
        while start + decoder.position() < place {
            has_number |= sets_rax(&decoder.decode());
        }
        if start + decoder.position() == place {
            met += 1;
            numbered += usize::from(has_number);
        }
    }
    met * 2 > tried && numbered * 2 > met
}

fn sets_rax(instruction: &Instruction) -> bool {
    matches!(
        instruction.mnemonic(),
        Mnemonic::Mov | Mnemonic::Xor | Mnemonic::Lea | Mnemonic::Pop | Mnemonic::Movsxd | Mnemonic::Movzx
    ) && matches!(instruction.op0_register(), Register::RAX | Register::EAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(path: &str) -> Option<String> {
        refusal(Path::new(path), &Looked::default())
    }

    #[test]
    fn ordinary_programs_are_served() {
        for program in [
            "/bin/bash",
            "/usr/bin/env",
            "/usr/bin/perl",
            "/usr/bin/git",
            "/usr/bin/curl",
            "/usr/bin/node",
            "/usr/bin/java",
        ] {
            assert_eq!(why(program), None, "{program}");
        }
    }

    #[test]
    fn what_is_not_served_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("x.c");
        std::fs::write(
            &source,
            "int main(void) { long r = 39; __asm__ volatile(\"syscall\" : \"+a\"(r) : : \"rcx\", \"r11\"); return r < 0; }",
        )
        .unwrap();
        for (flag, reason) in [("-static", "statically linked"), ("-pie", "system calls itself")] {
            let program = directory.path().join(flag);
            let built = std::process::Command::new("gcc")
                .args([flag, "-o"])
                .args([&program, &source])
                .status();
            assert!(built.unwrap().success());
            let why = refusal(&program, &Looked::default()).unwrap();
            assert!(why.contains(reason), "{why}");
            let script = directory.path().join("script");
            std::fs::write(&script, format!("#! {} -x\n", program.display())).unwrap();
            assert!(refusal(&script, &Looked::default()).unwrap().contains(reason));
        }
        assert_eq!(why("/nowhere"), None);
    }
}
