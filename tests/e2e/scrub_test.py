"""Log files that rot: what `sluice topic scrub` finds and mends, and what a reader sees of it.

The copies lie in two directories of one file system, and their bytes are changed behind the daemon's back.
"""

import os
import random
import re
import unittest

import rig

SEED = int(os.environ.get("SLUICE_SEED", 1))
MESSAGES = 6000
# Small, so that most of it is in closed files; nothing is mended that nobody asked for.
TOPIC = ["--segment-size", "64KiB", "--slots", "4"]
CONFIG = 'mirror_scrub = "off"\n[topics]\nsegments_per_file = 4\n'


class Scrub(unittest.TestCase):
    def setUp(self):
        self.chance = random.Random(SEED)
        self.bus = rig.Bus()
        self.addCleanup(self.bus.__exit__, None, None, None)

    def start(self, mirrored):
        self.copies = [self.bus.data, self.bus.folder / "mirror"] if mirrored else [self.bus.data]
        config = self.bus.folder / "sluiced.toml"
        config.write_text((f'mirrors = ["{self.copies[1]}"]\n' if mirrored else "") + CONFIG)
        self.arguments = ["--config", config]
        self.bus.start(*self.arguments)
        self.bus.sluice("topic", "create", "t", "--durability", "sync", *TOPIC)
        self.lines = [f"{n} {'x' * (n % 700)}" for n in range(MESSAGES)]
        self.bus.sluice("produce", "t", stdin="".join(line + "\n" for line in self.lines))

    def closed_files(self, copy):
        """All but the newest three, which may be open."""
        files = sorted(copy.glob("topics/t/0/*.log"))[:-3]
        self.assertGreater(len(files), 5)
        return files

    def flip(self, path, at):
        with open(path, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 0xff]))

    def rot(self, copy, files):
        """In each file a segment header, and bytes anywhere."""
        for path in files:
            self.flip(path, 64 * 1024 * self.chance.randrange(4) + 50)
            for _ in range(5):
                self.flip(path, self.chance.randrange(path.stat().st_size))

    def scrub(self, expect):
        done = self.bus.sluice("topic", "scrub", "t", "--json", check=False)
        self.assertEqual(done.returncode, expect, done.stderr.decode())
        return rig.json.loads(done.stdout)

    def consume(self, check=True):
        done = self.bus.sluice("consume", "t", "--exit", "--from", "earliest", check=False)
        if check:
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (0, 1), done.stderr.decode())
        return done, done.stdout.decode().splitlines()

    def expect_equal_copies(self):
        for one, other in zip(*[self.closed_files(copy) for copy in self.copies]):
            self.assertEqual(one.read_bytes(), other.read_bytes(), one.name)

    def test_a_scrub_of_whole_copies_finds_nothing(self):
        self.start(mirrored=True)
        report = self.scrub(expect=0)
        self.assertEqual(report["copies"], 2)
        self.assertGreater(report["bytes"], MESSAGES * 350 / 2)
        self.assertEqual((report["mended_segments"], report["damaged"], report["errors"]), (0, [], []))
        self.assertIn("whole", self.bus.sluice("topic", "scrub", "t", "--partition", "0").stdout.decode())

    def test_a_scrub_mends_each_copy_from_the_other(self):
        self.start(mirrored=True)
        self.rot(self.copies[0], self.closed_files(self.copies[0])[0::2])
        self.rot(self.copies[1], self.closed_files(self.copies[1])[1::2])
        lost = self.closed_files(self.copies[1])[3]
        lost.unlink()
        short = self.closed_files(self.copies[0])[4]
        os.truncate(short, 70000)
        report = self.scrub(expect=0)
        self.assertGreater(report["mended_segments"], 5)
        self.assertEqual((report["damaged"], report["errors"]), ([], []))
        self.assertTrue(lost.exists())
        self.expect_equal_copies()
        self.assertEqual(self.scrub(expect=0)["mended_segments"], 0)
        self.assertEqual(self.consume()[1], self.lines)
        status = self.bus.json("status")
        self.assertEqual([m["state"] for m in status["mirrors"]], ["good", "good"])
        self.assertEqual(status["scrub"], {"passes": 0, "mended_bytes": report["mended_bytes"], "damaged_bytes": 0})

    def test_a_reader_notices_nothing_of_damage_that_a_copy_can_mend(self):
        self.start(mirrored=True)
        self.rot(self.copies[0], self.closed_files(self.copies[0]))
        os.truncate(self.closed_files(self.copies[0])[4], 100000)
        self.assertEqual(self.consume()[1], self.lines)
        self.assertEqual(self.consume()[1], self.lines)
        # What no reader looked at is left: pads and the like.
        self.scrub(expect=0)
        self.expect_equal_copies()

    def test_what_is_intact_nowhere_is_named_set_aside_and_not_served(self):
        for mirrored in (False, True):
            with self.subTest(mirrored=mirrored):
                self.setUp()
                self.start(mirrored)
                for copy in self.copies:
                    path = self.closed_files(copy)[1]
                    content = path.read_bytes()
                    at = content.index(b"x" * 300)
                    self.flip(path, at + 5)
                    before = path.read_bytes()
                done, lines = self.consume(check=False)
                self.assertEqual(done.returncode, 7)
                self.assertIn("damaged", done.stderr.decode())
                missing = set(self.lines) - set(lines)
                self.assertEqual((len(missing), len(lines)), (1, MESSAGES - 1))
                report = self.scrub(expect=1)
                self.assertEqual(len(report["damaged"]), 1)
                damaged = report["damaged"][0]
                position = int(path.stem) + at
                self.assertTrue(damaged["begin"] <= position < damaged["end"], damaged)
                self.assertIn("checksum", damaged["reason"])
                self.assertEqual(report["damaged_bytes"], damaged["end"] - damaged["begin"])
                self.assertEqual(path.read_bytes(), before, "it is kept as it is")
                self.assertEqual(self.bus.partitions("t")[0]["quarantined_bytes"], damaged["bytes"])
                self.assertEqual(self.bus.json("status")["scrub"]["damaged_bytes"], damaged["bytes"])
                said = self.bus.sluice("topic", "scrub", "t", check=False)
                self.assertEqual(said.returncode, 1)
                self.assertTrue(re.search(rf"{damaged['begin']} +{damaged['end']}", said.stdout.decode()))
                self.assertEqual(self.bus.stop(), 0)
                self.bus.start(*self.arguments)
                self.assertEqual(set(self.lines) - set(self.consume(check=False)[1]), missing)
                self.bus.sluice("produce", "t", stdin="alive\n")
                self.assertEqual(self.consume(check=False)[1][-1], "alive")

    def test_what_cannot_be_scrubbed_is_refused(self):
        self.start(mirrored=False)
        self.bus.sluice("topic", "create", "v", "--durability", "volatile")
        for arguments, code in ((["nothing"], 5), (["v"], 2), (["t", "--partition", "7"], 5)):
            done = self.bus.sluice("topic", "scrub", *arguments, check=False)
            self.assertEqual(done.returncode, code, done.stderr.decode())


if __name__ == "__main__":
    rig.main()
