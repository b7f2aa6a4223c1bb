#!/bin/bash
# Sluice in one command: installs what is missing, builds, starts a daemon of its own, moves real text through it, shows
# what came out, and stays up to play with.
#
#   ./run.sh          stays up until Ctrl-C, which stops the daemon cleanly
#   ./run.sh --once   ends after the demonstration; exit 0 only if every line came back and the audit is clean
#
# All it writes is below build/. The daemon, its data and its socket are this command's own; an installed Sluice is not
# touched.
set -uo pipefail
cd "$(dirname "$0")"

once=
case "${1:-}" in
  '') ;;
  --once) once=1 ;;
  -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "usage: ./run.sh [--once]" >&2; exit 2 ;;
esac

topic=demo partitions=4 lines_max=200000
bin=build/release/bin
run=$PWD/build/run
socket=$run/sluice.sock
lines=$run/lines.txt
mkdir -p "$run"

say() { printf '\n%s\n' "$*"; }
die() { echo "run.sh: $*" >&2; exit 1; }
now() { date +%s.%N; }

# "200000 lines in 0.412 s: 485436 lines/s, 31.1 MB/s"
rate() {  # lines, bytes, start
  awk -v n="$1" -v bytes="$2" -v a="$3" -v b="$(now)" 'BEGIN {
    s = b - a; if (s <= 0) s = 0.001
    printf "%d lines in %.3f s: %d lines/s, %.1f MB/s\n", n, s, n / s, bytes / s / 1e6 }'
}

build() {
  local log=$run/build.log targets
  scripts/install-packages.sh build || exit 1
  echo "Building (build/release; the first time takes a few minutes) ..."
  cmake --preset release >"$log" 2>&1 </dev/null || { tail -n 20 "$log"; die "configuring failed (all of it: $log)"; }
  targets=(sluiced sluice_cli)
  grep -q '^build sluice_perf:' build/release/build.ninja && targets+=(sluice_perf)
  if [ -t 1 ]; then
    cmake --build --preset release -j "$(nproc)" --target "${targets[@]}" </dev/null || die "the build failed (above)"
  else
    cmake --build --preset release -j "$(nproc)" --target "${targets[@]}" >>"$log" 2>&1 </dev/null ||
      { grep -A 3 'error' "$log" | head -n 30; die "the build failed (all of it: $log)"; }
  fi
}

# --- the daemon ---

daemon=
stop_daemon() {  # sets `stopped` to its exit code
  stopped=0
  [ -n "$daemon" ] || return
  kill -TERM "$daemon" 2>/dev/null
  wait "$daemon"
  stopped=$?
  daemon=
  [ -z "$socket_dir" ] || rmdir "$socket_dir" 2>/dev/null
}
socket_dir=
trap stop_daemon EXIT
interrupted() {
  printf '\nStopping: everything is written and synced first.\n'
  stop_daemon
  [ "$stopped" -eq 0 ] || die "sluiced ended with exit code $stopped (its log: $run/sluiced.log)"
  exit 0
}
trap interrupted INT TERM

start_daemon() {
  # A socket's path is 107 bytes at most.
  if [ ${#socket} -gt 100 ]; then
    socket_dir=$(mktemp -d) || exit 1
    socket=$socket_dir/sluice.sock
  fi
  export SLUICE_SOCKET=$socket
  # A session of its own: Ctrl-C is for this script, which then stops it in order.
  setsid "$bin/sluiced" --data-dir "$run/data" --socket "$socket" --http off >"$run/sluiced.log" 2>&1 </dev/null &
  daemon=$!
  local tries
  for ((tries = 0; tries < 300; tries++)); do
    if "$bin/sluice" status >/dev/null 2>&1; then return; fi
    if ! kill -0 "$daemon" 2>/dev/null; then
      tail -n 5 "$run/sluiced.log" >&2
      wait "$daemon"
      local code=$?
      daemon=
      die "sluiced ended at once, with exit code $code (its log: $run/sluiced.log)"
    fi
    sleep 0.1
  done
  tail -n 5 "$run/sluiced.log" >&2
  die "sluiced does not answer on $socket after 30 s (its log: $run/sluiced.log)"
}

# --- the demonstration ---

# Real text: the README, and the logs that this machine has and we may read.
collect_lines() {
  {
    awk 1 README.md
    find /var/log -type f -readable -size -64M ! -name '*.gz' ! -name '*.xz' 2>/dev/null | sort | while read -r file; do
      grep -qI . "$file" && awk 1 "$file"
    done
    dmesg 2>/dev/null
    command -v journalctl >/dev/null && journalctl --no-pager -q -n "$lines_max" 2>/dev/null
  } </dev/null | tr -d '\000' | cut -b 1-60000 | head -n "$lines_max" >"$lines"
  count=$(wc -l <"$lines")
  bytes=$(wc -c <"$lines")
  [ "$count" -gt 0 ] || die "found no text to send: README.md is missing"
}

same_lines() { cmp -s <(LC_ALL=C sort "$1") <(LC_ALL=C sort "$2"); }

# An earlier run's topic goes first: this one starts with an empty log.
create_topic() {
  if "$bin/sluice" topic describe "$topic" >/dev/null 2>&1; then
    "$bin/sluice" topic delete "$topic" >/dev/null || die "deleting topic '$topic' of an earlier run failed"
  fi
  "$bin/sluice" topic create "$topic" --partitions "$partitions" >/dev/null || die "creating topic '$topic' failed"
}

move_lines() {
  local start
  say "Sending $count lines ($bytes bytes: README.md and this machine's logs) through topic '$topic', $partitions partitions"
  start=$(now)
  "$bin/sluice" produce "$topic" <"$lines" 2>"$run/produce.log" || { cat "$run/produce.log" >&2; die "producing failed"; }
  echo "  in:    $(rate "$count" "$bytes" "$start")   ($(tail -n 1 "$run/produce.log"))"
  start=$(now)
  "$bin/sluice" consume "$topic" --from earliest --exit >"$run/out.txt" 2>"$run/consume.log" ||
    { cat "$run/consume.log" >&2; die "consuming failed"; }
  local out
  out=$(wc -l <"$run/out.txt")
  echo "  out:   $(rate "$out" "$(wc -c <"$run/out.txt")" "$start")"
  [ "$out" -eq "$count" ] || die "sent $count lines, received $out (compare $lines and $run/out.txt)"
  same_lines "$lines" "$run/out.txt" || die "the lines received are not the lines sent (compare $lines and $run/out.txt)"
  echo "  same:  every line came back, none twice, none changed"
}

# From publishing to reading, with the SDK, beside the machine's own floor.
show_latency() {
  [ -x "$bin/sluice-perf" ] || return
  say "Latency, producer to consumer through shared memory"
  "$bin/sluice-perf" latency --quick | sed 's/^/  /' || die "measuring the latency failed"
}

show_audit() {
  say "Audit: each sequence number of each producer is accounted for"
  "$bin/sluice" audit "$topic" | sed 's/^/  /' || die "the audit is not clean"
}

build
start_daemon
echo "sluiced runs (pid $daemon, socket $socket, data $run/data)"
collect_lines
create_topic
move_lines
show_latency
show_audit

if [ -n "$once" ]; then
  stop_daemon
  [ "$stopped" -eq 0 ] || die "sluiced ended with exit code $stopped (its log: $run/sluiced.log)"
  say "Done: $count lines sent, received and accounted for; the daemon stopped cleanly."
  exit 0
fi

say "It stays up. In another terminal:"
cat <<TEXT
  export SLUICE_SOCKET=$socket PATH=$PWD/$bin:\$PATH
  sluice consume $topic --from latest            # waits for what comes
  echo hello | sluice produce $topic             # and this comes
  sluice topic describe $topic; sluice status; sluice doctor
Ctrl-C stops it.
TEXT
wait "$daemon"
code=$?
daemon=
tail -n 5 "$run/sluiced.log" >&2
die "sluiced ended by itself, with exit code $code (its log: $run/sluiced.log)"
