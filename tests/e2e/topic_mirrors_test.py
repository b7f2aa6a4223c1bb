"""A topic with mirrors of its own, one of them on a file system that fails, is unmounted, and is replaced.

Needs root, loop devices and ext4.
"""

import os
import shutil
import subprocess
import unittest

import disks
import rig

TOPIC = ["--durability", "sync", "--segment-size", "64KiB", "--slots", "8"]
CONFIG = 'mirror_retry = "100ms"\nmirror_scrub = "1ms"\n[topics]\nsegments_per_file = 16\n'


class TopicMirrors(unittest.TestCase):
    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        why_not = disks.private_mounts()
        if why_not:
            self.skipTest("no private mounts: " + why_not)
        self.bus = rig.Bus()
        self.addCleanup(self.bus.__exit__, None, None, None)
        self.acked = 0  # messages 0 … acked − 1 have a durable receipt

    def disk(self, name):
        try:
            disk = disks.Disk(self.bus.folder, name)
        except (OSError, subprocess.CalledProcessError) as error:
            self.skipTest(f"no ext4 on loop devices: {error}")
        self.addCleanup(subprocess.run, ["umount", "-l", disk.mount], capture_output=True)
        return disk

    def configure(self, *lines):
        self.config = self.bus.folder / "sluiced.toml"
        self.config.write_text("".join(line + "\n" for line in lines) + CONFIG)

    def start(self, *arguments):
        self.bus.start("--config", self.config, *arguments)

    def refused(self, *arguments):
        """A start that must not serve; returns what it says."""
        done = subprocess.run([rig.SLUICED, "--data-dir", self.bus.data, "--socket", self.bus.socket, "--config",
                               self.config, *arguments], capture_output=True, timeout=rig.TIMEOUT, text=True)
        self.assertEqual(done.returncode, 7, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def produce(self, count):
        lines = "".join(f"{n} {'x' * (n % 500)}\n" for n in range(self.acked, self.acked + count))
        self.bus.sluice("produce", "t", "--durability", "sync", stdin=lines)
        self.acked += count

    def expect_all(self):
        out = self.bus.sluice("consume", "t", "--exit", "--from", "earliest").stdout.decode().splitlines()
        self.assertEqual([int(line.split(" ", 1)[0]) for line in out], list(range(self.acked)))

    def copies(self, topic="t"):
        """State by path; topic None: the data directory's."""
        return {m["path"]: m["state"] for m in self.bus.json("status")["mirrors"] if m["topic"] == topic}

    def wait_until_good(self, topic="t"):
        rig.wait_until(lambda: set(self.copies(topic).values()) == {"good"}, "every copy to be good")

    def expect_stale(self, path):
        self.assertEqual(self.copies()[str(path)], "stale")
        self.assertEqual(self.bus.sluice("doctor", "--quick", check=False).returncode, 1)
        self.assertIn(f'sluice_mirror_state{{path="{path}",topic="t",state="stale"}} 1',
                      self.bus.sluice("metrics").stdout.decode())
        self.assertIn(f"is stale, messages are durable without it root={path}", self.bus.log.read_text())

    def test_a_disk_fails_comes_back_and_is_replaced_while_messages_flow(self):
        disk = self.disk("b")
        self.configure(f'mirror_roots = ["{disk.mount}"]')
        self.start()
        self.bus.sluice("topic", "create", "t", *TOPIC, "--mirror", disk.copy)
        self.bus.sluice("topic", "create", "other", *TOPIC)
        self.assertEqual(self.bus.json("topic", "describe", "t")["mirrors"], [str(disk.copy)])
        here, there = self.bus.data / "mirrored/t-1", disk.copy / "t-1"
        self.assertEqual(self.copies(), {str(here): "good", str(there): "good"})
        for bring_back in (disk.attach, disk.make):
            producer = self.bus.spawn(rig.SLUICE, "produce", "t", "--durability", "sync", stdin=subprocess.PIPE,
                                      stderr=subprocess.PIPE)
            first, count = self.acked, 2000
            for n in range(first, first + count):
                if n == first + count // 2:
                    producer.stdin.flush()
                    disk.fail()
                producer.stdin.write(b"%d %s\n" % (n, b"x" * (n % 500)))
            _, errors = producer.communicate(timeout=rig.TIMEOUT)
            self.assertEqual(producer.returncode, 0, errors.decode())
            self.acked += count
            self.produce(10)
            self.expect_stale(there)
            self.expect_all()
            disk.detach()
            bring_back()
            self.produce(20)
            self.wait_until_good()
            self.expect_all()
        self.bus.sluice("produce", "other", stdin="1\n")
        # What the data directory's copy loses between two lives is served from the other.
        self.bus.kill()
        shutil.rmtree(here / "topics")
        self.start()
        self.expect_all()
        self.assertTrue(self.bus.json("audit", "t")["holds"])
        self.assertEqual(set(self.copies().values()), {"good"})
        self.bus.sluice("topic", "delete", "t")
        rig.wait_until(lambda: not here.exists() and not there.exists(), "the copies to be gone")
        self.assertEqual(self.bus.stop(), 0)

    def test_a_start_that_sees_only_a_stale_copy_refuses_until_the_operator_accepts_that(self):
        disk = self.disk("b")
        self.configure(f'mirror_roots = ["{disk.mount}"]')
        self.start()
        self.bus.sluice("topic", "create", "t", *TOPIC, "--mirror", disk.copy)
        self.produce(500)
        disk.fail()
        self.produce(500)
        self.bus.kill()
        disk.detach()
        disk.attach()
        here = self.bus.data / "mirrored/t-1"
        shutil.move(here, self.bus.folder / "away")
        said = self.refused()
        self.assertIn(str(here), said)
        self.assertIn("--accept-missing-mirror", said)
        shutil.rmtree(here, ignore_errors=True)
        shutil.move(self.bus.folder / "away", here)
        self.start()
        self.wait_until_good()
        self.expect_all()
        # The other one is lost for good.
        self.bus.kill()
        disk.detach()
        disk.make()
        self.assertIn(f"--accept-missing-mirror {disk.copy}/t-1", self.refused())
        self.start("--accept-missing-mirror", disk.copy)
        self.wait_until_good()
        self.expect_all()

    def test_a_daemon_with_mirrors_keeps_such_a_topic_in_all_of_them_and_lets_go_of_a_failed_disk(self):
        own, daemons = self.disk("b"), self.disk("c")
        self.configure(f'mirrors = ["{daemons.copy}"]', f'mirror_roots = ["{own.mount}"]')
        self.start()
        self.bus.sluice("topic", "create", "t", *TOPIC, "--mirror", own.copy)
        self.bus.sluice("topic", "create", "other", *TOPIC)
        self.produce(500)
        on_daemons = daemons.copy / "mirrored/t-1"
        self.assertEqual(self.copies(), {str(self.bus.data / "mirrored/t-1"): "good", str(on_daemons): "good",
                                         str(own.copy / "t-1"): "good"})
        daemons.fail()
        # It is the other topic that notices.
        self.bus.sluice("produce", "other", "--durability", "sync", stdin="1\n")
        rig.wait_until(lambda: self.copies()[str(on_daemons)] == "stale", "the topic's copy on that disk to be stale")
        self.produce(500)
        daemons.detach()
        daemons.make()
        self.wait_until_good(None)
        self.wait_until_good()
        self.bus.kill()
        shutil.rmtree(self.bus.data / "mirrored/t-1/topics")
        shutil.rmtree(own.copy / "t-1/topics")
        self.start()
        self.expect_all()

    def test_a_client_has_nothing_written_where_the_configuration_does_not_allow_it(self):
        self.configure()
        self.start()
        done = self.bus.sluice("topic", "create", "t", "--mirror", self.bus.folder / "b", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("mirror_roots", done.stderr.decode())
        self.assertFalse((self.bus.folder / "b").exists())


if __name__ == "__main__":
    rig.main()
