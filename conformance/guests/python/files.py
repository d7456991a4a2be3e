"""The pod's files, environment, host name; children."""
import mmap as memory
import os
import stat as kinds
import subprocess

from guest import FILES, SELF, behaviour, name_of, say


def attempt(what, function):
    try:
        say(function())
    except OSError as error:
        say(what, name_of(error))


@behaviour
def read(_):
    attempt("text", lambda: open(FILES + "text").readline().rstrip())
    attempt("absent", lambda: open(FILES + "absent").readline().rstrip())


@behaviour
def list(_):
    say(*sorted(os.listdir(FILES + "directory")))


@behaviour
def cwd(_):
    say("cwd", os.getcwd())


@behaviour
def chdir(_):
    before = os.getcwd()
    os.chdir(FILES + "directory")
    say(os.getcwd())
    say("one:", open("one").readline().rstrip())
    say("text:", open("../text").readline().rstrip())
    os.chdir(before)


@behaviour
def dirfd(_):
    directory = os.open(FILES + "directory", os.O_RDONLY | os.O_DIRECTORY)
    with open(os.open("one", os.O_RDONLY, dir_fd=directory)) as file:
        say("one:", file.readline().rstrip())
    say("size", os.stat("one", dir_fd=directory).st_size)
    os.close(directory)


@behaviour
def symlinks(_):
    say("link ->", os.readlink(FILES + "link"))
    say(os.path.realpath(FILES + "link/one"))


@behaviour
def mmap(_):
    with open(FILES + "blob", "rb") as file, memory.mmap(file.fileno(), 0, access=memory.ACCESS_READ) as bytes:
        say(f"{len(bytes)} bytes, sum {sum(bytes[:])}")


def kind(found):
    if kinds.S_ISREG(found.st_mode):
        return f"file {found.st_size}"
    return "directory" if kinds.S_ISDIR(found.st_mode) else "link" if kinds.S_ISLNK(found.st_mode) else "something"


@behaviour
def stat(_):
    attempt("text", lambda: f"text {kind(os.stat(FILES + 'text'))}")
    attempt("directory", lambda: f"directory {kind(os.stat(FILES + 'directory'))}")
    attempt("link", lambda: f"link {kind(os.lstat(FILES + 'link'))}")
    attempt("absent", lambda: f"absent {kind(os.stat(FILES + 'absent'))}")


@behaviour
def access(_):
    say("text", "yes" if os.access(FILES + "text", os.R_OK) else "no")
    # os.access tells no reason.
    say("absent", "yes" if os.access(FILES + "absent", os.F_OK) else "ENOENT")


@behaviour
def write(_):
    attempt("open", lambda: os.close(os.open(FILES + "text", os.O_WRONLY)) or "open for writing")


@behaviour
def local_file(directory):
    path = f"{directory}/mine-{os.getpid()}"
    with open(path, "x") as file:
        file.write("kept here\n")
    say(open(path).readline().rstrip())
    os.unlink(path)
    say("removed")


@behaviour
def script(_):
    say(subprocess.run([FILES + "script", "hello"], stdout=subprocess.PIPE, text=True).stdout.rstrip())


@behaviour
def environment(_):
    say(os.environ.get("SHOP_CURRENCY", "unset"))
    say("NODE_OPTIONS", "set" if "NODE_OPTIONS" in os.environ else "unset")


@behaviour
def host_name(_):
    import socket
    say(socket.gethostname())


def run(**how):
    status = subprocess.run([*SELF, "child"], **how).returncode
    if status:
        say("status", status)


@behaviour
def spawn_child(_):
    run()


@behaviour
def bare_environment(_):
    run(env={})


@behaviour
def posix_spawn(_):
    os.waitpid(os.posix_spawn(SELF[0], [*SELF, "child"], os.environ), 0)


@behaviour
def system(_):
    os.system(" ".join(f"'{word}'" for word in [*SELF, "child"]))


@behaviour
def popen(_):
    with os.popen(" ".join(f"'{word}'" for word in [*SELF, "child"])) as pipe:
        for line in pipe:
            say(line.rstrip())
