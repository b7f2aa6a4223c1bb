"""Bad input and bad surroundings: each ends with the exit code of the command-line contract and a message that names the
thing, and nothing that was there before is lost.
"""

import os
import shutil
import sqlite3
import subprocess
import unittest

import rig

OTHER_UID = 54321  # needs no entry in the user database


class BadInputTest(unittest.TestCase):
    def setUp(self):
        self.bus = rig.Bus()
        self.addCleanup(self.bus.__exit__, None, None, None)

    def refused(self, code, *words, command, **options):
        """The command ends with that code, says something with each of these words, and in few lines."""
        done = self.bus.sluice(*command, check=False, **options)
        errors = done.stderr.decode(errors="replace")
        self.assertEqual(code, done.returncode, errors)
        self.says(errors, *words)
        return done

    def says(self, errors, *words):
        for word in words:
            self.assertIn(str(word), errors)
        self.assertNotIn("terminate called", errors)
        self.assertLessEqual(len(errors.strip().splitlines()), 6, errors)

    def daemon_refuses(self, code, *words, arguments=(), data=None, socket=None, **options):
        done = subprocess.run([rig.SLUICED, "--data-dir", str(data or self.bus.data),
                               "--socket", str(socket or self.bus.socket), *map(str, arguments)],
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=rig.TIMEOUT,
                              env=self.bus.environment, check=False, **options)
        errors = done.stderr.decode(errors="replace")
        self.assertEqual(code, done.returncode, errors)
        self.says(errors, *words)

    def with_lines(self, topic="kept", **options):
        """A running bus with a topic that holds three lines, to see afterwards that they are still there."""
        self.bus.start(**options)
        self.bus.sluice("topic", "create", topic)
        self.bus.sluice("produce", topic, "--durability", "sync", stdin="one\ntwo\nthree\n")

    def nothing_lost(self, topic="kept"):
        self.assertEqual(b"one\ntwo\nthree\n", self.bus.sluice("consume", topic, "--exit").stdout)
        self.bus.sluice("audit", topic)

    # -- the command ----------------------------------------------------------------------------------------------------

    def test_no_daemon_is_3(self):
        self.refused(3, self.bus.socket, command=["topic", "list"])
        self.refused(3, self.bus.socket, command=["produce", "orders"], stdin="one\n")

    def test_usage_is_2(self):
        for command in (["nonsense"], ["topic", "create"], ["topic", "create", "orders", "--partitions", "many"],
                        ["consume"], ["produce", "orders", "--key", "a", "--key-delimiter", ":"]):
            with self.subTest(command=command):
                self.refused(2, command=command)

    def test_unknown_topic_is_5(self):
        self.with_lines()
        for command in (["produce", "ordres"], ["consume", "ordres", "--exit"], ["topic", "describe", "ordres"],
                        ["topic", "delete", "ordres"], ["audit", "ordres"], ["msg", "show", "ordres/0@0"]):
            with self.subTest(command=command):
                self.refused(5, "ordres", command=command, stdin="one\n")
        self.nothing_lost()

    def test_a_topic_that_exists_is_8(self):
        self.with_lines()
        self.refused(8, "kept", command=["topic", "create", "kept"])
        self.nothing_lost()

    def test_a_message_that_is_too_large_is_4(self):
        self.with_lines()
        self.bus.sluice("topic", "create", "small", "--segment-size", "64KiB")
        large = self.bus.folder / "large"
        large.write_bytes(b"x" * (64 * 1024))
        self.refused(4, "small/0", "16384 bytes", command=["produce", "small", "--file", large])
        self.refused(4, "small", command=["produce", "small"], stdin=b"y" * (64 * 1024) + b"\n")
        # The lines before and after it arrive.
        done = self.bus.sluice("produce", "small", stdin=b"a\n" + b"y" * (64 * 1024) + b"\nb\n", check=False)
        self.assertEqual(4, done.returncode)
        consumed = self.bus.sluice("consume", "small", "--exit").stdout
        self.assertTrue(consumed.startswith(b"a\n"))
        self.assertNotIn(b"yyy", consumed)
        self.bus.sluice("audit", "small")
        self.nothing_lost()

    def test_a_socket_without_permission_is_4(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, to be somebody else")
        self.with_lines()
        self.bus.folder.chmod(0o755)
        other = {"user": OTHER_UID, "group": OTHER_UID, "extra_groups": []}
        self.refused(4, self.bus.socket, command=["topic", "list"], **other)
        # A socket that everybody may open lets nobody in but those whom the daemon knows.
        self.bus.socket.chmod(0o666)
        self.refused(4, OTHER_UID, command=["topic", "list"], **other)
        self.refused(4, OTHER_UID, command=["produce", "kept"], stdin="four\n", **other)
        self.nothing_lost()

    def test_no_memory_for_slots_is_4(self):
        self.with_lines()
        self.bus.stop()
        self.bus.start("--memory-budget", "64MiB")
        self.refused(4, "huge", command=["topic", "create", "huge", "--segment-size", "64MiB", "--slots", 64])
        self.refused(5, "huge", command=["topic", "describe", "huge"])  # nothing is left of it
        self.nothing_lost()

    # -- the daemon -----------------------------------------------------------------------------------------------------

    def test_the_daemon_s_usage_is_2(self):
        self.daemon_refuses(2, "--nonsense", arguments=["--nonsense"])
        self.daemon_refuses(2, "loud", arguments=["--log-level", "loud"])

    def test_an_unknown_key_is_2_and_named_with_its_line(self):
        file = self.bus.folder / "sluiced.toml"
        file.write_text('log_level = "info"\n\nmemory_bugdet = "1GiB"\n')
        self.daemon_refuses(2, f"{file}:3", "memory_bugdet", arguments=["--config", file])
        file.write_text('[topics]\nslots = "eight"\n')
        self.daemon_refuses(2, f"{file}:2", "slots", arguments=["--config", file])
        self.daemon_refuses(2, "absent.toml", arguments=["--config", self.bus.folder / "absent.toml"])

    def test_two_daemons_on_one_directory_or_socket_is_3(self):
        self.with_lines()
        self.daemon_refuses(3, self.bus.data, socket=self.bus.folder / "other.sock")
        self.daemon_refuses(3, self.bus.socket, data=self.bus.folder / "other")
        self.nothing_lost()

    def test_a_directory_of_a_newer_format_is_7_and_untouched(self):
        self.with_lines()
        self.bus.stop()
        form, store = self.bus.data / "format", self.bus.data / "store.db"
        was = form.read_bytes()
        form.write_bytes(b"sluice data format 999\n")
        self.refused_untouched(self.bus.data, "999")
        form.write_bytes(was)
        version = query(store, "PRAGMA user_version")
        query(store, "PRAGMA user_version = 999")
        self.refused_untouched(store, "999")
        query(store, f"PRAGMA user_version = {version}")
        self.bus.start()
        self.nothing_lost()

    def refused_untouched(self, *words):
        before = self.contents()
        self.daemon_refuses(7, *words)
        self.assertEqual(before, self.contents())

    def contents(self):
        return {str(path): path.read_bytes() for path in sorted(self.bus.data.rglob("*")) if path.is_file()}

    def test_a_directory_without_permission_is_4(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, to be somebody else")
        self.bus.folder.chmod(0o755)
        self.daemon_refuses(4, self.bus.data, user=OTHER_UID, group=OTHER_UID, extra_groups=[])

    # -- a full disk ----------------------------------------------------------------------------------------------------

    def test_a_full_disk_is_6_and_nothing_is_lost(self):
        mount = self.small_disk()
        self.bus.data = mount / "data"
        self.bus.start("--config", self.small_files())
        self.bus.sluice("topic", "create", "kept", "--segment-size", "256KiB", "--slots", 4)
        self.bus.sluice("produce", "kept", "--durability", "sync", stdin="one\ntwo\nthree\n")
        lines = self.bus.folder / "lines"
        with open(lines, "wb") as file:
            for number in range(40_000):
                file.write(b"%08d " % number + b"z" * 1000 + b"\n")
        with open(lines, "rb") as file:
            done = subprocess.run([rig.SLUICE, "produce", "kept", "--receipts", "--timeout", "3s"], stdin=file,
                                  capture_output=True, timeout=rig.TIMEOUT, env=self.bus.environment, check=False)
        errors = done.stderr.decode()
        self.assertEqual(6, done.returncode, errors)
        self.says(errors, "kept")
        sent = done.stdout.count(b'"position"')
        self.assertGreater(sent, 3000)  # 20 MB are several thousand of them
        # What has a receipt can be read, in order.
        consumed = self.bus.sluice("consume", "kept", "--from", "earliest", "--exit").stdout.splitlines()
        self.assertEqual([b"one", b"two", b"three"], consumed[:3])
        numbers = [int(line[:8]) for line in consumed[3:]]
        self.assertEqual(list(range(sent)), numbers[:sent])
        # Room comes back: the topic goes on by itself.
        (mount / "ballast").unlink()
        self.bus.sluice("produce", "kept", "--durability", "sync", "--timeout", "60s", stdin="after\n")
        consumed = self.bus.sluice("consume", "kept", "--from", "earliest", "--exit").stdout.splitlines()
        self.assertEqual(b"after", consumed[-1])
        self.assertEqual([b"one", b"two", b"three"], consumed[:3])
        self.bus.sluice("audit", "kept")
        self.assertEqual(0, self.bus.stop())

    def small_files(self):
        file = self.bus.folder / "sluiced.toml"
        file.write_text("[topics]\nsegments_per_file = 4\n")
        return file

    def small_disk(self):
        """A file system of 20 MB with 8 MB of ballast in it: ext4 on a loop device, else a tmpfs."""
        if os.geteuid() != 0:
            self.skipTest("needs root, to mount a small file system")
        mount = self.bus.folder / "disk"
        mount.mkdir()
        image = self.bus.folder / "image"
        with open(image, "wb") as file:
            file.truncate(20 * 1000 * 1000)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
        made = shutil.which("mkfs.ext4") and subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", str(image)],
                                                            **quiet).returncode == 0
        mounted = made and subprocess.run(["mount", "-o", "loop", str(image), str(mount)], **quiet).returncode == 0
        if not mounted:
            mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", str(mount)],
                                     **quiet).returncode == 0
        if not mounted:
            self.skipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", str(mount)], **quiet)
        (mount / "ballast").write_bytes(b"\0" * 8_000_000)
        return mount


def query(database, statement):
    """Runs one statement; returns the first value of its first row, if there is one."""
    connection = sqlite3.connect(database)
    try:
        row = connection.execute(statement).fetchone()
        connection.commit()
        return row[0] if row else None
    finally:
        connection.close()


if __name__ == "__main__":
    rig.main()
