//! What is in files and directories: names, sizes, changes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use super::*;

#[test]
fn names_that_are_no_text() {
    let name = OsStr::from_bytes(b"caf\xe9 \n\xff");
    let mut stand = Stand::new(|root| {
        shop(root);
        std::fs::write(root.join("app").join(name), "odd\n").unwrap();
    });
    let said = stand.sh(
        As::Root,
        "cd /app; cat caf*; find . -name 'caf*' -print0 | xargs -0 cat; ls | wc -c",
    );
    assert!(said.starts_with("odd\nodd\n"), "{said}");
}

#[test]
fn big_files_are_read_whole_however_they_are_read() {
    let content: Vec<u8> = (0..20_000_000_u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes())
        .take(30 << 20)
        .collect();
    let mut stand = Stand::new(|root| {
        write(root, "/data/big", &content);
        write(root, "/data/edge", &content[..128 << 10]);
        write(root, "/data/small", &content[..7000]);
        write(root, "/data/empty", "");
    });
    let here = stand.root.path().join("data");
    let sums = stand.sh(As::Root, "cd /data; sha256sum big edge small empty; dd if=big bs=1000 2>/dev/null | sha256sum; tail -c 5000 big | sha256sum");
    let expect = std::process::Command::new("/bin/sh")
        .args([
            "-c",
            "sha256sum big edge small empty; sha256sum < big; tail -c 5000 big | sha256sum",
        ])
        .current_dir(&here)
        .output()
        .unwrap();
    assert_eq!(sums, String::from_utf8_lossy(&expect.stdout));
    let script = "
import mmap, hashlib, os
f = open('/data/big', 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
print(hashlib.sha256(m).hexdigest(), hashlib.sha256(open('/data/big', 'rb').read()).hexdigest())
d = os.open('/data', os.O_RDONLY | os.O_DIRECTORY)
g = os.open('small', os.O_RDONLY, dir_fd=d); print(len(os.read(g, 100000)), sorted(os.listdir(d)))
big = os.open('/data/big', os.O_RDONLY)
import random; random.seed(1); local = open('/proc/self/fd/%d' % big, 'rb')
for _ in range(200):
    at = random.randrange(0, 30 << 20); n = random.randrange(1, 300000)
    assert os.pread(big, n, at) == m[at:at+n]
";
    let said = stand.run(As::Root, &["/usr/bin/python3", "-c", script]);
    let sum = sums.split_whitespace().next().unwrap();
    assert_eq!(said, format!("{sum} {sum}\n7000 ['big', 'edge', 'empty', 'small']\n"));
    stand.served_to_the_end();
    wait_for("the agent's handles to be closed", || {
        (stand.pod.open_handles() == 0).then_some(())
    });
}

#[test]
fn reads_one_after_the_other_are_read_ahead() {
    // Long, so that a busy machine's own time does not count.
    const DELAY: Duration = Duration::from_millis(250);
    let mut stand = Stand::new(|root| {
        write(root, "/data/big", vec![7; 32 << 20]);
    });
    *stand.pod.delay.lock().unwrap() = DELAY;
    let begun = Instant::now();
    assert_eq!(
        stand.sh(As::Root, "wc -c < /data/big; cat /data/big | wc -c"),
        format!("{0}\n{0}\n", 32 << 20)
    );
    let took = begun.elapsed();
    // A chunk of 512 KiB a round trip would take 64 of them, always one ahead 32.
    println!("32 MiB at {DELAY:?}: {took:?}");
    assert!(took < 24 * DELAY, "{took:?}");
}

#[test]
fn a_directory_of_a_hundred_thousand() {
    let mut stand = Stand::new(|root| {
        std::fs::create_dir(root.join("many")).unwrap();
        for number in 0..100_000 {
            std::fs::File::create(root.join(format!("many/entry-{number:06}"))).unwrap();
        }
    });
    let begun = Instant::now();
    let said = stand.sh(
        As::Root,
        "ls -f /many | wc -l; find /many -type f | wc -l; ls /many | sort -u | md5sum",
    );
    println!("100000 entries three times: {:?}", begun.elapsed());
    let expect = std::process::Command::new("/bin/sh")
        .args(["-c", "ls | sort -u | md5sum"])
        .current_dir(stand.root.path().join("many"))
        .output()
        .unwrap();
    assert_eq!(
        said,
        format!("100002\n100000\n{}", String::from_utf8_lossy(&expect.stdout))
    );
}

#[test]
fn a_long_listing_costs_few_round_trips() {
    let mut stand = Stand::new(|root| {
        for number in 0..1000 {
            write(root, &format!("/many/entry-{number:04}"), "x");
        }
    });
    assert_eq!(
        stand.sh(As::Root, "ls -l /many | wc -l; cat /many/entry-0500"),
        "1001\nx"
    );
    // Nobody waits for what is brought along.
    let mut calls = stand.pod.take_calls();
    calls.retain(|call| !call.starts_with("Contents"));
    assert!(calls.len() <= 6, "{} calls: {calls:#?}", calls.len());
}

#[test]
fn a_swapped_config_map_is_seen() {
    let mut stand = Stand::new(|root| {
        write(root, "/conf/..v1/key", "one\n");
        write(root, "/conf/..v2/key", "two\n");
        symlink("..v1", root.join("conf/..data")).unwrap();
        symlink("..data/key", root.join("conf/key")).unwrap();
    });
    let script = "cat /conf/key; read x; n=0; while test $(cat /conf/key) != two; do n=$((n+1)); done; echo seen";
    let mut guest = stand.spawn(As::Root, &["/bin/sh", "-c", script]).unwrap();
    assert_eq!(line(&mut guest.child), "one\n");
    let conf = stand.root.path().join("conf");
    symlink("..v2", conf.join("..new")).unwrap();
    std::fs::rename(conf.join("..new"), conf.join("..data")).unwrap();
    let begun = Instant::now();
    go_on(&mut guest.child);
    assert_eq!(line(&mut guest.child), "seen\n");
    println!("a swapped ConfigMap is seen after {:?}", begun.elapsed());
    assert!(begun.elapsed() < DEADLINE);
    guest.child.wait().unwrap();
}

#[test]
fn a_file_that_grows_is_read_on_and_a_replaced_one_is_new() {
    let mut stand = Stand::new(|root| {
        write(root, "/data/log", "first\n");
        write(root, "/etc/hosts", "1.1.1.1 old\n");
    });
    let script = "exec 3< /data/log; cat <&3; cat /etc/hosts; read x
        until cat <&3 | grep second; do :; done
        until grep new /etc/hosts; do :; done";
    let mut guest = stand.spawn(As::Root, &["/bin/sh", "-c", script]).unwrap();
    assert_eq!(line(&mut guest.child), "first\n");
    assert_eq!(line(&mut guest.child), "1.1.1.1 old\n");
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(stand.root.path().join("data/log"))
        .unwrap();
    log.write_all(b"second\n").unwrap();
    // As an editor does: another inode at the place of a mounted file.
    write(stand.root.path(), "/etc/hosts.new", "1.1.1.1 new\n");
    std::fs::rename(
        stand.root.path().join("etc/hosts.new"),
        stand.root.path().join("etc/hosts"),
    )
    .unwrap();
    go_on(&mut guest.child);
    assert_eq!(line(&mut guest.child), "second\n");
    assert_eq!(line(&mut guest.child), "1.1.1.1 new\n");
    guest.child.wait().unwrap();
}

#[test]
fn inode_numbers_are_the_pods_and_stay() {
    let mut stand = Stand::new(|root| {
        write(root, "/data/a", "x");
        std::fs::hard_link(root.join("data/a"), root.join("data/b")).unwrap();
    });
    let inode = std::fs::metadata(stand.root.path().join("data/a")).unwrap().ino();
    let said = stand.sh(As::Root, "stat -c '%i %h' /data/a /data/b; ls -i /data");
    assert_eq!(said, format!("{inode} 2\n{inode} 2\n{inode} a\n{inode} b\n"));
}
