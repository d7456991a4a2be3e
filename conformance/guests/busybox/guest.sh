#!/bin/busybox sh
# guest BEHAVIOUR[=ARGUMENT]...: for each `== BEHAVIOUR` and the lines of what it saw. Every program is busybox' own.
FILES=/data/conformance/
ECHO=10.77.0.40
SELF=$0
BUSYBOX=$(busybox readlink -f /proc/$$/exe)
b() { "$BUSYBOX" "$@"; }

# The errno's name, out of what programs print.
error_in() {
    case $1 in
    *"No such file"* | *nonexistent*) echo ENOENT ;;
    *"Connection refused"*) echo ECONNREFUSED ;;
    *"Network is unreachable"*) echo ENETUNREACH ;;
    *) echo "$1" ;;
    esac
}
attempt() {
    what=$1
    shift
    if output=$("$@" 2>&1); then echo "$output"; else echo "$what $(error_in "$output")"; fi
}
kind() {
    if ! output=$(b stat $3 -c '%F %s' "$2" 2>&1); then echo "$1 $(error_in "$output")"; return; fi
    case $output in
    "regular file"*) echo "$1 file ${output##* }" ;;
    directory*) echo "$1 directory" ;;
    "symbolic link"*) echo "$1 link" ;;
    esac
}
converse() { output=$(printf ping | b nc -w 20 "$1" "$2" 2>&1) && echo "$output" || error_in "$output"; }

run() {
    case $1 in
    read) attempt text b head -n 1 ${FILES}text; attempt absent b head -n 1 ${FILES}absent ;;
    list) b ls ${FILES}directory | b xargs echo ;;
    cwd) echo "cwd $(b pwd -P)" ;;
    chdir) (cd ${FILES}directory && b pwd -P && echo "one: $(b cat one)" && echo "text: $(b cat ../text)") ;;
    symlinks) echo "link -> $(b readlink ${FILES}link)"; b realpath ${FILES}link/one ;;
    stat)
        kind text ${FILES}text -L
        kind directory ${FILES}directory -L
        kind link ${FILES}link
        kind absent ${FILES}absent -L
        ;;
    access)
        [ -r ${FILES}text ] && echo "text yes" || echo "text no"
        # test tells no reason.
        [ -e ${FILES}absent ] && echo "absent yes" || echo "absent ENOENT"
        ;;
    local-file)
        path=$2/mine-$$
        (set -C; echo "kept here" >"$path"); b cat "$path"; b rm "$path" && echo removed
        ;;
    script) ${FILES}script hello ;;
    environment)
        echo "${SHOP_CURRENCY-unset}"
        [ -n "${NODE_OPTIONS+set}" ] && echo "NODE_OPTIONS set" || echo "NODE_OPTIONS unset"
        ;;
    host-name) b uname -n ;;
    echo) converse $ECHO 7000 ;;
    echo-name) converse echo.shop.internal 7000 ;;
    refused) converse $ECHO 9 ;;
    spawn-child) b sh "$SELF" child ;;
    bare-environment) b env -i "$BUSYBOX" sh "$SELF" child ;;
    child) echo "child: $(b cat ${FILES}text)"; echo "child: $(converse $ECHO 7000)" ;;
    *) echo "unknown to this guest" ;;
    esac
}

for word; do
    name=${word%%=*}
    # A child's lines belong to what its parent was told to do.
    [ "$name" = child ] || echo "== $name"
    run "$name" "${word#*=}"
done
