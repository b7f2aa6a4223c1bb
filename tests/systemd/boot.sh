#!/bin/bash
# Boots the root file system as a container and stays until it is off; run it in namespaces of its own for mounts and
# processes. What the container writes is gone with it, but for DATA.
#   boot.sh ROOT DATA NAME
set -euo pipefail
root=$1 data=$2 name=$3
# systemd wants one pure tree of version 2, whatever this machine has.
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
group=/sys/fs/cgroup/$name
mkdir "$group"
trap 'find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true' EXIT
(
  echo 0 >"$group/cgroup.procs"
  # DATA is a directory of a real file system: the overlay's own may know no direct I/O.
  exec systemd-nspawn --quiet --boot --directory="$root" --volatile=overlay --register=no \
    --keep-unit --machine="$name" --bind="$data:/var/lib/sluice" --console=pipe </dev/null
)
