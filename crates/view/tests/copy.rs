//! The copy backend, and the choice of a backend.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rules::{FileRules, PathPattern};
use support::DEADLINE;
use support::pod::{LocalPod, write};
use tempfile::TempDir;
use view::copy::Limits;
use view::{Backend, CopyView, Errno, Fetch};

struct Stand {
    pod: Arc<LocalPod>,
    root: TempDir,
    cache: TempDir,
    view: Arc<CopyView>,
    warnings: Arc<Mutex<Vec<String>>>,
}

fn stand(limits: Limits, rules: FileRules, fill: impl FnOnce(&Path)) -> Stand {
    let (root, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fill(root.path());
    let pod = LocalPod::new(root.path());
    let warnings = Arc::<Mutex<Vec<String>>>::default();
    let warned = Arc::clone(&warnings);
    let view = CopyView::new(
        Arc::clone(&pod) as _,
        Arc::new(rules),
        cache.path().join("files"),
        Arc::new(move |warning| warned.lock().unwrap().push(warning)),
    )
    .with_limits(limits);
    Stand {
        pod,
        root,
        cache,
        view: Arc::new(view),
        warnings,
    }
}

impl Stand {
    async fn content(&self, path: &str) -> Result<PathBuf, Errno> {
        self.view.fetch(Path::new(path), Fetch::Content).await
    }

    async fn attributes(&self, path: &str) -> Result<PathBuf, Errno> {
        self.view.fetch(Path::new(path), Fetch::Attributes).await
    }
}

#[tokio::test]
async fn files_come_whole_and_attributes_as_placeholders() {
    let big: Vec<u8> = (0..5_000_000_u32).map(|n| (n * 7 / 3) as u8).collect();
    let stand = stand(Limits::default(), FileRules::default(), |root| {
        write(root, "/data/small", "hello\n");
        let big = write(root, "/data/big", &big);
        std::fs::set_permissions(&big, PermissionsExt::from_mode(0o750)).unwrap();
        write(root, "/data/empty", "");
        std::fs::write(root.join("data").join(OsStr::from_bytes(b"n\xff")), "odd").unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("data/fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
    });
    let placeholder = stand.attributes("/data/big").await.unwrap();
    let (there, here) = (
        std::fs::metadata(stand.root.path().join("data/big")).unwrap(),
        std::fs::metadata(&placeholder).unwrap(),
    );
    assert_eq!(
        (here.len(), here.mode(), here.mtime(), here.mtime_nsec()),
        (there.len(), there.mode(), there.mtime(), there.mtime_nsec())
    );
    assert_eq!(here.blocks(), 0, "a placeholder takes no room");
    assert!(!stand.pod.take_calls().iter().any(|call| call.starts_with("Open")));

    let copied = stand.content("/data/big").await.unwrap();
    assert_eq!(copied, placeholder);
    assert_eq!(std::fs::metadata(&copied).unwrap().ino(), here.ino(), "another file");
    assert!(std::fs::read(&copied).unwrap() == big);
    assert_eq!(std::fs::metadata(&copied).unwrap().mtime(), there.mtime());
    assert_eq!(
        std::fs::read(stand.content("/data/small").await.unwrap()).unwrap(),
        b"hello\n"
    );
    assert_eq!(std::fs::read(stand.content("/data/empty").await.unwrap()).unwrap(), b"");
    let odd = stand
        .view
        .fetch(Path::new(OsStr::from_bytes(b"/data/n\xff")), Fetch::Content)
        .await
        .unwrap();
    assert_eq!(std::fs::read(odd).unwrap(), b"odd");
    let fifo = stand.content("/data/fifo").await.unwrap();
    assert!(std::fs::symlink_metadata(fifo).unwrap().file_type().is_fifo());
    assert_eq!(stand.content("/data/none").await, Err(Errno::NOENT));
    assert_eq!(stand.content("/data/small/x").await, Err(Errno::NOTDIR));
    // All of it is for this user alone.
    assert_eq!(
        std::fs::metadata(stand.cache.path().join("files")).unwrap().mode() & 0o7777,
        0o700
    );
}

#[tokio::test]
async fn directories_have_their_entries_and_lose_what_is_gone() {
    let stand = stand(
        Limits::default(),
        FileRules {
            hidden: vec![PathPattern::Prefix("/data/hidden".into())],
            ..FileRules::default()
        },
        |root| {
            write(root, "/data/one", "1");
            write(root, "/data/sub/two", "22");
            write(root, "/data/hidden", "x");
            symlink("sub/two", root.join("data/link")).unwrap();
        },
    );
    let names = |path: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let copied = stand.content("/data").await.unwrap();
    assert_eq!(names(&copied), ["link", "one", "sub"]);
    assert_eq!(std::fs::read_link(copied.join("link")).unwrap(), Path::new("sub/two"));
    assert_eq!(std::fs::metadata(copied.join("one")).unwrap().len(), 1);
    assert_eq!(stand.content("/data/hidden").await, Err(Errno::NOENT));
    // Seen anew after a second at most.
    std::fs::remove_file(stand.root.path().join("data/one")).unwrap();
    write(stand.root.path(), "/data/three", "333");
    let begun = std::time::Instant::now();
    while names(&stand.content("/data").await.unwrap()) != ["link", "sub", "three"] {
        assert!(begun.elapsed() < DEADLINE);
    }
    // A file becomes a directory and the other way round.
    std::fs::remove_dir_all(stand.root.path().join("data/sub")).unwrap();
    write(stand.root.path(), "/data/sub", "now a file");
    std::fs::remove_file(stand.root.path().join("data/three")).unwrap();
    write(stand.root.path(), "/data/three/x", "now a directory");
    let begun = std::time::Instant::now();
    loop {
        let (sub, x) = (stand.content("/data/sub").await, stand.content("/data/three/x").await);
        if let (Ok(sub), Ok(x)) = (sub, x)
            && sub.is_file()
        {
            assert_eq!(std::fs::read(sub).unwrap(), b"now a file");
            assert_eq!(std::fs::read(x).unwrap(), b"now a directory");
            break;
        }
        assert!(begun.elapsed() < DEADLINE);
    }
}

#[tokio::test]
async fn links_lead_where_the_app_sees_them_lead() {
    let stand = stand(Limits::default(), FileRules::default(), |root| {
        write(root, "/data/real/file", "real");
        symlink("real", root.join("data/relative")).unwrap();
        symlink("/data/real/file", root.join("data/absolute")).unwrap();
        symlink("/usr/share/doc", root.join("data/machine")).unwrap();
        symlink("../../../../data/real", root.join("data/up")).unwrap();
        symlink("loop", root.join("data/loop")).unwrap();
        write(root, "/conf/..v1/key", "one");
        symlink("..v1", root.join("conf/..data")).unwrap();
        symlink("..data/key", root.join("conf/key")).unwrap();
    });
    let root = stand.cache.path().join("files/root");
    let file = stand.content("/data/relative/file").await.unwrap();
    assert_eq!(file, root.join("data/real/file"));
    assert_eq!(std::fs::read(&file).unwrap(), b"real");
    assert_eq!(stand.content("/data/absolute").await.unwrap(), file);
    assert_eq!(stand.content("/data/up/../real/./file").await.unwrap(), file);
    assert_eq!(
        stand.content("/data/machine/x").await.unwrap(),
        Path::new("/usr/share/doc/x")
    );
    assert_eq!(stand.content("/data/loop").await, Err(Errno::LOOP));
    let link = stand.attributes("/data/absolute").await.unwrap();
    assert_eq!(std::fs::read_link(link).unwrap(), Path::new("/data/real/file"));
    assert_eq!(
        std::fs::read(stand.content("/conf/key").await.unwrap()).unwrap(),
        b"one"
    );
}

/// A pod that turns a link it has shown into a directory must not get anything written where the link led.
#[tokio::test]
async fn nothing_is_written_through_a_link() {
    let stand = stand(Limits::default(), FileRules::default(), |root| {
        std::fs::create_dir(root.join("data")).unwrap();
    });
    let outside = TempDir::new().unwrap();
    symlink(outside.path(), stand.root.path().join("data/trap")).unwrap();
    stand.attributes("/data/trap").await.unwrap();
    std::fs::remove_file(stand.root.path().join("data/trap")).unwrap();
    write(stand.root.path(), "/data/trap/file", "caught");
    let begun = std::time::Instant::now();
    let file = loop {
        match stand.content("/data/trap/file").await {
            Ok(file) if file.starts_with(stand.cache.path()) => break file,
            _ => assert!(begun.elapsed() < DEADLINE),
        }
    };
    assert_eq!(std::fs::read(file).unwrap(), b"caught");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_is_fetched_once_however_many_want_it() {
    let stand = stand(Limits::default(), FileRules::default(), |root| {
        write(root, "/data/file", vec![3; 1 << 20]);
    });
    *stand.pod.delay.lock().unwrap() = Duration::from_millis(20);
    let all: Vec<_> = (0..20)
        .map(|_| {
            let view = Arc::clone(&stand.view);
            tokio::spawn(async move { view.fetch(Path::new("/data/file"), Fetch::Content).await })
        })
        .collect();
    for one in all {
        assert_eq!(std::fs::metadata(one.await.unwrap().unwrap()).unwrap().len(), 1 << 20);
    }
    let opens = stand
        .pod
        .take_calls()
        .iter()
        .filter(|call| call.starts_with("Open"))
        .count();
    assert_eq!(opens, 1);
}

#[tokio::test]
async fn what_is_too_big_is_refused_with_a_warning() {
    let limits = Limits {
        file: 2 << 20,
        all: 3 << 20,
    };
    let stand = stand(limits, FileRules::default(), |root| {
        write(root, "/data/huge", vec![0; (2 << 20) + 1]);
        for name in ["a", "b"] {
            write(root, &format!("/data/{name}"), vec![0; 2 << 20]);
        }
    });
    assert_eq!(stand.content("/data/huge").await, Err(Errno::FBIG));
    assert_eq!(stand.content("/data/huge").await, Err(Errno::FBIG));
    assert!(stand.attributes("/data/huge").await.is_ok());
    assert!(stand.content("/data/a").await.is_ok());
    assert_eq!(stand.content("/data/b").await, Err(Errno::NOSPC));
    let warnings = stand.warnings.lock().unwrap();
    assert_eq!(
        *warnings,
        [
            "/data/huge was not copied from the pod: it has 3 MiB, files of at most 2 MiB are copied",
            "/data/b was not copied from the pod: with it more than 3 MiB would have been copied"
        ]
    );
    let left: usize = std::fs::read_dir(stand.cache.path().join("files/incoming"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "half files are removed");
}

#[tokio::test]
async fn a_changed_file_is_fetched_again_and_a_lost_link_is_an_error() {
    let stand = stand(Limits::default(), FileRules::default(), |root| {
        write(root, "/data/file", "one");
    });
    let open = std::fs::File::open(stand.content("/data/file").await.unwrap()).unwrap();
    write(stand.root.path(), "/data/file", "two!");
    let begun = std::time::Instant::now();
    while std::fs::read(stand.content("/data/file").await.unwrap()).unwrap() != b"two!" {
        assert!(begun.elapsed() < DEADLINE);
    }
    // Who had the old one open still reads it.
    assert_eq!(std::io::read_to_string(open).unwrap(), "one");
    stand.pod.lost.store(true, Ordering::SeqCst);
    // That it is not there is believed for a second.
    let begun = std::time::Instant::now();
    while stand.content("/data/other").await == Err(Errno::NOENT) {
        assert!(begun.elapsed() < DEADLINE);
    }
    assert_eq!(stand.content("/data/other").await, Err(Errno::IO));
}

fn choose() -> String {
    Backend::of(view::try_namespace(false, Ok(())), || view::try_fusermount(false)).to_string()
}

/// What works for an unprivileged user depends on /dev/fuse alone here.
#[test]
fn the_backend_is_chosen_and_the_reason_said() {
    support::need_root();
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(choose(), "files: mount namespace");
    println!("choosing took {:?}", begun.elapsed());
    let refused = Backend::of(Err("nobody may".to_owned()), || view::try_fusermount(false));
    let aside = "files: mounted aside by fusermount3, because nobody may";
    assert_eq!(refused.to_string(), aside, "the package fuse3 has it");
    let as_user = |prepare: fn() -> std::io::Result<()>| support::guest::said_by_child(prepare, choose);
    assert_eq!(
        as_user(support::guest::become_nobody),
        "files: mount namespace in a user namespace"
    );
    let mode = std::fs::metadata("/dev/fuse").unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o600, "this machine's /dev/fuse is not what the test is about");
    assert_eq!(
        as_user(support::guest::drop_rights),
        "files: copied on first use, because /dev/fuse is not usable by this user (mode 0600)"
    );
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_files_are_few_questions() {
    let stand = stand(Limits::default(), FileRules::default(), |root| {
        for number in 0..1000 {
            write(
                root,
                &format!("/data/part{:02}/text{number}.txt", number / 50),
                format!("{number}\n"),
            );
        }
    });
    *stand.pod.delay.lock().unwrap() = Duration::from_millis(20);
    for part in 0..20 {
        stand.content(&format!("/data/part{part:02}")).await.unwrap();
        for number in part * 50..part * 50 + 50 {
            let path = format!("/data/part{part:02}/text{number}.txt");
            let content = std::fs::read_to_string(stand.content(&path).await.unwrap()).unwrap();
            assert_eq!(content, format!("{number}\n"));
        }
    }
    let calls = stand.pod.take_calls();
    assert!(calls.len() < 200, "{} questions: {calls:#?}", calls.len());
}
