//! The shell scripts of a delivery and of a look. All are POSIX sh: the image may have nothing but busybox.
//!
//! [`RUN`] is the agent's container itself: it finds a directory where programs can be written and run, waits until the
//! agent's whole program has been renamed into it, and becomes the agent. [`ENTER`] is what every session executes there: it
//! delivers the program where nobody has, one session at a time, waits for the agent, and becomes the session's attachment.
//! What it is about to do it says on stdout, a line each; behind [`ATTACHING`] the stream is the link's.
//!
//! [`ATTACH`] is the last step alone, where an agent serves already.
//!
//! Invariant: none leaves a child behind. In the target's process namespace a stray would become the app's zombie.

/// Before the script reads the program from its stdin: exactly as many bytes as it was told.
pub(crate) const DELIVER: &str = "inpod deliver";
/// The same, where the container can unpack it: the gzip form, of the length that it was told.
pub(crate) const DELIVER_PACKED: &str = "inpod deliver packed";
/// Another session delivers; this one waits.
pub(crate) const WAIT: &str = "inpod wait";
/// The program is complete and in place.
pub(crate) const DELIVERED: &str = "inpod delivered";
/// What follows is the agent's.
pub(crate) const ATTACHING: &str = "inpod attach";
/// No agent serves here.
pub(crate) const NOBODY: &str = "inpod nobody";
/// The exit status of a script that gave up, with its reason on stderr (EX_SOFTWARE of sysexits.h).
pub(crate) const GAVE_UP: i32 = 70;

/// All find the same places: the directory's name is `$1`.
macro_rules! common {
    () => {
        r#"
PATH="${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/busybox"
fail() { echo "inpod: $*" >&2; exit 70; }
rest() { sleep 0.02 2>/dev/null || { sleep 1; n=$((n + 49)); }; n=$((n + 1)); }
n=0
"#
    };
}

/// Arguments: directory name, target container's id, linger in seconds.
pub(crate) const RUN: &str = concat!(
    common!(),
    r#"
machine=$(uname -m 2>/dev/null)
case "$machine" in x86_64 | amd64 | '') ;; *) fail "this node is $machine; the agent is built for x86_64 only" ;; esac
umask 077
sh=$(command -v sh); case "$sh" in /*) ;; *) sh=/bin/sh ;; esac
why='no directory'
for place in /tmp /var/tmp "$PWD" "$HOME" /run; do
  case "$place" in /?*) ;; *) continue ;; esac
  here=$place/$1
  why="$why, $place"
  mkdir "$here" 2>/dev/null || continue
  if printf '#!%s\n' "$sh" >"$here/try" && chmod 700 "$here/try" && "$here/try"; then
    rm -f "$here/try"; : >"$here/ready"; break
  fi 2>/dev/null
  rm -rf "$here"
done
[ -f "$here/ready" ] || fail "the agent's container has $why where a program can be written and run"
while [ ! -f "$here/agent" ]; do
  [ "$n" -lt 12000 ] || fail "no agent was delivered within 240 s"
  rest
done
exec "$here/agent" serve --socket "$here/socket" --target-container "$2" --linger "$3"
"#
);

/// Arguments: directory name, the program's length in bytes, and that of its gzip form if there is one.
pub(crate) const ENTER: &str = concat!(
    common!(),
    r#"
here=
while [ -z "$here" ]; do
  for place in /tmp /var/tmp "$PWD" "$HOME" /run; do
    [ -f "$place/$1/ready" ] && here=$place/$1 && break
  done
  [ -n "$here" ] && break
  [ "$n" -lt 500 ] || fail "the agent's container did not get ready within 10 s"
  rest
done
turn=0
n=0
while [ ! -f "$here/agent" ]; do
  if mkdir "$here/turn$turn" 2>/dev/null; then
    echo $$ >"$here/turn$turn/pid"
    command -v head >/dev/null || fail "this image has no \`head\` to receive the agent with"
    umask 077
    if [ -n "$3" ] && command -v gunzip >/dev/null; then
      echo 'inpod deliver packed'
      head -c "$3" | gunzip -c >"$here/part$turn" || fail "unpacking the agent to $here failed"
    else
      echo 'inpod deliver'
      head -c "$2" >"$here/part$turn" || fail "writing the agent to $here failed"
    fi
    got=$(($(wc -c <"$here/part$turn")))
    [ "$got" -eq "$2" ] || fail "only $got of the agent's $2 bytes arrived"
    chmod 700 "$here/part$turn" && mv "$here/part$turn" "$here/agent" || fail "the agent cannot be put into $here"
    echo 'inpod delivered'
    break
  fi
  [ "$n" -eq 0 ] && echo 'inpod wait'
  [ "$n" -lt 12000 ] || fail "another session did not finish to deliver the agent within 240 s"
  holder=
  [ -s "$here/turn$turn/pid" ] && read -r holder <"$here/turn$turn/pid"
  if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null && [ ! -f "$here/agent" ]; then
    turn=$((turn + 1))
  else
    rest
  fi
done
n=0
while [ ! -S "$here/socket" ]; do
  [ "$n" -lt 500 ] || fail "the agent was delivered but did not start within 10 s"
  rest
done
echo 'inpod attach'
exec "$here/agent" attach --socket "$here/socket"
"#
);

/// Argument: directory name.
pub(crate) const ATTACH: &str = concat!(
    common!(),
    r#"
for place in /tmp /var/tmp "$PWD" "$HOME" /run; do
  here=$place/$1
  [ -S "$here/socket" ] || continue
  echo 'inpod attach'
  exec "$here/agent" attach --socket "$here/socket"
done
echo 'inpod nobody'
"#
);

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
