#!/usr/bin/env bash
# Puts the Autobahn WebSocket test suite into DIR. It is written in Python 2.7 and needs such an interpreter and a C compiler.
# usage: install.sh DIR        exit 3: there is no Python 2.7
set -euo pipefail
dir=${1:?usage: install.sh DIR}
[ -x "$dir/venv27/bin/wstest" ] && exit 0

python=
for candidate in "$HOME"/.pyenv/versions/2.7*/bin/python python2.7; do    # a pyenv shim may exist and fail: try it
  if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then python=$candidate; break; fi
done
[ -n "$python" ] || exit 3

mkdir -p "$dir"
"$python" -m pip install -q --target "$dir/virtualenv" 'virtualenv==20.15.1'    # the last one that makes Python 2.7 environments
PYTHONPATH=$dir/virtualenv "$python" -m virtualenv -q "$dir/venv27"
"$dir/venv27/bin/pip" install -q autobahntestsuite==25.10.1
"$dir/venv27/bin/wstest" --help >/dev/null
