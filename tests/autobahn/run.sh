#!/usr/bin/env bash
# Runs Autobahn's fuzzing client against the guarded echo server of the release build and judges the reports.
# usage: run.sh DIR core|all      DIR is what install.sh was given; core leaves out the compression cases
# The cases are split over processes, each with a server of its own: the suite itself is what takes the time.
set -euo pipefail
dir=${1:?usage: run.sh DIR core|all} set=${2:?usage: run.sh DIR core|all}
here=$(cd "$(dirname "$0")" && pwd)
server=${GUARDED_ECHO:-$here/../../target/release/guarded-echo}
reports=$here/../../target/autobahn
readonly PIECE_SECONDS=1500

case $set in
  core) pieces=('"1.*","2.*","3.*","4.*","5.*","6.*","7.*","10.*"' '"9.*"') expected=301 ;;
  all) pieces=('"1.*","2.*","3.*","4.*","5.*","6.*","7.*","9.*","10.*"' '"12.*"' '"13.1.*","13.2.*","13.3.*","13.4.*"' '"13.5.*","13.6.*","13.7.*"') expected=517 ;;
  *) echo "usage: run.sh DIR core|all" >&2; exit 2 ;;
esac

started=()
trap '[ ${#started[@]} -eq 0 ] || kill "${started[@]}" 2>/dev/null || true' EXIT
rm -rf "$reports"; mkdir -p "$reports"

# Production defaults; only the size of a message is raised, to what the cases send (16 MiB).
export GUARDED_ECHO_MESSAGE_BYTES=$((32 * 1024 * 1024)) GUARDED_ECHO_DEFLATE=1

# piece NAME CASES: starts a server and the suite against it, which reports to a folder of this name.
piece() {
  local number=$1 cases=$2 port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$server" "127.0.0.1:$port" >"$reports/server-$number.log" 2>&1 & started+=($!)
  for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.1; done
  printf '{"outdir": "%s", "servers": [{"agent": "tidegate", "url": "ws://127.0.0.1:%d"}], "cases": [%s], "exclude-cases": [], "exclude-agent-cases": {}}' \
    "$reports/$number" "$port" "$cases" >"$reports/spec-$number.json"
  echo "cases $cases against port $port"
  timeout $PIECE_SECONDS "$dir/venv27/bin/wstest" -m fuzzingclient -s "$reports/spec-$number.json" >"$reports/wstest-$number.log" 2>&1 & suites+=($!) started+=($!)
}

finished() {
  local suite
  for suite in "${suites[@]}"; do wait "$suite" || { echo "the suite ended badly: see $reports" >&2; exit 1; }; done
  suites=()
}

suites=()
for number in "${!pieces[@]}"; do piece "$number" "${pieces[$number]}"; done
finished
bad=$reports/bad
python3 "$here/judge.py" $expected "$bad" "$reports"/*/index.json && exit
[ -s "$bad" ] || exit 1
# The suite has time limits of its own, which a machine that others use too may miss: what is wrong is wrong the second time as well. But
# a panic is no matter of time, and a busy machine spoils a few.
if grep -H 'panicked at' "$reports"/server-*.log; then exit 1; fi
[ "$(tr ',' '\n' <"$bad" | grep -c .)" -le 5 ] || { echo "too many to be chance" >&2; exit 1; }
echo "these cases once more: $(cat "$bad")"
piece again "$(cat "$bad")"
finished
echo "With these cases as they came out at the second try:"
python3 "$here/judge.py" $expected "$bad" "$reports"/[0-9]*/index.json "$reports/again/index.json"
