#!/bin/sh
# Starts a shop, and a daemon that has shed its parent, its session and its environment and cleans up after nobody.
# usage: strays.sh SHOP FILE (the daemon's pid goes there)
(setsid env -i sh -c 'echo $$ > "$1.new"; mv "$1.new" "$1"; exec sleep 100000' sh "$2" &)
SERVICE=local exec "$1" web
