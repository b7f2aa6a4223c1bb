#!/bin/bash
# Builds Sluice and runs its tests. See usage() below; the last line of a run is "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")"

usage() {
  cat <<'TEXT'
usage: ./test.sh [--long] [--only LABEL] [--no-tidy] [--no-install]

  (nothing)      the default suite: checks, all tests of the dev build, sanitizers where they matter (about 10 minutes
                 after the build)
  --long         everything: whole model, long fuzzing, more kills and power losses, all tests under ASan (hours)
  --only LABEL   one kind of test, in each build that it belongs to: unit ring sim crash e2e fuzz conformance model hostile
                 architecture; or one check: format shell tidy. With --long: in its long form
  --no-tidy      with --long: without clang-tidy (also: --only tidy)
  --no-install   do not look for missing packages

Logs: build/log/. Builds: build/dev, build/asan, build/tsan (kept, so that the next run is quick).
TEXT
}

long= only= tidy= install=1
while [ $# -gt 0 ]; do
  case $1 in
    --long) long=1 tidy=1 ;;
    --only) only=${2:-}; [ -n "$only" ] || { usage >&2; exit 2; }; shift ;;
    --no-tidy) tidy= ;;
    --no-install) install= ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
contains() {  # word, list...
  local word=$1
  shift
  [[ " $* " == *" $word "* ]]
}

checks=(format shell tidy)
labels=(unit ring sim crash e2e fuzz conformance model hostile architecture serial)
if [ -n "$only" ] && ! contains "$only" "${checks[@]}" "${labels[@]}"; then
  echo "test.sh: '$only' is no label; known are: ${labels[*]} ${checks[*]}" >&2
  exit 2
fi
[ "$only" = tidy ] && tidy=1

# Tests that have a longer form look at this.
[ -n "$long" ] && export SLUICE_TEST_LONG=1
jobs=$(nproc)
log=build/log
mkdir -p "$log"
total_passed=0 total_failed=0 again=() not_run=()

# A thread sanitizer of g++ 12 does not start where the kernel scatters addresses over more than 28 bits.
steady=()
if [ "$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 0)" -gt 28 ] && setarch -R true 2>/dev/null; then steady=(setarch -R); fi

# --- one line a stage ---

# Runs a command with its output in a log; on a terminal the seconds count up meanwhile. Sets `took`.
run_logged() {  # name, log file, command...
  local name=$1 file=$2 start=$SECONDS pid status
  shift 2
  if [ -t 1 ]; then
    "$@" >"$file" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
      printf '\r  %-22s %s s' "$name" $((SECONDS - start))
      sleep 0.5
    done
    wait "$pid"
    status=$?
    printf '\r%60s\r' ''
  else
    "$@" >"$file" 2>&1 </dev/null
    status=$?
  fi
  took=$((SECONDS - start))
  return $status
}

stage_line() { printf '  %-22s %-6s %5s s  %s\n' "$1" "$2" "$took" "$3"; }

# A check counts as one: its last line of output is its result in brief.
check_stage() {  # name, how to run it again, command...
  local name=$1 repeat=$2 file=$log/${1// /-}.log
  shift 2
  if run_logged "$name" "$file" "$@"; then
    total_passed=$((total_passed + 1))
    stage_line "$name" ok "$(tail -n 1 "$file")"
  else
    total_failed=$((total_failed + 1))
    again+=("$repeat")
    stage_line "$name" FAILED "(all of it: $file)"
    tail -n 30 "$file" | sed 's/^/      /'
  fi
}

# Builds targets of a preset (none named: all). A build that fails counts as one failure, and its tests do not run.
build_stage() {  # preset, target...
  local preset=$1 file=$log/build-$1.log targets=()
  shift
  [ $# -gt 0 ] && targets=(--target "$@")
  build() { cmake --preset "$preset" && cmake --build --preset "$preset" -j "$jobs" "${targets[@]}"; }
  if run_logged "build $preset" "$file" build; then
    stage_line "build $preset" ok ""
    return 0
  fi
  total_failed=$((total_failed + 1))
  again+=("cmake --preset $preset && cmake --build --preset $preset")
  not_run+=("$preset")
  stage_line "build $preset" FAILED "(all of it: $file)"
  grep -E -A 3 'error:|CMake Error|undefined reference|killed' "$file" | head -n 30 | cut -c 1-200 | sed 's/^/      /'
  return 1
}

# What a failed test said, from its first complaint on; its last lines where none is recognised.
failure_of() {  # test, log of ctest
  local text complaint
  text=$(awk -v name="$1" '/^[0-9]+% tests passed/ {exit} $0 ~ "Test +#[0-9]+: " name " " {shown = !/Passed/; next}
                           /^ +Start |Test +#[0-9]+:/ {shown = 0} shown' "$2")
  complaint=$(grep -n -m 1 -E ': Failure$|ERROR: |WARNING: ThreadSanitizer|runtime error:|terminate called|assert' <<<"$text" | cut -d: -f1)
  if [ -n "$complaint" ]; then sed -n "$complaint,$((complaint + 20))p" <<<"$text"; else tail -n 20 <<<"$text"; fi
}

# Runs ctest and adds up its counts. What it selects is given as ctest arguments.
ctest_stage() {  # preset, ctest argument...
  local preset=$1 file=$log/test-$1.log passed=0 failed=0 skipped total names
  shift
  run_logged "test $preset" "$file" "${steady[@]}" ctest --preset "$preset" -j 2 "$@"
  local status=$?
  # "97% tests passed, 1 tests failed out of 38"
  read -r failed total < <(sed -nE 's/.*tests passed, ([0-9]+) tests failed out of ([0-9]+)$/\1 \2/p' "$file") || failed=0 total=0
  skipped=$(grep -cE '^[[:space:]]+[0-9]+ - .* \((Skipped|Disabled)\)$' "$file")
  passed=$((total - failed - skipped))
  if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
  total_passed=$((total_passed + passed)) total_failed=$((total_failed + failed))
  local counts="$passed passed"
  [ "$failed" -gt 0 ] && counts+=", $failed failed"
  [ "$skipped" -gt 0 ] && counts+=", $skipped skipped"
  if [ "$failed" -eq 0 ]; then
    stage_line "test $preset" ok "$counts"
    return
  fi
  stage_line "test $preset" FAILED "$counts (all of it: $file)"
  names=$(sed -nE 's/^[[:space:]]+[0-9]+ - ([^ ]+) \((Failed|Timeout|Not Run|SEGFAULT|Subprocess aborted|Child aborted|ILLEGAL|NUMERICAL|BUS_ERROR|OTHER_FAULT|.*Exception.*)\).*/\1/p' "$file")
  for name in $names; do
    again+=("ctest --preset $preset -R '^$name\$'")
    echo "      $name:"
    failure_of "$name" "$file" | sed 's/^/        /'
  done
  [ -n "$names" ] || { tail -n 20 "$file" | sed 's/^/      /'; again+=("ctest --preset $preset $*"); }
}

# --- what runs ---

# Which labels a sanitizer's build runs (dev runs all). ASan: bytes that lie. TSan: the ring, over a single mapping.
asan_labels=(unit hostile fuzz)
tsan_labels=(ring)
if [ -n "$long" ]; then
  asan_labels=(unit ring sim crash e2e fuzz conformance hostile)
  tsan_labels=(ring unit)
fi
joined() { local IFS='|'; echo "^($*)\$"; }

run_checks() {
  local which
  for which in "${checks[@]}"; do
    [ -n "$only" ] && [ "$only" != "$which" ] && continue
    case $which in
      format) check_stage format 'scripts/format.sh --check' scripts/format.sh --check ;;
      shell) check_stage shell scripts/check-shell.sh scripts/check-shell.sh ;;
      tidy)
        [ -n "$tidy" ] || continue
        # clang-tidy reads generated headers too, so the build comes first.
        build_stage dev && check_stage tidy scripts/tidy.sh scripts/tidy.sh build/dev ;;
    esac
  done
}

run_dev() {
  local select=()
  [ -n "$only" ] && select+=(-L "^$only\$")
  [ -z "$long" ] && select+=(-LE '^long$')
  [ -n "$long" ] && select+=(-E '^model_quick$')
  build_stage dev && ctest_stage dev "${select[@]}"
}

# The targets tests_LABEL exist where a test carries the label; an unknown one would fail the build.
run_sanitizer() {  # preset, label...
  local preset=$1 targets=() label
  shift
  cmake --preset "$preset" >"$log/configure-$preset.log" 2>&1
  for label in "$@"; do
    grep -q "^build tests_$label:" "build/$preset/build.ninja" 2>/dev/null && targets+=("tests_$label")
  done
  # Nothing of these labels: build all, so that a broken configuration shows itself.
  build_stage "$preset" "${targets[@]}" || return
  local exclude='^(model|architecture|long)$'
  [ -n "$long" ] && exclude='^(model|architecture)$'
  ctest_stage "$preset" -L "$(joined "$@")" -LE "$exclude"
}

started=$SECONDS
echo "Sluice tests: ${only:-all}${long:+, long run}  (logs: $log)"
if [ -n "$install" ] && ! scripts/install-packages.sh test; then
  echo "0 passed, 1 failed"
  exit 1
fi

run_checks
if [ -z "$only" ]; then
  run_dev
  run_sanitizer asan "${asan_labels[@]}"
  run_sanitizer tsan "${tsan_labels[@]}"
elif ! contains "$only" "${checks[@]}"; then
  run_dev
  if contains "$only" "${asan_labels[@]}"; then run_sanitizer asan "$only"; fi
  if contains "$only" "${tsan_labels[@]}"; then run_sanitizer tsan "$only"; fi
fi

# --- the result ---

echo
if [ ${#not_run[@]} -gt 0 ]; then echo "Not tested, for the build failed: ${not_run[*]}"; fi
if [ ${#again[@]} -gt 0 ]; then
  echo "To run again what failed:"
  printf '  %s\n' "${again[@]}"
fi
echo "Took $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s."
if [ -z "$long" ]; then
  echo "The long runs: ./test.sh --long (all of them), ./test.sh --long --only model|fuzz|crash|sim|…; see ./test.sh --help"
fi
echo "$total_passed passed, $total_failed failed"
[ "$total_failed" -eq 0 ] && [ "$total_passed" -gt 0 ]
