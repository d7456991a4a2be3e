//! How many questions a program's files cost: each is a round trip where nothing else is under way.

use super::*;

/// Questions that a program in the view asked, without those that every start asks.
fn questions(stand: &Stand, kind: &str) -> Vec<String> {
    let calls = stand.pod.take_calls();
    calls.into_iter().filter(|call| call.starts_with(kind)).collect()
}

#[test]
fn a_deep_path_is_one_question() {
    for who in [As::Root, As::Nobody] {
        let mut stand = Stand::new(|root| {
            write(root, "/data/real/b/c/d/e/f/small", "deep\n");
            symlink("real", root.join("data/link")).unwrap();
        });
        // One program: a second one may come when what the first has asked is not believed any more.
        assert_eq!(stand.sh(who, "exec cat /data/link/b/c/d/e/f/small"), "deep\n");
        let calls = stand.pod.take_calls();
        let count = |kind: &str| calls.iter().filter(|call| call.starts_with(kind)).count();
        assert_eq!(
            (count("Walk"), count("Open"), count("ReadLink")),
            (1, 0, 0),
            "{calls:#?}"
        );
    }
}

/// 200 directories of 10 files, and what lies far from them.
fn packages(root: &Path) {
    for number in 0..2000 {
        let path = format!("/app/modules/package{:03}/module{number}.js", number / 10);
        write(root, &path, format!("module {number}\n"));
    }
    write(root, "/app/modules/package007/README.md", "not asked for\n");
}

const READ_ALL: &str = "for f in /app/modules/*/*.js; do read line < $f; echo $line; done | sort -u | wc -l";

#[test]
fn many_small_files_are_few_questions() {
    let mut stand = Stand::new(packages);
    *stand.pod.delay.lock().unwrap() = Duration::from_millis(20);
    assert_eq!(stand.sh(As::Root, READ_ALL), "2000\n");
    let calls = stand.pod.take_calls();
    let alone = calls
        .iter()
        .filter(|call| !call.starts_with("Contents") && !call.starts_with("Tree"));
    let alone: Vec<_> = alone.collect();
    assert!(
        alone.len() < 40,
        "{} questions for one thing each: {alone:#?}",
        alone.len()
    );
    assert!(calls.len() < 100, "{} questions", calls.len());
    assert!(
        !calls.iter().any(|call| call.contains("README")),
        "other kinds of files stay where they are"
    );
}

#[test]
fn what_has_lapsed_is_renewed_together() {
    let mut stand = Stand::new(packages);
    let script = format!("{READ_ALL}; read go; {READ_ALL}");
    let mut guest = stand.spawn(As::Root, &["/bin/sh", "-c", &script]).unwrap();
    assert_eq!(line(&mut guest.child), "2000\n");
    // What was asked before is believed for a second.
    std::thread::sleep(Duration::from_millis(1500));
    drop(stand.pod.take_calls());
    write(
        stand.root.path(),
        "/app/modules/package100/module1000.js",
        "module 1001\n",
    );
    go_on(&mut guest.child);
    assert_eq!(line(&mut guest.child), "1999\n", "a changed file is read anew");
    let calls = stand.pod.take_calls();
    assert!(calls.len() < 60, "{} questions: {calls:#?}", calls.len());
    guest.child.wait().unwrap();
}

/// A program that is started again and again asks for the directories above its files each time.
#[test]
fn what_lapses_alone_brings_its_directory() {
    let mut stand = Stand::new(|root| {
        for number in 0..400 {
            let path = format!("/srv/shop/a/b/c/modules/package{:02}/module{number}.js", number / 10);
            write(root, &path, "x\n");
        }
    });
    let script = "
import time
for _ in range(6):
    for n in range(400): open(f'/srv/shop/a/b/c/modules/package{n // 10:02}/module{n}.js').read()
    print(400, flush=True)
    time.sleep(1.05)
";
    let mut guest = stand.spawn(As::Root, &["/usr/bin/python3", "-c", script]).unwrap();
    for _ in 0..2 {
        assert_eq!(line(&mut guest.child), "400\n");
    }
    drop(stand.pod.take_calls());
    for _ in 0..4 {
        assert_eq!(line(&mut guest.child), "400\n");
    }
    let walks = questions(&stand, "Walk");
    assert!(walks.len() <= 2, "{walks:#?}");
    guest.child.wait().unwrap();
}

#[test]
fn a_file_that_hangs_keeps_nobody_else_waiting() {
    let mut stand = Stand::new(|root| {
        for number in 0..50 {
            write(root, &format!("/data/file{number}.txt"), "x\n");
        }
        write(root, "/data/hung.txt", "never\n");
    });
    let said = stand.sh(
        As::Root,
        "for f in /data/file*.txt; do read line < $f; echo $line; done | wc -l",
    );
    assert_eq!(said, "50\n");
    let asked = questions(&stand, "Contents");
    assert!(
        asked.iter().any(|call| call.contains("hung.txt")),
        "nothing was brought along: {asked:#?}"
    );
}

#[test]
fn what_is_no_plain_file_is_not_brought_along() {
    let mut stand = Stand::new(|root| {
        for name in ["one.txt", "two.txt"] {
            write(root, &format!("/data/{name}"), "x\n");
        }
        let fifo = root.join("data/fifo.txt");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        write(root, "/data/empty.txt", "");
        write(root, "/data/long.txt", vec![0; 300 << 10]);
    });
    assert_eq!(
        stand.sh(
            As::Root,
            "ls /data | wc -l; cat /data/one.txt; sleep 2; cat /data/two.txt"
        ),
        "5\nx\nx\n"
    );
    let asked = questions(&stand, "Contents").join("\n");
    assert!(asked.contains("two.txt"), "{asked}");
    for name in ["fifo.txt", "empty.txt", "long.txt"] {
        assert!(!asked.contains(name), "{asked}");
    }
}

#[test]
fn the_next_page_of_a_directory_is_on_its_way_while_the_app_has_this_one() {
    let mut stand = Stand::new(|root| {
        for number in 0..12_000 {
            write(root, &format!("/many/entry-{number:05}"), "");
        }
    });
    // From the third page on: after two, none is asked for that the app has not come near.
    let script = "import os\nnames = os.scandir('/many')\nnext(names)\ninput()\nprint(1 + len(list(names)))";
    let mut guest = stand.spawn(As::Root, &["/usr/bin/python3", "-c", script]).unwrap();
    wait_for("the second page", || {
        let calls = stand.pod.calls.lock().unwrap();
        calls.iter().any(|call| call.contains("cookie: 5000")).then_some(())
    });
    assert!(
        !questions(&stand, "List")
            .iter()
            .any(|call| call.contains("cookie: 10000"))
    );
    go_on(&mut guest.child);
    assert_eq!(line(&mut guest.child), "12000\n");
    guest.child.wait().unwrap();
}

/// A directory that is too large for one answer, whose names lapse while they are looked at: not a question a file.
#[test]
fn what_lapsed_in_a_large_directory_is_renewed_together() {
    let mut stand = Stand::new(|root| {
        for number in 0..12_000 {
            write(root, &format!("/many/entry-{number:05}"), "");
        }
    });
    let script = "
import os, time
names = [entry.path for entry in os.scandir('/many')]
for name in names: os.stat(name)
print('seen', flush=True)
input()
for name in names: os.stat(name)
print(len(names))";
    let mut guest = stand.spawn(As::Root, &["/usr/bin/python3", "-c", script]).unwrap();
    assert_eq!(line(&mut guest.child), "seen\n");
    std::thread::sleep(Duration::from_millis(1500));
    let before = stand.pod.take_calls().len();
    go_on(&mut guest.child);
    assert_eq!(line(&mut guest.child), "12000\n");
    guest.child.wait().unwrap();
    let calls = stand.pod.take_calls();
    assert!(
        calls.len() < 200,
        "{before} questions and then {}: {:#?}",
        calls.len(),
        &calls[..20]
    );
}
