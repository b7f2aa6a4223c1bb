#!/bin/bash
# Installs the Debian 12 packages that Sluice needs and that are missing. Where all are there it needs neither network
# nor root, and prints nothing.
#
#   scripts/install-packages.sh build     to build and run
#   scripts/install-packages.sh test      besides these: to run ./test.sh
set -euo pipefail

build_packages=(
  build-essential cmake ninja-build ccache pkg-config
  libboost-dev liburing-dev libcapnp-dev capnproto libspdlog-dev libfmt-dev
  libgtest-dev libgmock-dev libbenchmark-dev
  libsqlite3-dev libpq-dev libtomlplusplus-dev libcli11-dev libexpected-dev nlohmann-json3-dev libsystemd-dev libisal-dev
)
test_packages=(
  spin strace clang-14 libclang-rt-14-dev clang-format-14 clang-tidy-14 python3 mandoc bubblewrap
  e2fsprogs qemu-system-common mmdebstrap systemd-container postgresql
)

case "${1:-}" in
  build) wanted=("${build_packages[@]}") ;;
  test) wanted=("${build_packages[@]}" "${test_packages[@]}") ;;
  *) echo "usage: scripts/install-packages.sh build|test" >&2; exit 2 ;;
esac

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install-packages: missing: ${missing[*]}" >&2
    echo "install-packages: neither root nor sudo: run as root 'apt-get install ${missing[*]}' and start again" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "Installing ${#missing[@]} packages: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" </dev/null >>"$log" 2>&1; }

# The tests start PostgreSQL servers of their own. Its package would make a cluster and start that: while this file is
# there it does not.
no_cluster=/etc/postgresql-common/createcluster.d/sluice-tests.conf
if [[ " ${missing[*]} " == *" postgresql "* ]]; then
  trap 'rm -f "$log"; "${as_root[@]}" rm -f "$no_cluster"' EXIT
  "${as_root[@]}" mkdir -p "${no_cluster%/*}"
  echo "create_main_cluster = false" | "${as_root[@]}" tee "$no_cluster" >/dev/null
fi
if ! { apt update && apt install --no-install-recommends "${missing[@]}"; }; then
  tail -n 20 "$log" >&2
  echo "install-packages: apt-get failed (above): see to the network or the package sources, and start again" >&2
  exit 1
fi
