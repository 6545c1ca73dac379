#!/bin/sh
# Debian's nats-server, or the one that is there.
set -eu
here=$(cd "$(dirname "$0")" && pwd); into=$1; mkdir -p "$into"
command -v nats-server >/dev/null || RUNLEVEL=1 apt-get install -yq --no-install-recommends nats-server
cp "$here/server.conf" "$into/"
nats-server --version | sed 's/nats-server: v/NATS /' >"$into/version"
