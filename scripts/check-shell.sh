#!/bin/bash
# Checks the syntax of every shell script that git tracks (by its first line, or its name).
set -euo pipefail
cd "$(dirname "$0")/.."
count=0
failed=0
while IFS= read -r file; do
  [ -f "$file" ] || continue
  if [[ $file == *.sh || $file == *.bash ]] || head -c 32 "$file" | head -n 1 | tr -d '\0' | grep -qE '^#!.*\b(ba)?sh$'; then
    count=$((count + 1))
    bash -n "$file" || failed=$((failed + 1))
  fi
done < <(git ls-files)
echo "$count scripts"
[ "$failed" -eq 0 ]
