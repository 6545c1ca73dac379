#!/bin/sh
# Installs Node's `ws` and its native helper from npm into folder $1.
set -eu
here=$(cd "$(dirname "$0")" && pwd); into=$1; mkdir -p "$into"
cp "$here/fanout.mjs" "$into/"
cd "$into"
npm install --silent --no-audit --no-fund --prefix . ws@8.23.0 bufferutil@4.1.0
echo "ws $(node -p 'require("./node_modules/ws/package.json").version'), node $(node --version)" >version
