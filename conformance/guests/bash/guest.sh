#!/bin/bash
# guest BEHAVIOUR[=ARGUMENT]...: for each `== BEHAVIOUR` and the lines of what it saw.
FILES=/data/conformance/
ECHO=10.77.0.40
SELF=$0
export LC_ALL=C

# The errno's name, out of what programs print.
error_in() {
    case $1 in
    *"No such file"*) echo ENOENT ;;
    *"Connection refused"*) echo ECONNREFUSED ;;
    *"Network is unreachable"*) echo ENETUNREACH ;;
    *) echo "$1" ;;
    esac
}
attempt() {
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then echo "$output"; else echo "$what $(error_in "$output")"; fi
}
kind() {
    local output
    if ! output=$(stat $3 -c '%F %s' "$2" 2>&1); then echo "$1 $(error_in "$output")"; return; fi
    case $output in
    "regular file"*) echo "$1 file ${output##* }" ;;
    directory*) echo "$1 directory" ;;
    "symbolic link"*) echo "$1 link" ;;
    esac
}
read_file() { local line; read -r line <"$1" && echo "$line"; }
look_up() {
    local found
    found=$(getent ahostsv4 "$1") || { echo "not found"; return; }
    echo "${found%% *}"
}
# Bash connects by itself, blocking; its /dev/tcp resolves names by getaddrinfo. A descriptor cannot be half closed.
converse() {
    local back said
    said=$({ exec 3<>"/dev/tcp/$1/$2"; } 2>&1) || { error_in "$said"; return; }
    exec 3<>"/dev/tcp/$1/$2"
    printf ping >&3
    read -r -N 4 back <&3
    exec 3>&-
    echo "$back"
}

run() {
    case $1 in
    read) attempt text read_file ${FILES}text; attempt absent read_file ${FILES}absent ;;
    list) local all=(${FILES}directory/*); echo "${all[@]##*/}" ;;
    cwd) echo "cwd $(/bin/pwd -P)" ;;
    chdir) (cd ${FILES}directory && /bin/pwd -P && echo "one: $(<one)" && echo "text: $(<../text)") ;;
    symlinks) echo "link -> $(readlink ${FILES}link)"; realpath ${FILES}link/one ;;
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
        local path=$2/mine-$$
        (set -C; echo "kept here" >"$path"); cat "$path"; rm "$path" && echo removed
        ;;
    script) ${FILES}script hello ;;
    environment) echo "${SHOP_CURRENCY-unset}"; [ -v NODE_OPTIONS ] && echo "NODE_OPTIONS set" || echo "NODE_OPTIONS unset" ;;
    host-name) uname -n ;;
    resolve) look_up echo.shop.internal ;;
    resolve-hosts) look_up stock.shop.internal ;;
    resolve-search) look_up echo ;;
    echo) converse $ECHO 7000 ;;
    echo-name) converse echo.shop.internal 7000 ;;
    refused) converse $ECHO 9 ;;
    spawn-child) "$BASH" "$SELF" child ;;
    bare-environment) env -i "$BASH" "$SELF" child ;;
    child) echo "child: $(<${FILES}text)"; echo "child: $(converse $ECHO 7000)" ;;
    *) echo "unknown to this guest" ;;
    esac
}

for word; do
    name=${word%%=*}
    # A child's lines belong to what its parent was told to do.
    [ "$name" = child ] || echo "== $name"
    run "$name" "${word#*=}"
done
