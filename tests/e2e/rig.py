"""A bus of one's own for a test: a temporary directory, a daemon in it, and the `sluice` command aimed at it.

Owner: the test that made it. Processes are stopped by their pid, never by name, and the directory is taken away at the end.
Nothing here asserts how long something takes; TIMEOUT only keeps a hung process from hanging the suite.

    with rig.Bus() as bus:
        bus.start()
        bus.sluice("topic", "create", "orders")
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TIMEOUT = 240  # seconds; of a process that should have ended long ago
LONG = os.environ.get("SLUICE_TEST_LONG", "") not in ("", "0")

SLUICED = os.environ.get("SLUICE_TEST_SLUICED", "sluiced")
SLUICE = os.environ.get("SLUICE_TEST_SLUICE", "sluice")
HELPERS = pathlib.Path(os.environ.get("SLUICE_TEST_HELPERS", "."))  # the build's folder of this test folder


class Bus:
    """One data directory and one socket, and at most one daemon on them."""

    def __init__(self, folder=None):
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="sluice-e2e-"))
        self.data = self.folder / "data"
        self.socket = self.folder / "bus.sock"
        self.log = self.folder / "sluiced.log"
        self.process = None
        self.children = []
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
        self.environment["SLUICE_SOCKET"] = str(self.socket)

    def __enter__(self):
        return self

    def __exit__(self, kind, _value, _trace):
        if kind is not None and self.log.exists():
            tail = self.log.read_text(errors="replace").splitlines()[-40:]
            print("--- the daemon's log ends with\n" + "\n".join(tail), file=sys.stderr)
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *arguments, environment=None):
        """Starts the daemon and waits until it says that it is ready."""
        before = self.log.stat().st_size if self.log.exists() else 0
        if "--keeper" not in arguments:
            arguments = ("--no-keeper", *arguments)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [SLUICED, "--data-dir", str(self.data), "--socket", str(self.socket), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**self.environment, **(environment or {})})
        wait_until(lambda: self.process.poll() is not None or b" ready " in self.log.read_bytes()[before:],
                   "the daemon to be ready")
        if self.process.poll() is not None:
            raise AssertionError(f"sluiced ended with {self.process.returncode} instead of being ready")
        return self

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(TIMEOUT)
        self.process = None
        return code

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def sluice(self, *arguments, stdin=b"", check=True, timeout=TIMEOUT, **options):
        """Runs `sluice ARGUMENTS` to its end. With check, an exit code other than 0 is an error."""
        if isinstance(stdin, str):
            stdin = stdin.encode()
        done = subprocess.run([SLUICE, *map(str, arguments)], input=stdin, capture_output=True, timeout=timeout,
                              env=self.environment, **options)
        if check and done.returncode != 0:
            raise AssertionError(f"sluice {' '.join(map(str, arguments))} ended with {done.returncode}: "
                                 f"{done.stderr.decode(errors='replace')}")
        return done

    def spawn(self, *command, **options):
        """Starts a process that is ended with the bus."""
        child = subprocess.Popen([str(part) for part in command], env=self.environment, **options)
        self.children.append(child)
        return child

    def json(self, *arguments):
        return json.loads(self.sluice(*arguments, "--json").stdout)

    def partitions(self, topic):
        return self.json("topic", "describe", topic)["partitions"]


def wait_until(condition, what):
    """Looks until it is so. The limit is there to end a hung test, and asserts nothing."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {TIMEOUT} s for {what}")
        time.sleep(0.01)


def counters_of(process):
    """CPU ticks (user and system), and the voluntary context switches of each thread, of a pid."""
    stat = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    switches = {}
    for task in pathlib.Path(f"/proc/{process}/task").iterdir():
        status = (task / "status").read_text()
        name = re.search(r"^Name:\s*(.*)$", status, re.M).group(1)
        count = int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)$", status, re.M).group(1))
        switches[f"{name} ({task.name})"] = count
    return int(stat[11]) + int(stat[12]), switches


def main():
    unittest.main(verbosity=2)
