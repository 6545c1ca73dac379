#!/bin/sh
# Builds the centrifuge fan-out into folder $1. Needs Go.
set -eu
here=$(cd "$(dirname "$0")" && pwd); into=$1; mkdir -p "$into"
cd "$here"
go build -o "$into/fanout" .
echo "centrifuge $(go list -m -f '{{.Version}}' github.com/centrifugal/centrifuge), $(go version | cut -d' ' -f3)" >"$into/version"
