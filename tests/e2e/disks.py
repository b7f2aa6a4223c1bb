"""File systems of a test's own that fail, are unmounted and replaced. Needs root, loop devices and ext4."""

import ctypes
import fcntl
import os
import subprocess

import rig

DISK_SIZE = 192 * 1024 * 1024
CLONE_NEWNS = 0x20000
FS_IOC_SHUTDOWN = 0x8004587D  # from here on the file system answers EIO
SHUTDOWN_NOLOGFLUSH = 2


def private_mounts():
    """Mounts made from here on are this process's own, and go with it. Returns why not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        return os.strerror(ctypes.get_errno())
    done = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True)
    return done.stderr.decode().strip() if done.returncode else ""


class Disk:
    """An ext4 on a loop device, mounted where a copy lies."""

    def __init__(self, folder, name):
        self.image = folder / f"{name}.img"
        self.mount = folder / name
        self.mount.mkdir()
        self.copy = self.mount / "sluice"
        self.make()

    def make(self):
        """An empty disk in its place."""
        with open(self.image, "wb") as image:
            image.truncate(DISK_SIZE)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", self.image], check=True)
        self.attach()

    def attach(self):
        subprocess.run(["mount", "-o", "loop", self.image, self.mount], check=True)

    def detach(self):
        """As an operator would: nothing on it is in use once it is stale."""
        rig.wait_until(lambda: subprocess.run(["umount", self.mount], capture_output=True).returncode == 0,
                       f"{self.mount} to be unmounted")

    def fail(self):
        fd = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, FS_IOC_SHUTDOWN, SHUTDOWN_NOLOGFLUSH.to_bytes(4, "little"))
        finally:
            os.close(fd)

    def files(self):
        """Of the copy of a data directory."""
        return sorted(p for p in self.copy.glob("topics/*/*/*") if p.is_file())
