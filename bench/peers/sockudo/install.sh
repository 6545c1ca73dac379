#!/bin/sh
# Builds Sockudo from crates.io into folder $1: more than 400 crates, ten minutes and more on two cores. SOCKUDO_BINARY names a binary
# that is there already, which is taken instead.
set -eu
here=$(cd "$(dirname "$0")" && pwd); into=$1; mkdir -p "$into/bin"
version=5.0.1 from=
cp "$here/sockudo.toml" "$into/"
if [ -n "${SOCKUDO_BINARY:-}" ]; then
  echo "takes $SOCKUDO_BINARY"
  cp "$SOCKUDO_BINARY" "$into/bin/sockudo"
  from=', a binary that was there'
else
  # One of the crates runs protoc, on a description that imports one of protoc's own.
  command -v protoc >/dev/null || RUNLEVEL=1 apt-get install -yq --no-install-recommends protobuf-compiler libprotobuf-dev
  echo "builds Sockudo $version and what it needs: ten minutes and more"
  # What it reads of Tokio's metrics is there with this flag only.
  RUSTFLAGS="${RUSTFLAGS:-} --cfg tokio_unstable" cargo install sockudo --version "$version" --locked --root "$into"
fi
echo "$("$into/bin/sockudo" --version | sed 's/^sockudo/Sockudo/')$from" >"$into/version"
