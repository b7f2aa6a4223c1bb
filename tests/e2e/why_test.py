"""`sluice why` and `sluice group describe` name what holds a group back: each cause is made with real members, and must be
told by its word, with the member or the message in the sentence, and by the exit code of --check.
"""

import json
import os
import signal
import subprocess
import unittest

import rig

MEMBER = os.environ.get("SLUICE_TEST_GROUP_MEMBER", "sluice_group_member")
MODES = ("ordered", "shared")


class WhyTest(unittest.TestCase):
    def setUp(self):
        self.bus = rig.Bus()
        self.addCleanup(self.bus.__exit__, None, None, None)
        self.bus.start()
        self.bus.sluice("topic", "create", "orders")

    def produce(self, count):
        self.bus.sluice("produce", "orders", stdin=b"".join(b"m%d\n" % number for number in range(count)))

    def group(self, mode, *arguments):
        self.bus.sluice("group", "create", "billing", "--mode", mode, *arguments)

    def start_again(self):
        """The same bus for another mode."""
        for child in self.bus.children:
            child.kill()
            child.wait()
        self.bus.sluice("group", "delete", "billing")

    def member(self, mode, verb, work_ms=0, in_flight_max=1024):
        """A member that has joined."""
        child = self.bus.spawn(MEMBER, "orders", "billing", mode, verb, work_ms, in_flight_max)
        rig.wait_until(lambda: child.pid in [member["pid"] for member in self.describe()["members"]],
                       "the member to join")
        return child

    def describe(self):
        return self.bus.json("group", "describe", "billing")

    def partition(self):
        partitions = self.describe()["partitions"]
        return partitions[0] if partitions else None

    def why(self):
        """The answer of --check, whose exit code must be what it says."""
        done = self.bus.sluice("why", "billing", "--check", "--json", check=False)
        why = json.loads(done.stdout)
        self.assertEqual(0 if why["ok"] else 1, done.returncode, why)
        return why

    def expect(self, cause, *words, well=False):
        """Waits until the cause is told; the sentence must have the words in it."""
        told = []

        def is_told():
            told[:] = [self.why()]
            return told[0]["cause"] == cause

        try:
            rig.wait_until(is_told, f"why to tell {cause}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it tells {told[0]}") from error
        self.assertEqual(well, told[0]["well"], told[0])
        self.assertIn("billing", told[0]["sentence"])
        for word in words:
            self.assertIn(str(word), told[0]["sentence"])
        self.assertTrue(told[0]["advice"])
        return told[0]

    def test_no_members(self):
        self.produce(1)
        self.bus.sluice("consume", "orders", "--group", "billing", "--exit")
        self.expect("caught_up", well=True)
        self.produce(3)
        self.expect("no_members", "no members", "3 messages")
        self.assertEqual([], self.describe()["members"])
        self.assertEqual(3, self.partition()["ready"])

    def test_a_slow_member(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                # More than a quarter of its ack timeout for one message is slow.
                self.group(mode, "--ack-timeout", "4s")
                child = self.member(mode, "ack", 3000)
                self.produce(20)
                self.expect("member_slow", f"pid {child.pid}", "orders/0", "in hand for")
                rig.wait_until(lambda: self.partition()["in_flight"] > 0, "its message to be shown")
                self.start_again()

    def test_a_stopped_member(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                self.group(mode)
                child = self.member(mode, "ack")
                self.produce(1)
                self.expect("caught_up", well=True)
                child.send_signal(signal.SIGSTOP)
                self.produce(5)
                self.expect("member_stopped", f"pid {child.pid}", "stopped")
                self.assertEqual(5, self.partition()["lag_messages"])
                child.send_signal(signal.SIGCONT)
                self.expect("caught_up", well=True)
                self.start_again()

    def test_a_member_at_its_in_flight_limit(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                self.group(mode)
                child = self.member(mode, "keep", 0, 4)
                self.produce(10)
                self.expect("in_flight_limit", f"pid {child.pid}", "limit of 4 messages")
                member = self.describe()["members"][0]
                self.assertEqual((4, 4), (member["in_flight"], member["in_flight_max"]))
                self.assertEqual(4, self.partition()["in_flight"])
                self.start_again()

    def test_a_poison_message(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                self.group(mode, "--max-attempts", 1000, "--backoff", "20ms")
                self.produce(1)
                self.member(mode, "nack")
                self.bus.sluice("group", "pause", "billing")
                positions = [json.loads(line)["position"] for line in
                             self.bus.sluice("consume", "orders", "--from", "earliest", "--exit", "--json")
                             .stdout.splitlines()]
                self.bus.sluice("group", "resume", "billing")
                why = self.expect("poison_message", "of 1000")
                self.assertIn(why["sentence"].split()[2], [f"orders/0@{position}" for position in positions])
                rig.wait_until(lambda: self.partition()["retrying"] > 0, "its retry to be shown")
                self.start_again()

    def test_a_paused_group(self):
        for mode in MODES:
            with self.subTest(mode=mode):
                self.group(mode)
                self.member(mode, "ack")
                self.bus.sluice("group", "pause", "billing")
                self.produce(4)
                why = self.expect("paused", "paused", "4 messages")
                self.assertIn("group resume billing", why["advice"])
                self.assertTrue(self.describe()["paused"])
                self.bus.sluice("group", "resume", "billing")
                self.expect("caught_up", well=True)
                self.start_again()

    def test_producers_that_are_faster(self):
        path = self.bus.folder / "lines"
        path.write_bytes(b"".join(b"m%d\n" % number for number in range(200000)))
        for mode in MODES:
            with self.subTest(mode=mode):
                self.group(mode)
                self.member(mode, "ack", 10)
                with open(path, "rb") as lines:
                    self.bus.spawn(rig.SLUICE, "produce", "orders", "--rate", 1000, stdin=lines,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                self.expect("producers_faster", "behind", "messages a second come in")
                partition = self.partition()
                self.assertGreater(partition["produced_per_s"], partition["consumed_per_s"])
                self.start_again()


if __name__ == "__main__":
    rig.main()
