//! Extended attributes and access lists, as programs see them.

use std::process::Command;

use rustix::fs::XattrFlags;

use super::*;

fn put(root: &Path, path: &str, name: &str, value: &[u8]) {
    let path = root.join(path.trim_start_matches('/'));
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// Gives user 1234 a file, as setfacl(1) does.
fn allow(root: &Path, path: &str) {
    let path = root.join(path.trim_start_matches('/'));
    let done = Command::new("setfacl").args(["-m", "u:1234:rw"]).arg(path).status();
    assert!(done.expect("setfacl: apt-get install acl").success());
}

fn labelled() -> Stand {
    Stand::new(|root| {
        write(root, "/data/file", "x");
        put(root, "/data/file", "user.short", b"one");
        put(root, "/data/file", "user.empty", b"");
        put(root, "/data/file", "user.long", &[b'l'; 3500]);
        put(root, "/data/file", "user.overlay.opaque", b"y");
        put(root, "/data/file", "trusted.overlay.redirect", b"/etc");
        write(root, "/data/bare", "x");
        write(root, "/data/hidden-only", "x");
        put(root, "/data/hidden-only", "trusted.mine", b"x");
        write(root, "/data/shared", "x");
        allow(root, "/data/shared");
        symlink("file", root.join("data/link")).unwrap();
    })
}

const HELPERS: &str = "
import errno, os
def fails(number, call, *arguments):
    try: call(*arguments)
    except OSError as error: assert error.errno == number, (call, arguments, error)
    else: raise AssertionError((call, arguments))
";

fn python(stand: &mut Stand, who: As, script: &str) -> String {
    stand.run(who, &["/usr/bin/python3", "-c", &format!("{HELPERS}{script}")])
}

#[test]
fn attributes_of_files_are_the_pods() {
    let script = "
assert sorted(os.listxattr('/data/file')) == ['user.empty', 'user.long', 'user.short'], os.listxattr('/data/file')
assert os.getxattr('/data/link', 'user.short') == b'one'
assert os.getxattr('/data/file', 'user.empty') == b''
assert os.getxattr('/data/file', 'user.long') == b'l' * 3500
file = os.open('/data/file', os.O_RDONLY)
assert os.getxattr(file, 'user.short') == b'one' and len(os.listxattr(file)) == 3
fails(errno.ENODATA, os.getxattr, '/data/file', 'user.none')
for name in ['trusted.overlay.redirect', 'user.overlay.opaque']: fails(errno.ENODATA, os.getxattr, '/data/file', name)
fails(errno.EOPNOTSUPP, os.getxattr, '/data/file', 'security.selinux')
for path in ['/data/bare', '/data/hidden-only', '/data']: assert os.listxattr(path) == []
assert os.listxattr('/data/link', follow_symlinks=False) == []
fails(errno.EROFS, os.setxattr, '/data/file', 'user.short', b'')
fails(errno.EROFS, os.removexattr, '/data/file', 'user.short')
print('seen')
";
    assert_eq!(python(&mut labelled(), As::Root, script), "seen\n");
    // trusted.* is for CAP_SYS_ADMIN: the kernel asks nobody.
    let script = script.replace("['trusted.overlay.redirect', ", "[");
    let script = format!("{script}assert os.listxattr('/data/shared') == []\n");
    assert_eq!(python(&mut labelled(), As::Nobody, &script), "seen\n");
}

#[test]
fn access_lists_are_the_pods() {
    let list = "# file: data/shared\n# owner: root\n# group: root\nuser::rw-\nuser:1234:rw-\ngroup::r--\nmask::rw-\nother::r--\n\n";
    let said = labelled().sh(
        As::Root,
        "getfacl -n /data/shared 2>/dev/null; ls -l /data | cut -c 11 | tr -d '\\n'",
    );
    let list = list.replace("root", "0");
    // The bare one, the file, the hidden one, the link, the shared one.
    assert_eq!(said, format!("{list}    +"));
}

#[test]
fn nobody_asks_for_what_is_not_there() {
    let many = |each: fn(&Path, &str)| {
        Stand::new(move |root| {
            for number in 0..1000 {
                let name = format!("/data/file{number}");
                write(root, &name, "x");
                each(root, &name);
            }
        })
    };
    let count = |mut stand: Stand, script: &str| {
        stand.sh(As::Root, script);
        let calls = stand.pod.take_calls();
        calls.iter().filter(|call| call.contains("Xattr")).count()
    };
    let bare = |_: &Path, _: &str| {};
    let named = |root: &Path, name: &str| put(root, name, "user.a", b"x");
    let look = "ls -l /data >&2; cp -a /data/file1 /tmp/$$; rm /tmp/$$";
    assert_eq!(count(many(bare), look), 0);
    // What ls asks for is of another kind. cp takes them along.
    assert_eq!(count(many(named), look), 1);
    let all =
        "import os\nfor n in os.scandir('/data'): assert os.getxattr(n.path, 'user.a') == b'x'; os.listxattr(n.path)";
    let asked = count(many(named), &format!("/usr/bin/python3 -c \"{all}\""));
    assert!((1..40).contains(&asked), "{asked} questions");
}

#[test]
fn what_the_pod_changes_is_seen_after_a_second() {
    let mut stand = labelled();
    let script = "
print(os.getxattr('/data/file', 'user.short'), os.listxattr('/data/bare'), flush=True)
input()
print(os.getxattr('/data/file', 'user.short'), os.listxattr('/data/bare'), flush=True)
";
    let script = format!("{HELPERS}{script}");
    let mut guest = stand.spawn(As::Root, &["/usr/bin/python3", "-c", &script]).unwrap();
    assert_eq!(line(&mut guest.child), "b'one' []\n");
    put(stand.root.path(), "/data/file", "user.short", b"two");
    put(stand.root.path(), "/data/bare", "user.new", b"x");
    std::thread::sleep(Duration::from_millis(1100));
    go_on(&mut guest.child);
    assert_eq!(line(&mut guest.child), "b'two' ['user.new']\n");
    guest.child.wait().unwrap();
}

#[test]
fn changes_of_attributes_are_the_pods() {
    let script = "
path = '/data/bare'
os.setxattr(path, 'user.a', b'1')
assert os.getxattr(path, 'user.a') == b'1' and os.listxattr(path) == ['user.a']
for number in range(20):
    os.setxattr(path, 'user.a', b'%d' % number)
    assert os.getxattr(path, 'user.a') == b'%d' % number
fails(errno.EEXIST, os.setxattr, path, 'user.a', b'', os.XATTR_CREATE)
fails(errno.ENODATA, os.setxattr, path, 'user.b', b'', os.XATTR_REPLACE)
os.removexattr(path, 'user.a')
fails(errno.ENODATA, os.removexattr, path, 'user.a')
assert os.listxattr(path) == []
for name in ['user.overlay.opaque', 'security.selinux', 'user.']: fails(errno.EOPNOTSUPP, os.setxattr, path, name, b'')
print('changed')
";
    for who in [As::Root, As::Nobody] {
        let mut stand = labelled();
        stand.rules.write = vec![PathPattern::Prefix("/data".into())];
        assert_eq!(python(&mut stand, who, script), "changed\n");
    }
    // A list that changes the mode.
    let mut stand = labelled();
    stand.rules.write = vec![PathPattern::Prefix("/data".into())];
    let said = stand.sh(
        As::Root,
        "cd /data; stat -c %a bare; setfacl -m u:99:rwx bare; stat -c %a bare; getfacl -nc bare | grep 99; setfacl -b bare; \
         stat -c %a bare; setfacl -d -m u:99:rx .; getfacl -ncd . | grep 99",
    );
    assert_eq!(said, "644\n674\nuser:99:rwx\n644\nuser:99:r-x\n");
    // In a user namespace the kernel passes no lists on.
    let mut stand = labelled();
    stand.rules.write = vec![PathPattern::Prefix("/data".into())];
    let said = stand.sh(
        As::Nobody,
        "cd /data; getfacl -nc shared; setfacl -m u:65534:r bare 2>&1 || true",
    );
    assert_eq!(
        said,
        "user::rw-\ngroup::rw-\nother::r--\n\nsetfacl: bare: Operation not supported\n"
    );
}
