//! Killed readers, signals, a lost server, a set-up that fails.

use super::*;

/// A reader that hangs in the pod and is killed must not stay in uninterruptible sleep.
#[test]
fn a_killed_reader_goes_at_once() {
    for (who, script) in [
        (As::Root, "cat /data/hung"),
        (As::Root, "ls /data/hung-directory"),
        (As::Nobody, "stat /data/hung-stat"),
    ] {
        let mut stand = Stand::new(|root| {
            write(root, "/data/hung", "x");
            write(root, "/data/hung-directory/x", "x");
            write(root, "/data/hung-stat", "x");
        });
        let mut guest = stand.spawn(who, &["/bin/sh", "-c", &format!("exec {script}")]).unwrap();
        wait_for("the reader to hang", || {
            (stand.pod.hung.load(Ordering::SeqCst) > 0).then_some(())
        });
        let begun = Instant::now();
        guest.child.kill().unwrap();
        wait_for("the killed reader to end", || guest.child.try_wait().unwrap());
        println!("{script}: killed reader gone after {:?}", begun.elapsed());
        assert!(begun.elapsed() < DEADLINE);
        stand.served_to_the_end();
    }
}

#[test]
fn a_signal_interrupts_a_hung_read() {
    let mut stand = Stand::new(|root| {
        write(root, "/data/hung", "x");
    });
    let script = "
import signal, sys
class Stop(Exception): pass
def stop(*_): raise Stop()
signal.signal(signal.SIGALRM, stop); signal.setitimer(signal.ITIMER_REAL, 0.2)
try: open('/data/hung')
except Stop: print('interrupted')
";
    let begun = Instant::now();
    assert_eq!(
        stand.run(As::Root, &["/usr/bin/python3", "-c", script]),
        "interrupted\n"
    );
    assert!(begun.elapsed() < DEADLINE);
}

#[test]
fn a_killed_server_and_a_lost_link_are_errors_and_no_hang() {
    for (kill, expect) in [
        (true, "Transport endpoint is not connected"),
        (false, "Input/output error"),
    ] {
        let mut stand = Stand::new(|root| {
            write(root, "/data/one", "one\n");
            write(root, "/data/two", "two\n");
            write(root, "/data/hung", "x");
        });
        let script = "cat /data/one; cat /data/hung & read x; cat /data/two 2>&1; ls /data 2>&1; wait; echo end";
        let mut guest = stand.spawn(As::Root, &["/bin/sh", "-c", script]).unwrap();
        assert_eq!(line(&mut guest.child), "one\n");
        wait_for("the reader to hang", || {
            (stand.pod.hung.load(Ordering::SeqCst) > 0).then_some(())
        });
        let begun = Instant::now();
        if kill {
            stand.kill_server();
        } else {
            // What hangs is the link's to fail; here only new operations are.
            stand.pod.lost.store(true, Ordering::SeqCst);
        }
        go_on(&mut guest.child);
        let said = line(&mut guest.child);
        assert!(said.contains(expect), "{said}");
        println!("kill {kill}: {} after {:?}", said.trim(), begun.elapsed());
        if !kill {
            stand.kill_server();
        }
        let output = wait_for("the program to end", || guest.child.try_wait().unwrap());
        assert!(output.success() && begun.elapsed() < DEADLINE);
    }
}

#[test]
fn a_set_up_that_fails_says_where() {
    let mut stand = stand();
    stand.prepare = Some(|| {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        // SAFETY: no other thread is there after fork.
        #[allow(unsafe_code)]
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        Ok(mount("inpod-test", "/dev", "tmpfs", MountFlags::empty(), c"mode=0755")?)
    });
    let error = stand.spawn(As::Root, &["/bin/true"]).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("cannot open /dev/fuse: No such file or directory"),
        "{error}"
    );
}
