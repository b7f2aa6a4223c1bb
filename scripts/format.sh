#!/bin/bash
# Formats every C++ file that git tracks. `--check` changes nothing and fails, naming the files, where one is not formatted.
set -euo pipefail
cd "$(dirname "$0")/.."
clang_format=$(command -v clang-format-14) || { echo "format: clang-format-14 is missing: scripts/install-packages.sh test" >&2; exit 2; }

mapfile -t files < <(git ls-files '*.h' '*.cc' '*.cpp' | while read -r file; do [ -e "$file" ] && echo "$file"; done)
[ ${#files[@]} -gt 0 ] || { echo "format: git names no C++ file here: is this a checkout?" >&2; exit 2; }

case "${1:-}" in
  '') "$clang_format" -i "${files[@]}" ;;
  --check)
    bad=()
    for file in "${files[@]}"; do
      "$clang_format" --dry-run -Werror "$file" 2>/dev/null || bad+=("$file")
    done
    if [ ${#bad[@]} -gt 0 ]; then
      printf 'not formatted: %s\n' "${bad[@]}"
      echo "to format them: scripts/format.sh"
      exit 1
    fi
    echo "${#files[@]} files" ;;
  *) echo "usage: scripts/format.sh [--check]" >&2; exit 2 ;;
esac
