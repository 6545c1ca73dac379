#!/bin/sh
# Builds the uWebSockets fan-out into folder $1. Needs git and a C++20 compiler. UWEBSOCKETS_DIR names a folder that has a clone
# already (uWebSockets with uSockets inside or beside it); without it both are cloned from GitHub.
set -eu
here=$(cd "$(dirname "$0")" && pwd); into=$1; mkdir -p "$into"
source=${UWEBSOCKETS_DIR:-$into/uWebSockets}
[ -d "$source/src" ] || git clone --depth 1 --recurse-submodules --shallow-submodules https://github.com/uNetworking/uWebSockets.git "$source"
sockets=$source/uSockets
[ -d "$sockets/src" ] || sockets=$(dirname "$source")/uSockets
[ -d "$sockets/src" ] || git clone --depth 1 https://github.com/uNetworking/uSockets.git "$sockets"
cd "$into"
cc -O3 -DLIBUS_NO_SSL -I"$sockets/src" -c "$sockets"/src/*.c "$sockets"/src/eventing/*.c
c++ -O3 -std=c++20 -DLIBUS_NO_SSL -DUWS_NO_ZLIB -I"$source/src" -I"$sockets/src" "$here/fanout.cpp" ./*.o -o fanout
rm -f ./*.o
echo "uWebSockets $(git -C "$source" rev-parse --short HEAD 2>/dev/null || echo "from a folder")" >version
