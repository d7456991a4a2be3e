//! A real agent on a real target: its files, looked at and changed.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::{in_time, until, world};
use wire::message::{
    Bytes, Change, Changed, Create, FileAnswer, FileOperation, Object, ReplyBody, RequestBody, SetAttributes, Xattr,
    XattrKind,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_the_target() {
    let world = world();
    let session = common::direct(world.pod.pid).await;
    let files = session.files().await;
    let call = async |operation| in_time(files.call(operation)).await.unwrap();
    let path = |text: &str| Bytes(text.into());

    let FileAnswer::Open {
        attributes,
        handle,
        data,
    } = call(FileOperation::Open {
        path: path("/srv/token"),
        first: 4096,
    })
    .await
    else {
        panic!()
    };
    assert_eq!(
        (data.0.as_slice(), handle, attributes.size),
        (b"secret\n".as_slice(), None, 7)
    );

    // What does not fit keeps a handle.
    let large: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(world.pod.path("/srv/large"), &large).unwrap();
    let FileAnswer::Open {
        handle: Some(handle),
        data,
        ..
    } = call(FileOperation::Open {
        path: path("/srv/large"),
        first: 1000,
    })
    .await
    else {
        panic!()
    };
    let mut all = data.0;
    while all.len() < large.len() {
        let operation = FileOperation::Read {
            handle,
            offset: all.len() as u64,
            length: 300_000,
        };
        let FileAnswer::Read(bytes) = call(operation).await else {
            panic!()
        };
        assert!(!bytes.0.is_empty());
        all.extend(bytes.0);
    }
    assert!(all == large);
    let end = FileOperation::Read {
        handle,
        offset: 1_000_000,
        length: 10,
    };
    assert_eq!(call(end.clone()).await, FileAnswer::Read(Bytes::default()));
    assert_eq!(call(FileOperation::Close(handle)).await, FileAnswer::Closed);
    assert_eq!(call(end).await, FileAnswer::Failed(libc::EBADF));

    // A file without a size, and the target's own /proc/self.
    let FileAnswer::Open {
        attributes,
        handle: None,
        data,
    } = call(FileOperation::Open {
        path: path("/proc/self/status"),
        first: 65_536,
    })
    .await
    else {
        panic!()
    };
    assert_eq!(attributes.size, 0);
    assert!(
        String::from_utf8_lossy(&data.0).contains("Name:\tsleep"),
        "{}",
        String::from_utf8_lossy(&data.0)
    );

    std::os::unix::fs::symlink("/srv/token", world.pod.path("/srv/link")).unwrap();
    let stat = call(FileOperation::Stat(vec![
        path("/srv"),
        path("/srv/link"),
        path("/srv/none"),
    ]))
    .await;
    let FileAnswer::Stat(results) = stat else { panic!() };
    let kinds: Vec<_> = results
        .iter()
        .map(|it| it.as_ref().map(|it| it.mode & libc::S_IFMT).map_err(|it| *it))
        .collect();
    assert_eq!(kinds, [Ok(libc::S_IFDIR), Ok(libc::S_IFLNK), Err(libc::ENOENT)]);
    assert_eq!(
        call(FileOperation::ReadLink(path("/srv/link"))).await,
        FileAnswer::ReadLink(path("/srv/token"))
    );
    assert_eq!(
        call(FileOperation::ReadLink(path("/srv/token"))).await,
        FileAnswer::Failed(libc::EINVAL)
    );
    let denied = [
        ("/srv", libc::EISDIR),
        ("/dev/null", libc::EOPNOTSUPP),
        ("/srv/none", libc::ENOENT),
    ];
    for (name, errno) in denied {
        assert_eq!(
            call(FileOperation::Open {
                path: path(name),
                first: 0
            })
            .await,
            FileAnswer::Failed(errno),
            "{name}"
        );
    }
    // A FIFO without a writer does not hang.
    let fifo = world.pod.path("/srv/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let answer = call(FileOperation::Open {
        path: path("/srv/fifo"),
        first: 10,
    })
    .await;
    assert_eq!(answer, FileAnswer::Failed(libc::EOPNOTSUPP));
    assert!(matches!(
        call(FileOperation::StatFs).await,
        FileAnswer::StatFs { name_max: 255, .. }
    ));
    rustix::fs::setxattr(
        world.pod.path("/srv/token"),
        "trusted.inpod",
        b"yes",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let xattr = FileOperation::Xattr {
        path: path("/srv/token"),
        name: path("trusted.inpod"),
    };
    // As the target sees it: `trusted` is for CAP_SYS_ADMIN, which file threads never have.
    assert_eq!(call(xattr).await, FileAnswer::Failed(libc::ENODATA));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_bring_more_along() {
    let world = world();
    let session = common::direct(world.pod.pid).await;
    let files = session.files().await;
    let call = |operation| {
        let files = files.clone();
        async move { in_time(files.call(operation)).await.unwrap() }
    };
    let path = |text: &str| Bytes(text.into());
    let at = |name: &str| world.pod.path(name);
    std::fs::create_dir_all(at("/srv/real/deep")).unwrap();
    std::fs::write(at("/srv/real/deep/small"), "small").unwrap();
    std::fs::write(at("/srv/real/large"), vec![7; 200 << 10]).unwrap();
    std::os::unix::fs::symlink("real/deep", at("/srv/way")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("/srv/real/pipe"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();

    let walk = |name, known| FileOperation::Walk {
        path: path(name),
        known,
        first: 100,
    };
    let FileAnswer::Walk { steps, content } = call(walk("/srv/way/small", 1)).await else {
        panic!()
    };
    let names: Vec<_> = steps.iter().map(|step| String::from_utf8_lossy(&step.path.0)).collect();
    assert_eq!(
        names,
        ["/srv/way", "/srv/real", "/srv/real/deep", "/srv/real/deep/small"]
    );
    assert_eq!(steps[0].found.as_ref().unwrap().1, Some(path("real/deep")));
    assert_eq!(content, Some(path("small")));
    let FileAnswer::Walk { steps, content: None } = call(walk("/srv/none/below", 0)).await else {
        panic!()
    };
    assert_eq!(steps.last().unwrap().found, Err(libc::ENOENT));

    let tree = |names: &[&str], below, bytes| FileOperation::Tree {
        paths: names.iter().map(|name| path(name)).collect(),
        below,
        bytes,
    };
    for (below, bytes, expect) in [(true, 1 << 20, 2), (true, 0, 1), (false, 1 << 20, 1)] {
        let FileAnswer::Tree(branches) = call(tree(&["/srv/real", "/srv/none"], below, bytes)).await else {
            panic!()
        };
        assert_eq!(branches.len(), expect, "{branches:?}");
        assert_eq!(branches[0].entries.len(), 3);
    }
    // Other file systems are not entered: /proc is one.
    let FileAnswer::Tree(branches) = call(tree(&["/"], true, 1 << 20)).await else {
        panic!()
    };
    assert!(!branches.iter().any(|branch| branch.path.0.starts_with(b"/proc")));

    let names = [
        "/srv/real/deep/small",
        "/srv/real/large",
        "/srv/real/pipe",
        "/srv/way/small",
        "/srv/way",
        "/proc/self/stat",
    ];
    let FileAnswer::Contents(files) = call(FileOperation::Contents(names.map(path).to_vec())).await else {
        panic!()
    };
    let files: Vec<_> = files.into_iter().map(|file| file.map(|whole| whole.data)).collect();
    let (small, too_large, other) = (Ok(path("small")), Err(libc::EFBIG), Err(libc::EOPNOTSUPP));
    assert_eq!(
        files,
        [
            small.clone(),
            Ok(Bytes(vec![7; 200 << 10])),
            other.clone(),
            small,
            other,
            too_large
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_directory_in_parts() {
    let world = world();
    let session = common::direct(world.pod.pid).await;
    let files = session.files().await;
    let directory = world.pod.path("/srv/many");
    std::fs::create_dir(&directory).unwrap();
    for number in 0..9000 {
        std::fs::write(directory.join(format!("file-{number}")), "").unwrap();
    }
    std::os::unix::fs::symlink("file-0", directory.join("link")).unwrap();
    let (mut names, mut cookie, mut parts) = (std::collections::BTreeSet::new(), 0, 0);
    loop {
        let list = FileOperation::List {
            path: Bytes(b"/srv/many".to_vec()),
            cookie,
        };
        let FileAnswer::List { entries, next } = in_time(files.call(list)).await.unwrap() else {
            panic!()
        };
        parts += 1;
        for entry in entries {
            assert_eq!(entry.link.is_some(), entry.name.0 == b"link");
            assert!(names.insert(entry.name), "listed twice");
        }
        if next == 0 {
            break;
        }
        cookie = next;
    }
    assert_eq!(names.len(), 9001);
    assert!(parts > 1);
}

/// A target whose script becomes a `sleep` of user 1000 in the end.
async fn of_another_user(script: &str) -> common::Spawned {
    let target = common::Spawned::new(&["-m", "-p", "-f", "--mount-proc"], script, &[]);
    until("the target has changed its user", async || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", target.pid)).unwrap();
        status.contains("Uid:\t1000") && status.contains("Name:\tsleep")
    })
    .await;
    target
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_with_the_permissions_of_the_targets_user() {
    let script = "mount -t tmpfs none /srv; echo x > /srv/closed; chmod 600 /srv/closed; echo y > /srv/group; \
                  chgrp 4000 /srv/group; chmod 040 /srv/group; echo z > /srv/listed; chmod 644 /srv/listed; \
                  mkdir -m 700 /srv/directory; echo ready; \
                  exec setpriv --reuid 1000 --regid 1000 --groups 4000 sleep 1000";
    let target = of_another_user(script).await;
    // acl(5): user::rw-, user:1000:---, group::r--, mask::r--, other::r--
    let list: Vec<u8> = [
        (1_u16, 6_u16, u32::MAX),
        (2, 0, 1000),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 4, u32::MAX),
    ]
    .into_iter()
    .flat_map(|(tag, rights, id)| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat())
    .collect();
    let list = [&2_u32.to_le_bytes()[..], &list].concat();
    let listed = format!("/proc/{}/root/srv/listed", target.pid);
    rustix::fs::setxattr(
        listed,
        "system.posix_acl_access",
        &list,
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let session = common::direct(target.pid).await;
    let facts = session.facts().await;
    assert_eq!((facts.uid, facts.gid), (1000, 1000));
    let files = session.files().await;
    let open = async |path: &str| {
        let operation = FileOperation::Open {
            path: Bytes(path.into()),
            first: 10,
        };
        in_time(files.call(operation)).await.unwrap()
    };
    assert_eq!(open("/srv/closed").await, FileAnswer::Failed(libc::EACCES));
    assert!(matches!(open("/srv/group").await, FileAnswer::Open { data, .. } if data.0 == b"y\n"));
    assert_eq!(open("/srv/listed").await, FileAnswer::Failed(libc::EACCES));
    let paths = [
        "/srv/closed",
        "/srv/group",
        "/srv/listed",
        "/srv/directory",
        "/etc/passwd",
    ];
    let stat = FileOperation::Stat(paths.map(|path| Bytes(path.into())).into());
    let FileAnswer::Stat(found) = in_time(files.call(stat)).await.unwrap() else {
        panic!()
    };
    let unreadable: Vec<bool> = found.into_iter().map(|found| found.unwrap().unreadable).collect();
    assert_eq!(unreadable, [true, false, true, false, false]);
    let list = FileOperation::List {
        path: Bytes(b"/srv".to_vec()),
        cookie: 0,
    };
    let FileAnswer::List { entries, .. } = in_time(files.call(list)).await.unwrap() else {
        panic!()
    };
    let refused = entries.iter().filter(|entry| entry.attributes.unreadable);
    let mut refused: Vec<_> = refused.map(|entry| entry.name.0.as_slice()).collect();
    refused.sort_unstable();
    assert_eq!(refused, [b"closed", b"listed"]);
    // What needs more than the target's user has is the agent's own doing.
    assert!(matches!(session.call(RequestBody::Env).await, ReplyBody::Env(env) if !env.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_as_the_targets_user_and_inside_of_its_root() {
    let script = "mount -t tmpfs none /srv; mkdir -m 755 /srv/closed; mkdir -m 777 /srv/open; echo x > /srv/closed/file; \
                  ln -s / /srv/open/up; ln -s /etc/passwd /srv/open/away; mkfifo -m 666 /srv/open/fifo; echo ready; \
                  exec setpriv --reuid 1000 --regid 1000 --clear-groups sleep 1000";
    let target = of_another_user(script).await;
    let session = common::direct(target.pid).await;
    let files = session.files().await;
    let change = async |change| in_time(files.call(FileOperation::Change(change))).await.unwrap();
    let path = |text: &str| Bytes(text.into());
    let open = |at: &str, create: bool| Change::Open {
        path: path(at),
        read: true,
        truncate: false,
        create: create.then_some(Create {
            mode: 0o666,
            exclusive: false,
        }),
    };
    let refused = |errno| FileAnswer::Failed(errno);

    // Exactly the mode that was asked for: the app's umask is in it.
    let FileAnswer::Changed(Changed::Opened { attributes, handle }) = change(open("/srv/open/new", true)).await else {
        panic!("not made");
    };
    assert_eq!(
        (attributes.mode & 0o7777, attributes.uid, attributes.gid),
        (0o666, 1000, 1000)
    );
    let write = |append, data: &str| Change::Write {
        handle,
        offset: 0,
        append,
        data: Bytes(data.into()),
    };
    change(write(false, "begin")).await;
    let FileAnswer::Changed(Changed::Written { length: 4, attributes }) = change(write(true, " end")).await else {
        panic!("not written");
    };
    assert_eq!(attributes.size, 9);
    // By its handle also when its name is gone.
    let remove = |at: &str, directory| Change::Remove {
        path: path(at),
        directory,
    };
    assert_eq!(
        change(remove("/srv/open/new", false)).await,
        FileAnswer::Changed(Changed::Done)
    );
    let shorter = Change::Set {
        object: Object::Handle(handle),
        attributes: SetAttributes {
            size: Some(3),
            ..SetAttributes::default()
        },
    };
    assert!(matches!(
        change(shorter).await,
        FileAnswer::Changed(Changed::Now(now)) if (now.size, now.links) == (3, 0)
    ));

    // What the target's user may not.
    assert_eq!(change(open("/srv/closed/file", false)).await, refused(libc::EACCES));
    assert_eq!(change(open("/srv/closed/new", true)).await, refused(libc::EACCES));
    assert_eq!(change(remove("/srv/closed/file", false)).await, refused(libc::EACCES));
    let mode = Change::Set {
        object: Object::Path(path("/srv/closed/file")),
        attributes: SetAttributes {
            mode: Some(0o777),
            ..SetAttributes::default()
        },
    };
    assert_eq!(change(mode).await, refused(libc::EPERM));

    // No link is followed at the end, and none leads out on the way; no device or FIFO is touched.
    assert_eq!(change(open("/srv/open/away", false)).await, refused(libc::ELOOP));
    assert_eq!(change(open("/srv/open/away", true)).await, refused(libc::ELOOP));
    assert_eq!(change(open("/srv/open/fifo", false)).await, refused(libc::EOPNOTSUPP));
    assert_eq!(change(remove("/srv/open/..", true)).await, refused(libc::EINVAL));
    assert_eq!(change(remove("/", true)).await, refused(libc::EINVAL));
    let directory = Change::MakeDirectory {
        path: path("/srv/open/up/../../srv/open/here"),
        mode: 0o750,
    };
    assert!(matches!(
        change(directory).await,
        FileAnswer::Changed(Changed::Now(now)) if now.mode & 0o7777 == 0o750
    ));
    assert_eq!(
        change(remove("/srv/open/here", true)).await,
        FileAnswer::Changed(Changed::Done)
    );
    let rename = Change::Rename {
        from: path("/srv/open/away"),
        to: path("/srv/open/gone"),
        flags: 1 << 7,
    };
    assert_eq!(change(rename).await, refused(libc::EINVAL));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_attributes_as_the_targets_user() {
    let script = "mount -t tmpfs none /srv; mkdir -m 777 /srv/open; echo x > /srv/closed; chmod 600 /srv/closed; \
                  echo y > /srv/own; chown 1000 /srv/own; ln -s own /srv/link; ln -s /etc/passwd /srv/away; \
                  echo z > /srv/bare; echo ready; \
                  exec setpriv --reuid 1000 --regid 1000 --clear-groups sleep 1000";
    let target = of_another_user(script).await;
    let root = std::path::PathBuf::from(format!("/proc/{}/root", target.pid));
    let put = |at: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(root.join(at), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    put("srv/closed", "user.a", b"1");
    put("srv/bare", "trusted.a", b"1");
    put("srv/bare", "user.overlay.opaque", b"y");
    let session = common::direct(target.pid).await;
    let files = session.files().await;
    let call = async |operation| in_time(files.call(operation)).await.unwrap();
    let path = |text: &str| Bytes(text.into());
    let set = async |at: &str, name: &str, value: &[u8], flags| {
        call(FileOperation::Change(Change::SetXattr {
            path: path(at),
            name: path(name),
            value: Bytes(value.to_vec()),
            flags,
        }))
        .await
    };
    let remove = async |at: &str, name: &str| {
        let (path, name) = (path(at), path(name));
        call(FileOperation::Change(Change::RemoveXattr { path, name })).await
    };
    let get = async |at: &str, name: &str| {
        let (path, name) = (path(at), path(name));
        call(FileOperation::Xattr { path, name }).await
    };
    let refused = FileAnswer::Failed;
    let kinds = |answer| match answer {
        FileAnswer::Changed(Changed::Now(now)) => now.xattrs,
        other => panic!("{other:?}"),
    };

    assert!(kinds(set("/srv/own", "user.b", b"2", 0).await).has(XattrKind::User));
    assert_eq!(set("/srv/own", "user.b", b"3", 1).await, refused(libc::EEXIST));
    assert_eq!(set("/srv/own", "user.c", b"3", 2).await, refused(libc::ENODATA));
    assert_eq!(set("/srv/own", "user.c", b"3", 4).await, refused(libc::EINVAL));
    let long = vec![b'l'; 64 << 10];
    kinds(set("/srv/own", "user.long", &long, 0).await);
    // user::rw- user:99:rw- group::r-- mask::rw- other::r--
    let list = [
        &2_u32.to_le_bytes()[..],
        b"\x01\0\x06\0\xff\xff\xff\xff\x02\0\x06\0\x63\0\0\0\x04\0\x04\0\xff\xff\xff\xff",
        b"\x10\0\x06\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff",
    ]
    .concat();
    let FileAnswer::Changed(Changed::Now(now)) = set("/srv/own", "system.posix_acl_access", &list, 0).await else {
        panic!("no access list");
    };
    assert_eq!(now.mode & 0o777, 0o664);
    assert!(now.xattrs.has(XattrKind::Access) && !now.xattrs.has(XattrKind::Default));
    assert_eq!(get("/srv/own", "user.b").await, FileAnswer::Xattr(path("2")));
    assert_eq!(get("/srv/own", "user.long").await, FileAnswer::Xattr(Bytes(long)));

    let paths = [
        "/srv/own",
        "/srv/closed",
        "/srv/bare",
        "/srv/none",
        "/srv/link",
        "/srv/away",
    ];
    let FileAnswer::Xattrs(all) = call(FileOperation::Xattrs(paths.map(path).to_vec())).await else {
        panic!()
    };
    let shown = |name: &str, value: Option<&[u8]>| Xattr {
        name: path(name),
        value: value.map(|value| Bytes(value.to_vec())),
    };
    let mut own = all[0].clone().unwrap();
    own.sort_by(|one, other| one.name.cmp(&other.name));
    let expect = [
        shown("system.posix_acl_access", Some(&list)),
        shown("user.b", Some(b"2")),
        shown("user.long", None),
    ];
    assert_eq!(own, expect);
    // What may not be read is there all the same.
    assert_eq!(all[1], Ok(vec![shown("user.a", None)]));
    assert_eq!(get("/srv/closed", "user.a").await, refused(libc::EACCES));
    assert_eq!(all[2..], [Ok(vec![]), Err(libc::ENOENT), Ok(vec![]), Ok(vec![])]);

    // The same with the attributes of each.
    let FileAnswer::List { entries, .. } = call(FileOperation::List {
        path: path("/srv"),
        cookie: 0,
    })
    .await
    else {
        panic!()
    };
    for entry in entries {
        let expect = matches!(&*entry.name.0, b"own" | b"closed");
        assert_eq!(!entry.attributes.xattrs.is_empty(), expect, "{entry:?}");
    }

    for name in [
        "security.selinux",
        "trusted.a",
        "user.overlay.opaque",
        "system.nfs4_acl",
        "x",
    ] {
        assert_eq!(set("/srv/own", name, b"", 0).await, refused(libc::EOPNOTSUPP), "{name}");
        assert_eq!(remove("/srv/own", name).await, refused(libc::EOPNOTSUPP), "{name}");
        assert_eq!(get("/srv/bare", name).await, refused(libc::ENODATA), "{name}");
    }
    // Neither what the user may not, nor through a link.
    assert_eq!(set("/srv/closed", "user.a", b"", 0).await, refused(libc::EACCES));
    assert_eq!(
        set("/srv/own", "security.capability", &[0; 20], 0).await,
        refused(libc::EINVAL)
    );
    assert_eq!(set("/srv/link", "user.a", b"", 0).await, refused(libc::EPERM));
    assert_eq!(remove("/srv/away", "user.a").await, refused(libc::EPERM));
    remove("/srv/own", "user.long").await;
    remove("/srv/own", "user.b").await;
    let left = kinds(remove("/srv/own", "system.posix_acl_access").await);
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(remove("/srv/own", "user.b").await, refused(libc::ENODATA));
}
