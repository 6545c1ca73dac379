#!/bin/sh
# Builds the uWebSockets fan-out into folder $1, without TLS and with it, as uWebSockets' own build does: -O3, for this CPU, and with
# link-time optimisation. Needs git, a C++20 compiler and OpenSSL's headers (libssl-dev). Takes the two commits below from UWEBSOCKETS_FROM
# and USOCKETS_FROM, which are GitHub if they are not set. UWEBSOCKETS_DIR names a folder that is built instead, whatever it holds
# (uWebSockets with uSockets inside or beside it).
set -eu
uwebsockets=66dcff3dd48f0c19dd1703426365d062039321d0
usockets=86097c490263ab662d62e8e7b541390bdec7d149
here=$(cd "$(dirname "$0")" && pwd); into=$1; mkdir -p "$into"
fetch() { # one commit, from where, into which folder
  [ -e "$3/.git" ] || git init -q "$3"
  git -C "$3" cat-file -e "$1^{commit}" 2>/dev/null || git -C "$3" fetch -q --depth 1 "$2" "$1"
  git -C "$3" checkout -q --detach "$1"
}
if [ -n "${UWEBSOCKETS_DIR:-}" ]; then
  source=$UWEBSOCKETS_DIR sockets=$UWEBSOCKETS_DIR/uSockets
  [ -d "$sockets/src" ] || sockets=$(dirname "$source")/uSockets
else
  source=$into/uWebSockets sockets=$into/uSockets
  fetch "$uwebsockets" "${UWEBSOCKETS_FROM:-https://github.com/uNetworking/uWebSockets.git}" "$source"
  fetch "$usockets" "${USOCKETS_FROM:-https://github.com/uNetworking/uSockets.git}" "$sockets"
fi
cd "$into"
build() { # the program, how it is compiled, and what with
  program=$1 options=$2; shift 2
  cc -O3 -flto=auto "$options" -I"$sockets/src" -c "$sockets"/src/*.c "$sockets"/src/eventing/*.c "$sockets"/src/crypto/openssl.c
  c++ -march=native -O3 -flto=auto -std=c++20 "$options" -DUWS_NO_ZLIB -I"$source/src" -I"$sockets/src" "$here/fanout.cpp" ./*.o "$@" \
    -o "$program"
  rm -f ./*.o
}
build fanout -DLIBUS_NO_SSL
build fanout-tls -DLIBUS_USE_OPENSSL "$sockets/src/crypto/sni_tree.cpp" -lssl -lcrypto
commit() { # of a folder, if it is a clone
  if [ -e "$1/.git" ]; then git -C "$1" rev-parse --short=7 HEAD; else echo "from a folder"; fi
}
echo "uWebSockets $(commit "$source"), uSockets $(commit "$sockets")$(openssl version | sed 's/OpenSSL \([^ ]*\).*/, OpenSSL \1/')" >version
