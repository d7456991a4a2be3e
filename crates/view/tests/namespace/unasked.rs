//! Files that the kernel opens without asking: who may not, what was replaced meanwhile, who reads what.

use std::path::PathBuf;

use wire::message::{Attributes, FileAnswer, FileOperation};

use super::*;

fn python(stand: &mut Stand, script: &str) -> String {
    stand.run(As::Root, &["/usr/bin/python3", "-c", script])
}

/// Bytes of which each tells where it is.
fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let numbers = (0..).map(|n: u32| (n ^ seed).wrapping_mul(2_654_435_761));
    numbers.flat_map(u32::to_le_bytes).take(length).collect()
}

/// A file that the pod never opens: its open is done at once, and it is the read that waits.
const OPENED: &str = "
import os, signal
class Late(Exception): pass
def late(*_): raise Late()
signal.signal(signal.SIGALRM, late)
def opened():
    os.stat('/data/hung'); signal.setitimer(signal.ITIMER_REAL, 3)
    try: return os.open('/data/hung', os.O_RDONLY)
    except Late: return None
    finally: signal.setitimer(signal.ITIMER_REAL, 0)
# What was looked at lapses after a second, and a machine may take longer than that.
fd = next((fd for fd in (opened() for _ in range(5)) if fd is not None), None)
print(fd is not None)
";

#[test]
fn an_open_of_what_is_known_asks_nobody() {
    let fill = |root: &Path| drop(write(root, "/data/hung", "x"));
    let mut stand = Stand::new(fill);
    assert_eq!(python(&mut stand, OPENED), "True\n");
    // Where something may be written, the pod is asked who may.
    let mut stand = Stand::new(fill);
    stand.rules.write = vec![PathPattern::Prefix("/elsewhere".into())];
    assert_eq!(python(&mut stand, OPENED), "False\n");
}

/// As files in /proc are.
fn sizeless(_: &FileOperation, mut answer: FileAnswer) -> FileAnswer {
    let empty = |attributes: &mut Attributes| {
        if attributes.mode & libc::S_IFMT == libc::S_IFREG {
            (attributes.size, attributes.blocks) = (0, 0);
        }
    };
    match &mut answer {
        FileAnswer::Walk { steps, content } => {
            for step in steps {
                step.found.iter_mut().for_each(|(attributes, _)| empty(attributes));
            }
            *content = None;
        }
        FileAnswer::Tree(branches) => {
            let entries = branches.iter_mut().flat_map(|branch| &mut branch.entries);
            entries.for_each(|entry| empty(&mut entry.attributes));
        }
        FileAnswer::Open { attributes, .. } => empty(attributes),
        _ => {}
    }
    answer
}

#[test]
fn what_does_not_say_its_size_is_read_whole() {
    let mut stand = Stand::new(|root| {
        write(root, "/host/proc/loadavg", "0.1 0.2 0.3\n");
    });
    *stand.pod.twist.lock().unwrap() = Some(sizeless);
    stand.rules.sizeless = vec!["/proc".into(), "/host/proc".into()];
    assert_eq!(
        stand.sh(As::Root, "stat -c %s /host/proc/loadavg; cat /host/proc/loadavg"),
        "0\n0.1 0.2 0.3\n"
    );
}

#[test]
fn who_may_not_read_is_told_at_the_open() {
    let script = "
import os
def open(path, flags):
    try: os.close(os.open(path, flags)); return 'opened'
    except OSError as error: return error.strerror
for _ in range(2):
    print(os.stat('/data/denied').st_size, os.access('/data/denied', os.R_OK), open('/data/denied', os.O_PATH))
    print(os.listdir('/data'), open('/data/denied', os.O_RDONLY), open('/data/fine', os.O_RDONLY))
";
    for who in [As::Root, As::Nobody] {
        let mut stand = Stand::new(|root| {
            write(root, "/data/denied", "secret");
            write(root, "/data/fine", "x");
        });
        let said = stand.run(who, &["/usr/bin/python3", "-c", script]);
        let once = "6 False opened\n['denied', 'fine'] Permission denied opened\n";
        assert_eq!(said.replace("['fine', 'denied']", "['denied', 'fine']"), once.repeat(2));
    }
}

fn replace(stand: &Stand, path: &str, content: &[u8]) {
    let at: PathBuf = stand.root.path().join(path.trim_start_matches('/'));
    let new = write(stand.root.path(), &format!("{path}.new"), content);
    std::fs::rename(new, at).unwrap();
}

#[test]
fn who_has_a_file_open_reads_that_one_to_its_end() {
    let (old, new) = (pattern(8 << 20, 0), pattern(8 << 20, 7));
    let mut stand = Stand::new(|root| {
        write(root, "/data/log", &old);
    });
    let script = "
import os, sys, hashlib, time
def digest(data): return hashlib.sha256(data).hexdigest()
held = os.open('/data/log', os.O_RDONLY); first = os.pread(held, 1000, 0)
print('read'); sys.stdout.flush(); sys.stdin.readline()
time.sleep(1.1)
fresh = os.open('/data/log', os.O_RDONLY)
print(os.fstat(held).st_nlink, os.fstat(fresh).st_nlink)
print(digest(b''.join(iter(lambda: os.read(fresh, 1 << 20), b''))))
print(digest(b''.join(iter(lambda: os.read(held, 1 << 20), b''))))
";
    let mut guest = stand.spawn(As::Root, &["/usr/bin/python3", "-c", script]).unwrap();
    assert_eq!(line(&mut guest.child), "read\n");
    replace(&stand, "/data/log", &new);
    go_on(&mut guest.child);
    let said = String::from_utf8(guest.child.wait_with_output().unwrap().stdout).unwrap();
    let digest = |data: &[u8]| {
        use std::io::Write as _;
        let mut sum = std::process::Command::new("sha256sum")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = sum.stdin.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || input.write_all(data).unwrap());
            String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap()[..64].to_owned()
        })
    };
    assert_eq!(said, format!("0 1\n{}\n{}\n", digest(&new), digest(&old)));
}

/// Known, then replaced, then opened: within the second in which what is known is believed. Either file will do, and no error.
#[test]
fn a_file_that_was_replaced_just_now_can_be_read() {
    let mut stand = Stand::new(|root| {
        write(root, "/data/big", pattern(1 << 20, 0));
    });
    let script = "
import os, sys
os.stat('/data/big'); print('known'); sys.stdout.flush(); sys.stdin.readline()
print(len(open('/data/big', 'rb').read()))
";
    let mut guest = stand.spawn(As::Root, &["/usr/bin/python3", "-c", script]).unwrap();
    assert_eq!(line(&mut guest.child), "known\n");
    replace(&stand, "/data/big", &pattern(1 << 20, 3));
    go_on(&mut guest.child);
    assert_eq!(line(&mut guest.child), format!("{}\n", 1 << 20));
    guest.child.wait().unwrap();
}

#[test]
fn several_who_read_one_file_are_read_ahead_of() {
    const LENGTH: usize = 24 << 20;
    let content = pattern(LENGTH, 0);
    let mut stand = Stand::new(|root| {
        write(root, "/data/big", &content);
    });
    // Three readers in turn, each in its own third.
    let script = "
import os
fds = [os.open('/data/big', os.O_RDONLY) for _ in range(3)]
for at in range(0, 8 << 20, 128 << 10):
    for n, fd in enumerate(fds):
        data = os.pread(fd, 128 << 10, (n * 8 << 20) + at); assert len(data) == 128 << 10
        word = int.from_bytes(data[:4], 'little'); assert word == ((n * 8 << 20) + at) // 4 * 2654435761 % 2**32
print('read')
";
    assert_eq!(python(&mut stand, script), "read\n");
    let reads = stand.pod.take_calls();
    let reads = reads.iter().filter(|call| call.starts_with("Read ")).count();
    // 98: chunks of 512 KiB, some of them twice where two thirds meet. With one reader told apart 191, of what each asked for.
    assert!(reads < 140, "{reads}");
}

#[test]
fn what_nobody_knows_any_more_is_closed_in_the_pod() {
    let mut stand = Stand::new(|root| {
        for number in 0..300 {
            write(root, &format!("/data/{number}"), vec![7; 600 << 10]);
        }
    });
    let mut guest = stand
        .spawn(As::Root, &["/bin/sh", "-c", "cat /data/* | wc -c; read x"])
        .unwrap();
    assert_eq!(line(&mut guest.child), format!("{}\n", 300 * (600 << 10)));
    wait_for("all but 128 files to be closed", || {
        (stand.pod.open_handles() <= 128).then_some(())
    });
    go_on(&mut guest.child);
    guest.child.wait().unwrap();
}

#[test]
fn a_large_file_that_grew_is_read_ahead_again() {
    let mut content = pattern(8 << 20, 0);
    let mut stand = Stand::new(|root| {
        write(root, "/data/log", &content);
    });
    let script = "cat /data/log | sha256sum; read x; sleep 1.1; cat /data/log | sha256sum";
    let mut guest = stand.spawn(As::Root, &["/bin/sh", "-c", script]).unwrap();
    let first = line(&mut guest.child);
    content.extend_from_slice(b"more");
    write(stand.root.path(), "/data/log", &content);
    stand.pod.take_calls();
    go_on(&mut guest.child);
    let second = line(&mut guest.child);
    assert!(first != second && second.ends_with("  -\n"), "{first}{second}");
    let reads = stand.pod.take_calls();
    let reads = reads.iter().filter(|call| call.starts_with("Read ")).count();
    // 17 chunks of 512 KiB and one before; otherwise what the kernel reads ahead at a time, 33 pieces or more.
    assert!(reads < 26, "{reads}");
    guest.child.wait().unwrap();
}
