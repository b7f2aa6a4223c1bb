#!/bin/bash
# A root file system with systemd of this machine's own Debian release (made once, some 200 MB), and this build of Sluice
# installed in it below /usr as a distribution would.
#   make_root.sh ROOT BUILD_DIR
# Exit codes: 0 it is there · 3 it cannot be made here, with the reason as the last line · 1 anything else.
set -euo pipefail
root=$1 build_dir=$2
packages=systemd,systemd-sysv,dbus,procps
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
stamp=$root/etc/sluice-test-root

mkdir -p "$(dirname "$root")"
exec 9>"$root.lock"
flock 9

if [ "$(cat "$stamp" 2>/dev/null)" != "$suite $packages" ]; then
  rm -rf "$root" "$root.new"
  if ! mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" "$root.new" >"$root.log" 2>&1; then
    rm -rf "$root.new"
    tail -n 20 "$root.log"
    echo "mmdebstrap makes no $suite: is there a network?"
    exit 3
  fi
  echo "$suite $packages" >"$root.new/etc/sluice-test-root"
  mv "$root.new" "$root"
fi

DESTDIR=$root cmake --install "$build_dir" --prefix /usr >"$root.log" || { cat "$root.log"; exit 1; }
# What the programs are linked with and this root does not have: the libraries of the same release.
for library in $(ldd "$root"/usr/bin/sluiced "$root"/usr/bin/sluice | sed -nE 's/.*=> (\/[^ ]+) .*/\1/p' | sort -u); do
  [ -e "$root$library" ] || install -D -m 644 "$(readlink -f "$library")" "$root$(readlink -f "$(dirname "$library")")/$(basename "$library")"
done
