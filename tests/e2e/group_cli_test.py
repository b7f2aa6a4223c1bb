"""Consumer groups from the command line: a group is made, described, consumed, sought, explained, and its dead letters are
listed, redriven and purged.

The expectation is what was produced: each payload is its own, and a group that acks prints each of them once.
"""

import json
import signal
import subprocess
import unittest

import rig


def lines(first, last):
    return [b"m%d" % number for number in range(first, last)]


class GroupCliTest(unittest.TestCase):
    def setUp(self):
        self.bus = rig.Bus()
        self.addCleanup(self.bus.__exit__, None, None, None)
        self.bus.start()

    def make(self, topic, partitions=1, *arguments):
        self.bus.sluice("topic", "create", topic, "--partitions", partitions, *arguments)

    def produce(self, topic, payloads, *arguments):
        self.bus.sluice("produce", topic, *arguments, stdin=b"".join(line + b"\n" for line in payloads))

    def consume(self, *arguments):
        """What a member prints until the end that stood when it came."""
        return self.bus.sluice("consume", *arguments, "--exit").stdout.splitlines()

    def describe(self, group):
        return self.bus.json("group", "describe", group)

    def code(self, *arguments):
        return self.bus.sluice(*arguments, check=False).returncode

    def test_groups_are_made_altered_described_and_deleted(self):
        self.bus.sluice("group", "create", "billing", "--mode", "ordered", "--ack-timeout", "5s", "--max-attempts", "3",
                        "--backoff", "1s,5s,1m", "--strict", "key", "--hold")
        config = self.describe("billing")["config"]
        self.assertEqual("ordered", config["mode"])
        self.assertEqual(5000, config["ack_timeout_ms"])
        self.assertEqual(3, config["max_attempts"])
        self.assertEqual([1000, 5000, 60000], config["backoff"]["steps_ms"])
        self.assertEqual("key", config["strict"])
        self.assertTrue(config["hold"])
        self.bus.sluice("group", "alter", "billing", "--backoff", "exp:10ms..1s", "--strict", "none", "--no-hold")
        config = self.describe("billing")["config"]
        self.assertEqual({"first_ms": 10, "max_ms": 1000}, config["backoff"])
        self.assertEqual(5000, config["ack_timeout_ms"])
        self.assertFalse(config["hold"])
        self.assertEqual(8, self.code("group", "create", "billing"))
        self.assertEqual(2, self.code("group", "create", "bad name"))
        self.assertEqual(2, self.code("group", "create", "x", "--mode", "shared", "--strict", "key"))
        self.assertEqual(["billing"], [group["name"] for group in self.bus.json("group", "list")["groups"]])
        self.bus.sluice("group", "delete", "billing")
        for words in (("describe", "billing"), ("delete", "billing"), ("alter", "billing", "--hold"),
                      ("pause", "billing"), ("seek", "billing", "--to", "latest")):
            self.assertEqual(5, self.code("group", *words), words)
        self.assertEqual([], self.bus.json("group", "list")["groups"])

    def test_what_was_acked_does_not_come_again_and_lag_says_what_is_left(self):
        self.make("orders", 2)
        self.produce("orders", lines(0, 100))
        self.assertEqual(sorted(lines(0, 100)), sorted(self.consume("orders", "--group", "billing")))
        group = self.describe("billing")
        self.assertEqual(0, group["lag_messages"])
        self.assertEqual(["orders"], group["subscriptions"])
        self.assertEqual([], group["members"], "a member that has ended is still there")
        for partition in group["partitions"]:
            self.assertEqual("orders", partition["topic"])
            self.assertIsNone(partition["member"])
        self.produce("orders", lines(100, 110))
        self.assertEqual(10, self.describe("billing")["lag_messages"])
        self.assertEqual(sorted(lines(100, 110)), sorted(self.consume("orders", "--group", "billing")))
        self.assertEqual([], self.consume("orders", "--group", "billing"))
        self.assertEqual(100 + 10, len(self.consume("orders", "--group", "audit")), "groups are not each other's")

    def test_acks_outlive_the_daemon(self):
        self.make("orders")
        self.produce("orders", lines(0, 50))
        first = self.bus.sluice("consume", "orders", "--group", "billing", "--from", "earliest", "--count", 20)
        self.assertEqual(lines(0, 20), first.stdout.splitlines())
        self.assertEqual(0, self.bus.stop())
        self.bus.start()
        self.assertEqual(lines(20, 50), self.consume("orders", "--group", "billing"))

    def test_without_an_ack_messages_come_again(self):
        for mode in ("ordered", "shared"):
            topic, group = f"orders.{mode}", f"billing.{mode}"
            self.make(topic)
            self.produce(topic, lines(0, 5))
            self.bus.sluice("group", "create", group, "--mode", mode)
            self.assertEqual(lines(0, 5), sorted(self.consume(topic, "--group", group, "--no-ack")))
            self.assertEqual(lines(0, 5), sorted(self.consume(topic, "--group", group)))
            self.assertEqual([], self.consume(topic, "--group", group))

    def test_a_message_that_failed_comes_again_and_says_how_often(self):
        for mode in ("ordered", "shared"):
            topic, group = f"orders.{mode}", f"billing.{mode}"
            self.make(topic)
            self.produce(topic, lines(0, 1))
            self.bus.sluice("group", "create", group, "--mode", mode, "--ack-timeout", "50ms", "--backoff", "10ms,20ms")
            out = self.bus.sluice("consume", topic, "--group", group, "--from", "earliest", "--no-ack", "--count", 3,
                                  "--json").stdout
            messages = [json.loads(line) for line in out.splitlines()]
            self.assertEqual([(1, 0), (2, 1), (3, 2)], [(m["delivered"], m["failed"]) for m in messages])

    def test_members_share_the_messages_and_a_signal_ends_one_cleanly(self):
        self.make("orders", 4)
        members = [self.bus.spawn(rig.SLUICE, "consume", "orders", "--group", "billing", stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE) for _ in range(2)]
        rig.wait_until(lambda: self.code("group", "describe", "billing") == 0 and
                       sorted(member["partitions"] for member in self.describe("billing")["members"]) == [2, 2],
                       "both members to have their share")
        self.produce("orders", lines(0, 200))
        rig.wait_until(lambda: self.describe("billing")["lag_messages"] == 0, "everything to be settled")
        printed = []
        for member, number in zip(members, (signal.SIGINT, signal.SIGTERM)):
            member.send_signal(number)
            out, errors = member.communicate(timeout=rig.TIMEOUT)
            self.assertEqual(0, member.returncode, errors)
            self.assertTrue(out, "one member got nothing")
            printed += out.splitlines()
        self.assertEqual(sorted(lines(0, 200)), sorted(printed))
        self.assertEqual([], self.describe("billing")["members"])

    def test_a_pattern_takes_up_topics_that_are_made_later(self):
        self.make("bills.a")
        member = self.bus.spawn(rig.SLUICE, "consume", "bills.*", "--group", "billing", "--from", "earliest", "--count",
                                2, "--format", "%t\\n", stdout=subprocess.PIPE)
        self.produce("bills.a", [b"x"])
        self.assertEqual(b"bills.a\n", member.stdout.readline())
        self.make("bills.b")
        self.produce("bills.b", [b"x"])
        self.assertEqual(b"bills.b\n", member.stdout.readline())
        self.assertEqual(0, member.wait(rig.TIMEOUT))
        member.stdout.close()

    def test_a_tag_and_a_count_are_kept_to(self):
        self.make("orders")
        self.produce("orders", lines(0, 3), "--tag", "red")
        self.produce("orders", lines(3, 6), "--tag", "blue")
        self.assertEqual(lines(3, 6), self.consume("orders", "--group", "billing", "--tag", "blue"))
        member = self.bus.spawn(rig.SLUICE, "consume", "orders", "--group", "billing", "--tag", "blue",
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rig.wait_until(lambda: self.describe("billing")["members"], "the member to join")
        self.assertEqual(8, self.code("consume", "orders", "--group", "billing", "--tag", "red", "--exit"))
        member.send_signal(signal.SIGTERM)
        self.assertEqual(0, member.wait(rig.TIMEOUT))
        taken = self.bus.sluice("consume", "orders", "--group", "audit", "--from", "earliest", "--count", 2)
        self.assertEqual(lines(0, 2), taken.stdout.splitlines())
        self.assertEqual(lines(2, 6), self.consume("orders", "--group", "audit"))

    def test_a_paused_group_gets_nothing_until_it_is_resumed(self):
        self.make("orders")
        self.produce("orders", lines(0, 3))
        self.bus.sluice("group", "create", "billing")
        self.bus.sluice("group", "pause", "billing")
        paused = self.bus.sluice("consume", "orders", "--group", "billing", "--from", "earliest", "--timeout", "500ms",
                                 check=False)
        self.assertEqual((6, b""), (paused.returncode, paused.stdout))
        self.assertTrue(self.describe("billing")["paused"])
        self.assertEqual("paused", self.bus.json("why", "billing")["cause"])
        self.bus.sluice("group", "resume", "billing")
        self.assertEqual(lines(0, 3), self.consume("orders", "--group", "billing"))

    def test_seek_tells_before_it_moves_and_its_undo_puts_the_cursor_back(self):
        self.make("orders", 2)
        self.produce("orders", lines(0, 20), "--partition", 0)
        self.produce("orders", lines(20, 40), "--partition", 1)
        self.consume("orders", "--group", "billing")
        before = {p["partition"]: p["cursor"] for p in self.describe("billing")["partitions"]}
        dry = self.bus.json("group", "seek", "billing", "--to", "earliest")
        self.assertFalse(dry["executed"])
        self.assertEqual(before, {move["partition"]: move["from"] for move in dry["moves"]})
        self.assertEqual(0, self.describe("billing")["lag_messages"], "a dry run has moved it")
        done = self.bus.json("group", "seek", "billing", "--to", "earliest", "--execute")
        self.assertTrue(done["executed"])
        self.assertEqual(40, self.describe("billing")["lag_messages"])
        for command in done["undo"]:
            self.bus.sluice(*command.split()[1:])
        self.assertEqual(0, self.describe("billing")["lag_messages"])
        self.assertEqual([], self.consume("orders", "--group", "billing"))

        position = json.loads(self.bus.sluice("consume", "orders", "--partition", 1, "--from", "earliest", "--exit",
                                              "--json").stdout.splitlines()[15])["position"]
        self.assertEqual(2, self.code("group", "seek", "billing", "--topic", "orders", "--to", position))
        self.bus.sluice("group", "seek", "billing", "--topic", "orders", "--to", f"1@{position}", "--execute")
        self.assertEqual(lines(35, 40), self.consume("orders", "--group", "billing"))
        self.bus.sluice("group", "seek", "billing", "--to", "-1h", "--execute")
        self.assertEqual(40, len(self.consume("orders", "--group", "billing")))

    def test_why_names_the_cause_and_its_check_fails_where_something_is_wrong(self):
        self.make("orders")
        self.produce("orders", lines(0, 10))
        self.consume("orders", "--group", "billing")
        self.assertEqual(0, self.code("why", "billing", "--check", "--max-lag", 0))
        self.produce("orders", lines(10, 20))
        why = self.bus.json("why", "billing")
        self.assertEqual("no_members", why["cause"])
        self.assertEqual(10, why["lag_messages"])
        self.assertTrue(why["sentence"] and why["advice"])
        self.assertEqual(1, self.code("why", "billing", "--check"))
        self.assertEqual(0, self.code("why", "billing"))
        self.consume("orders", "--group", "billing")
        self.assertEqual(0, self.code("why", "billing", "--check", "--max-lag", 0, "--max-age", "1s"))

    def test_what_fails_too_often_is_parked_shown_redriven_and_purged(self):
        self.make("orders")
        self.bus.sluice("group", "create", "billing", "--mode", "shared", "--ack-timeout", "100ms", "--max-attempts", 1)
        self.produce("orders", [b"poison", b"\xff"], "--key", "k", "--header", "a=b")
        # It hands them out, acks nothing and stays: their ack timeout passes.
        member = self.bus.spawn(rig.SLUICE, "consume", "orders", "--group", "billing", "--from", "earliest", "--no-ack",
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rig.wait_until(lambda: self.bus.json("dlq", "list", "billing")["groups"][:1] and
                       self.bus.json("dlq", "list", "billing")["groups"][0]["parked"] == 2, "both to be parked")
        member.send_signal(signal.SIGTERM)
        self.assertEqual(0, member.wait(rig.TIMEOUT))
        self.assertEqual([], self.consume("orders", "--group", "billing"))

        letters = self.bus.json("dlq", "show", "billing")["letters"]
        self.assertEqual(["poison", None], [letter.get("payload") for letter in letters])
        self.assertEqual("/w==", letters[1]["payload_base64"])
        for letter in letters:
            self.assertEqual(f"orders/0@{letter['position']}", letter["origin"])
            self.assertEqual(1, letter["failed"])
            self.assertEqual("parked", letter["state"])
            self.assertTrue(letter["reason"])
            self.assertEqual("k", letter["key"])
            self.assertEqual("b", letter["headers"]["a"])
        self.assertEqual(letters[1:], self.bus.json("dlq", "show", "billing", "--after", letters[0]["id"])["letters"])
        self.assertEqual(letters[:1], self.bus.json("dlq", "show", "billing", "--limit", 1)["letters"])
        self.assertIn(b"poison", self.bus.sluice("dlq", "show", "billing").stdout)

        only = ("--filter", f"id={letters[0]['id']}")
        dry = self.bus.json("dlq", "redrive", "billing", *only, "--dry-run")["outcomes"]
        self.assertEqual([(letters[0]["id"], "would_redrive")], [(row["id"], row["outcome"]) for row in dry])
        self.assertEqual(2, self.bus.json("dlq", "list", "billing")["groups"][0]["parked"])
        done = self.bus.json("dlq", "redrive", "billing", *only)["outcomes"]
        self.assertEqual(["redriven"], [row["outcome"] for row in done])
        again = self.bus.sluice("consume", "orders", "--group", "billing", "--count", 1, "--json", "--timeout", "60s")
        self.assertEqual("poison", json.loads(again.stdout)["payload"])
        counts = self.bus.json("dlq", "list", "billing")["groups"][0]
        self.assertEqual((1, 1), (counts["parked"], counts["redriven"]))
        self.assertEqual(1, self.bus.json("dlq", "purge", "billing")["purged"])
        self.assertEqual(0, self.bus.json("dlq", "list", "billing")["groups"][0]["parked"])
        self.bus.sluice("audit", "orders")

    def test_a_reader_of_stdout_that_is_gone_acks_nothing_that_it_has_not_got(self):
        self.make("orders")
        self.produce("orders", [b"%d %s" % (number, b"x" * 2000) for number in range(2000)])
        member = self.bus.spawn(rig.SLUICE, "consume", "orders", "--group", "billing", "--from", "earliest",
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.assertTrue(member.stdout.readline().startswith(b"0 "))
        member.stdout.close()
        self.assertEqual(0, member.wait(rig.TIMEOUT))
        rest = self.consume("orders", "--group", "billing")
        self.assertTrue(rest, "acked although nobody had read it")
        self.assertTrue(rest[-1].startswith(b"1999 "))


if __name__ == "__main__":
    rig.main()
