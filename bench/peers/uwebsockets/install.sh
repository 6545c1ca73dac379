#!/bin/sh
# Builds the uWebSockets fan-out into folder $1, without TLS and with it. Needs git, a C++20 compiler and OpenSSL's headers
# (libssl-dev). UWEBSOCKETS_DIR names a folder that has a clone already (uWebSockets with uSockets inside or beside it); without it
# both are cloned from GitHub.
set -eu
here=$(cd "$(dirname "$0")" && pwd); into=$1; mkdir -p "$into"
source=${UWEBSOCKETS_DIR:-$into/uWebSockets}
[ -d "$source/src" ] || git clone --depth 1 --recurse-submodules --shallow-submodules https://github.com/uNetworking/uWebSockets.git "$source"
sockets=$source/uSockets
[ -d "$sockets/src" ] || sockets=$(dirname "$source")/uSockets
[ -d "$sockets/src" ] || git clone --depth 1 https://github.com/uNetworking/uSockets.git "$sockets"
cd "$into"
build() { # the program, how it is compiled, and what with
  program=$1 options=$2; shift 2
  cc -O3 "$options" -I"$sockets/src" -c "$sockets"/src/*.c "$sockets"/src/eventing/*.c "$sockets"/src/crypto/openssl.c
  c++ -O3 -std=c++20 "$options" -DUWS_NO_ZLIB -I"$source/src" -I"$sockets/src" "$here/fanout.cpp" ./*.o "$@" -o "$program"
  rm -f ./*.o
}
build fanout -DLIBUS_NO_SSL
build fanout-tls -DLIBUS_USE_OPENSSL "$sockets/src/crypto/sni_tree.cpp" -lssl -lcrypto
echo "uWebSockets $(git -C "$source" rev-parse --short HEAD 2>/dev/null || echo "from a folder")$(
  openssl version | sed 's/OpenSSL \([^ ]*\).*/, OpenSSL \1/')" >version
