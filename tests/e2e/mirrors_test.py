"""Two copies of the data directory, each on a file system of its own, through everything that can happen to one of them.

One bus lives through all rounds. In each, while messages flow or between two lives of the daemon, one of the copies fails
(its file system is shut down and answers EIO to everything), is damaged, deleted or replaced by an empty disk. Every message
with a durable receipt is there at the end of each round, the copy that failed is called stale, it is filled again, and each
copy alone holds everything.

Needs root, loop devices and ext4. SLUICE_TEST_MIRROR_ROUNDS sets the rounds, SLUICE_SEED the dice.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import unittest

import disks
import rig

ROUNDS = int(os.environ.get("SLUICE_TEST_MIRROR_ROUNDS", 1000 if rig.LONG else 20))
SEED = int(os.environ.get("SLUICE_SEED", 1))
# Small, so that a round is short.
TOPIC = ["--segment-size", "64KiB", "--slots", "8"]
CONFIG = 'mirror_retry = "100ms"\nmirror_scrub = "1ms"\n[topics]\nsegments_per_file = 16\n'


class Mirrors(unittest.TestCase):
    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        why_not = disks.private_mounts()
        if why_not:
            self.skipTest("no private mounts: " + why_not)
        self.chance = random.Random(SEED)
        self.bus = rig.Bus()
        self.addCleanup(self.end)
        try:
            self.disks = [disks.Disk(self.bus.folder, "a"), disks.Disk(self.bus.folder, "b")]
        except (OSError, subprocess.CalledProcessError) as error:
            self.skipTest(f"no ext4 on loop devices: {error}")
        for disk in self.disks:
            self.addCleanup(subprocess.run, ["umount", "-l", disk.mount], capture_output=True)
        self.bus.data = self.disks[0].copy
        self.config = self.bus.folder / "sluiced.toml"
        self.config.write_text(f'mirrors = ["{self.disks[1].copy}"]\n{CONFIG}')
        self.failed = False
        self.acked = 0  # messages 0 … acked − 1 have a durable receipt

    def end(self):
        failed = AssertionError if self.failed else None
        self.bus.__exit__(failed, None, None)

    # ---- what the rounds are made of

    def start(self, *arguments):
        self.bus.start("--config", self.config, *arguments)

    def refused(self, *arguments):
        """A start that must not serve; returns what it says."""
        done = subprocess.run([rig.SLUICED, "--data-dir", self.bus.data, "--socket", self.bus.socket, "--config",
                               self.config, *arguments], capture_output=True, timeout=rig.TIMEOUT, text=True)
        self.assertEqual(done.returncode, 7, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def produce(self, count):
        """Numbers, one a message; every one of them gets its receipt."""
        lines = "".join(f"{n} {'x' * (n % 500)}\n" for n in range(self.acked, self.acked + count))
        self.bus.sluice("produce", "t", "--durability", "sync", stdin=lines)
        self.acked += count

    def expect_all(self):
        """Every acknowledged message is there, once and in order. Those that were not acknowledged may be."""
        out = self.bus.sluice("consume", "t", "--exit", "--from", "earliest").stdout.decode().splitlines()
        numbers = [int(line.split(" ", 1)[0]) for line in out]
        self.assertEqual(numbers, list(range(self.acked)))

    def states(self):
        return [mirror["state"] for mirror in self.bus.json("status")["mirrors"]]

    def wait_until_good(self):
        rig.wait_until(lambda: self.states() == ["good", "good"], "both copies to be good")

    def expect_each_alone(self):
        """Each copy alone holds everything, as a daemon sees it that has nothing else."""
        self.assertEqual(self.bus.stop(), 0)
        for disk in self.disks:
            alone = self.bus.folder / "alone"
            shutil.copytree(disk.copy, alone)
            other = self.disks[1 - self.disks.index(disk)]
            kept, self.bus.data = self.bus.data, alone
            self.bus.start("--config", self.write_config(""), "--accept-missing-mirror", other.copy)
            self.expect_all()
            self.bus.kill()
            self.bus.data = kept
            shutil.rmtree(alone)
        self.start()

    def write_config(self, text):
        path = self.bus.folder / "alone.toml"
        path.write_text(text + CONFIG)
        return path

    # ---- the rounds

    def fails_while_running(self, disk):
        """EIO from the one while producers go on: they notice nothing."""
        producer = self.bus.spawn(rig.SLUICE, "produce", "t", "--durability", "sync", stdin=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
        first, count = self.acked, 3000
        for n in range(first, first + count):
            if n == first + count // 2:
                producer.stdin.flush()
                disk.fail()
            producer.stdin.write(b"%d %s\n" % (n, b"x" * (n % 500)))
        _, errors = producer.communicate(timeout=rig.TIMEOUT)
        self.assertEqual(producer.returncode, 0, errors.decode())
        self.acked += count
        self.produce(10)
        index = self.disks.index(disk)
        self.assertEqual(self.states()[index], "stale")
        self.assertEqual(self.states()[1 - index], "good")
        self.assertEqual(self.bus.sluice("doctor", "--quick", check=False).returncode, 1)
        self.expect_all()
        return disk

    def comes_back(self, disk):
        """Its file system is mounted again: it is filled while the bus runs."""
        self.fails_while_running(disk)
        disk.detach()
        disk.attach()
        self.produce(50)

    def is_replaced(self, disk):
        """An empty disk is put in its place."""
        self.fails_while_running(disk)
        disk.detach()
        disk.make()
        self.produce(50)

    def fails_and_the_daemon_dies(self, disk):
        """The next start sees the stale copy and does not serve from it; alone it refuses."""
        self.fails_while_running(disk)
        self.bus.kill()
        other = self.disks[1 - self.disks.index(disk)]
        disk.detach()
        disk.attach()
        other.detach()
        said = self.refused()
        self.assertIn(str(other.copy), said)
        other.attach()
        self.start()

    def is_damaged(self, disk):
        """Between two lives bytes of one copy are overwritten, cut off or deleted.

        Overwritten only where a start looks: see rots().
        """
        self.bus.kill()
        newest = max(path for path in disk.files() if path.suffix == ".log")
        for path in {newest, *self.chance.sample(disk.files(), min(2, len(disk.files())))}:
            kind = self.chance.randrange(4 if path == newest or path.suffix == ".idx" else 2)
            if kind == 0:
                path.unlink()
            elif kind == 1:
                os.truncate(path, self.chance.randrange(path.stat().st_size + 1))
            else:
                with open(path, "r+b") as file:
                    size = min(path.stat().st_size, 20000)
                    file.seek(self.chance.randrange(path.stat().st_size - size + 1))
                    file.write(self.chance.randbytes(size) if kind == 2 else bytes(size))
        self.start()

    def rots(self, disk):
        """Bytes change in files that were closed long ago: the scrub mends them while the bus runs."""
        self.bus.kill()
        for path in self.chance.sample([p for p in disk.files() if p.suffix == ".log"][:-1], 1):
            for _ in range(5):
                with open(path, "r+b") as file:
                    file.seek(self.chance.randrange(path.stat().st_size - 8))
                    file.write(self.chance.randbytes(8))
        self.start()

        def passes():
            checks = self.bus.sluice("doctor", "--quick", "--json", check=False).stdout
            scrub = next(c for c in json.loads(checks)["checks"] if c["name"] == "scrub")
            return int(scrub["detail"].split()[0])
        rig.wait_until(lambda: passes() > 0, "the scrub to have been through everything")

    def is_deleted(self, disk):
        """Between two lives one copy loses everything but what says that it is a copy."""
        self.bus.kill()
        shutil.rmtree(disk.copy / "topics")
        for path in disk.copy.glob("store.db*"):
            path.unlink()
        self.start()

    def is_lost(self, disk):
        """Its disk is gone for good: the start is refused until the operator accepts that."""
        self.bus.kill()
        disk.detach()
        said = self.refused()
        self.assertIn(f"--accept-missing-mirror {disk.copy}", said)
        disk.make()
        self.assertIn(f"--accept-missing-mirror {disk.copy}", self.refused())
        self.start("--accept-missing-mirror", disk.copy)

    def test_one_of_two_copies_fails_in_every_way(self):
        self.start()
        self.bus.sluice("topic", "create", "t", "--durability", "sync", *TOPIC)
        faults = [self.comes_back, self.is_replaced, self.fails_and_the_daemon_dies, self.is_damaged, self.rots,
                  self.is_deleted, self.is_lost]
        self.failed = True
        for number in range(ROUNDS):
            fault = faults[number % len(faults)]
            disk = self.disks[(number // len(faults) + number) % 2]
            with self.in_round(number, fault, disk):
                self.produce(self.chance.randrange(1, 1500))
                fault(disk)
                self.expect_all()
                self.produce(20)
                self.wait_until_good()
                self.produce(20)
                self.expect_all()
                if number % 5 == 4 or number < len(faults):
                    self.expect_each_alone()
                audit = self.bus.sluice("audit", "t", "--json", check=False)
                self.assertTrue(json.loads(audit.stdout)["holds"], audit.stdout.decode())
        self.failed = False

    @contextlib.contextmanager
    def in_round(self, number, fault, disk):
        try:
            yield
        except Exception as error:
            raise AssertionError(f"round {number}, {fault.__name__} of {disk.mount.name}, SLUICE_SEED={SEED}") from error


if __name__ == "__main__":
    rig.main()
