#!/bin/bash
# Runs clang-tidy (.clang-tidy) over shm/ and the daemon's core, log and spill, with the flags of a configured build.
#   scripts/tidy.sh [BUILD_DIR]      default: build/dev
# A file whose preprocessed text passed before is not looked at again (remembered below BUILD_DIR).
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/dev}
command -v clang-tidy-14 >/dev/null || { echo "tidy: clang-tidy-14 is missing: scripts/install-packages.sh test" >&2; exit 2; }
[ -e "$build/compile_commands.json" ] || { echo "tidy: $build is not configured: cmake --preset dev" >&2; exit 2; }

passed=$build/tidy-passed
mkdir -p "$passed"
# The settings count too: a changed check looks at everything again.
settings=$(sha256sum .clang-tidy CMakePresets.json cmake/SluiceOptions.cmake scripts/tidy.sh | sha256sum | cut -c1-16)

tidy_one() {
  local file=$1 text
  # -MM names what the file includes of ours; their contents together are what the verdict depends on.
  text=$({ echo "$settings $file"; g++ -std=c++20 -MM -I. -Isdk/include -I"$build" "$file" 2>/dev/null |
           tr -d '\\:' | tr ' ' '\n' | grep -vE '^$|\.o$' | sort -u | xargs -r cat; } | sha256sum | cut -c1-32)
  [ -e "$passed/$text" ] && return 0
  if clang-tidy-14 -p "$build" --quiet --extra-arg=-Wno-unknown-warning-option "$file" 2>/dev/null; then
    touch "$passed/$text"
  else
    echo "tidy: $file (again: clang-tidy-14 -p $build $file)"
    return 1
  fi
}
export -f tidy_one
export build passed settings

# Only what this build compiles has flags.
mapfile -t files < <(git ls-files 'shm/**.cc' 'daemon/core/*.cc' 'daemon/log/*.cc' 'daemon/spill/*.cc' |
  while read -r file; do grep -qF "/$file\"" "$build/compile_commands.json" && echo "$file"; done)
[ ${#files[@]} -gt 0 ] || { echo "tidy: $build compiles none of the files" >&2; exit 2; }
printf '%s\0' "${files[@]}" | xargs -0 -P "$(nproc)" -I{} bash -c 'tidy_one "$1"' _ {}
echo "${#files[@]} files"
