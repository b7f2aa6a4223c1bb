#!/usr/bin/env python3
"""The command against a real daemon: exact bytes, exit codes, receipts, JSON, signals, a daemon that goes and comes back.

    command_e2e_test.py SLUICE SLUICED
"""

import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

SLUICE, SLUICED = sys.argv[1:3]


class Bus:
    """A daemon with a directory and a socket of its own."""

    def __init__(self, config=""):
        self.directory = tempfile.mkdtemp(prefix="sluice-cli-")
        self.socket = self.directory + "/s"
        self.config = self.directory + "/sluiced.toml"
        self.daemon = None
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(config)

    def start(self):
        self.log = open(self.directory + "/log", "ab")
        self.daemon = subprocess.Popen(
            [SLUICED, "--config", self.config, "--data-dir", self.directory + "/data", "--socket", self.socket,
             "--memory-budget", "256MiB"],
            stderr=self.log, stdout=self.log)
        for _ in range(600):
            if self("status").returncode == 0:
                return
            if self.daemon.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError("the daemon does not start: " + open(self.directory + "/log").read())

    def kill(self, number=signal.SIGKILL):
        self.daemon.send_signal(number)
        self.daemon.wait()
        self.log.close()

    def remove(self):
        if self.daemon is not None and self.daemon.poll() is None:
            self.kill()
        shutil.rmtree(self.directory)

    def command(self, *words):
        return [SLUICE, *words, "--socket", self.socket]

    def __call__(self, *words, data=b"", **options):
        return subprocess.run(self.command(*words), input=data, capture_output=True, timeout=120, check=False, **options)


class CommandTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bus = Bus()
        cls.bus.start()

    @classmethod
    def tearDownClass(cls):
        cls.bus.remove()

    def setUp(self):
        self.topic = self._testMethodName[5:]

    def ok(self, *words, data=b""):
        run = self.bus(*words, data=data)
        self.assertEqual(run.returncode, 0, (words, run.stderr))
        return run

    def create(self, *options):
        self.ok("topic", "create", self.topic, "--segment-size", "256KiB", *options)

    def messages(self, *options):
        out = self.ok("consume", self.topic, "--exit", "--json", *options).stdout
        return [json.loads(line) for line in out.splitlines()]

    def test_lines_come_back_as_they_were(self):
        self.create()
        for data in (b"", b"\n", b"one\n\n\nfour", b"\x00\xff\r\t\x1b[31m\n%s\\n\n"):
            before = self.ok("consume", self.topic, "--exit").stdout
            sent = self.ok("produce", self.topic, data=data)
            lines = data.count(b"\n") + (0 if data.endswith(b"\n") or not data else 1)
            size = len(data) - data.count(b"\n")
            self.assertEqual(sent.stderr.splitlines()[-1].decode(), f"{lines} messages, {size} bytes, 0 errors")
            self.assertEqual(sent.stdout, b"")
            after = self.ok("consume", self.topic, "--exit").stdout
            expected = data if data.endswith(b"\n") or not data else data + b"\n"
            self.assertEqual(after, before + expected)

    def test_delayed_messages_wait_and_those_that_are_due_come(self):
        self.create()
        self.ok("produce", self.topic, "--delay", "1h", data=b"later\n")
        self.ok("produce", self.topic, "--deliver-at", "2020-01-01T00:00:00Z", data=b"due\n")
        due = self.ok("consume", self.topic, "--from", "earliest", "--count", "1").stdout
        self.assertEqual(due, b"due\n")
        self.assertEqual(self.ok("consume", self.topic, "--exit").stdout, b"due\n")
        partition = json.loads(self.ok("topic", "describe", self.topic, "--json").stdout)["partitions"][0]
        self.assertEqual(partition["delayed"], 1)
        self.assertGreater(partition["next_due_ms"] / 1000, time.time())
        self.assertIn(b"delayed messages that wait: 1, the next is due at ", self.ok("topic", "describe", self.topic).stdout)
        audit = json.loads(self.ok("audit", self.topic, "--json").stdout)
        self.assertEqual(sum(row["delayed"] for row in audit["rows"]), 2)

    def test_what_cannot_be_delayed_is_refused(self):
        self.create("--durability", "volatile")
        for options in (("--delay", "1s"), ("--deliver-at", "2040-01-01T00:00:00Z")):
            run = self.bus("produce", self.topic, *options, data=b"x\n")
            self.assertEqual(run.returncode, 2, run.stderr)
            self.assertIn(b"volatile", run.stderr)
        for options in (("--delay", "soon"), ("--deliver-at", "noon"), ("--expire", "never"),
                        ("--delay", "1s", "--deliver-at", "2040-01-01T00:00:00Z")):
            self.assertEqual(self.bus("produce", self.topic, *options, data=b"x\n").returncode, 2, options)

    def test_expired_messages_are_passed_over(self):
        self.create()
        self.ok("produce", self.topic, "--expire", "1ms", data=b"old\n")
        self.ok("produce", self.topic, "--expire", "1h", data=b"fresh\n")
        time.sleep(0.05)
        self.assertEqual(self.ok("consume", self.topic, "--exit").stdout, b"fresh\n")

    def test_a_topics_time_to_live_expires_its_messages_and_loses_none(self):
        self.create("--message-ttl", "50ms")
        topic = json.loads(self.ok("topic", "describe", self.topic, "--json").stdout)
        self.assertEqual(topic["message_ttl_ns"], 50 * 10**6)
        self.ok("produce", self.topic, data=b"old\n")
        self.ok("produce", self.topic, "--expire", "1h", data=b"its own is later\n")
        time.sleep(0.1)
        self.assertEqual(self.ok("consume", self.topic, "--exit").stdout, b"")
        self.assertEqual(self.ok("consume", self.topic, "--exit", "--group", self.topic, "--from", "earliest").stdout, b"")
        self.ok("topic", "alter", self.topic, "--message-ttl", "1h")
        self.assertEqual(self.ok("consume", self.topic, "--exit").stdout, b"old\nits own is later\n")
        self.assertIn(b"time to live    60.0 min", self.ok("topic", "describe", self.topic).stdout)
        self.ok("topic", "alter", self.topic, "--message-ttl", "none")
        self.assertEqual(json.loads(self.ok("topic", "describe", self.topic, "--json").stdout)["message_ttl_ns"], 0)
        audit = json.loads(self.ok("audit", self.topic, "--json").stdout)
        self.assertEqual(sum(row["data"] for row in audit["rows"]), 2)

    def test_a_time_to_live_that_cannot_be_is_refused(self):
        for flags in (("--message-ttl", "1h", "--time", "none"), ("--message-ttl", "10us"), ("--message-ttl", "4000d"),
                      ("--message-ttl", "soon")):
            run = self.bus("topic", "create", self.topic, *flags)
            self.assertEqual(run.returncode, 2, (flags, run.stderr))
        self.create("--time", "none")
        run = self.bus("topic", "alter", self.topic, "--message-ttl", "1h")
        self.assertEqual(run.returncode, 2, run.stderr)
        self.assertIn(b"time coarse or precise", run.stderr)

    def test_many_lines_over_partitions_keep_the_order_of_a_key(self):
        self.create("--partitions", "3")
        random.seed(1)
        lines = [b"%d:%d %s" % (random.randrange(20), i, b"x" * random.randrange(200)) for i in range(50000)]
        self.ok("produce", self.topic, "--key-delimiter", ":", data=b"\n".join(lines) + b"\n")
        back = self.ok("consume", self.topic, "--exit", "--format", "%k:%s\\n").stdout.splitlines()
        self.assertEqual(sorted(back), sorted(lines))
        for key in range(20):
            prefix = b"%d:" % key
            self.assertEqual([b for b in back if b.startswith(prefix)], [b for b in lines if b.startswith(prefix)])
        audit = json.loads(self.ok("audit", self.topic, "--json").stdout)
        self.assertTrue(audit["holds"])
        self.assertEqual(sum(row["data"] for row in audit["rows"]), len(lines))

    def test_a_line_that_is_too_large_is_counted_and_the_others_are_sent(self):
        self.create()
        run = self.bus("produce", self.topic, data=b"first\n" + b"x" * 1000000 + b"\nlast\n")
        self.assertEqual(run.returncode, 4)
        self.assertIn(b"line 2", run.stderr)
        self.assertEqual(run.stderr.splitlines()[-1], b"2 messages, 9 bytes, 1 errors")
        self.assertEqual(self.ok("consume", self.topic, "--exit").stdout, b"first\nlast\n")

    def test_receipts_name_what_was_sent_and_what_is_durable(self):
        self.create("--partitions", "2")
        for options, state in (((), "committed"), (("--durability", "sync"), "durable")):
            out = self.ok("produce", self.topic, "--receipts", "--partition", "1", *options, data=b"a\nb\n").stdout
            receipts = [json.loads(line) for line in out.splitlines()]
            self.assertEqual([r["line"] for r in receipts], [1, 2])
            self.assertEqual({r["state"] for r in receipts}, {state})
            for receipt, payload in zip(receipts, (b"a", b"b")):
                address = f"{self.topic}/{receipt['partition']}@{receipt['position']}"
                self.assertEqual(self.ok("msg", "show", address, "--payload").stdout, payload)
        run = self.bus("produce", self.topic, "--receipts", data=b"x" * 1000000 + b"\n")
        self.assertEqual(json.loads(run.stdout)["error"], "too_large")

    def test_errors_name_the_line_or_the_file(self):
        self.create()
        lines = b"a\n\n" + b"x" * 1000000 + b"\nb\n" + b"y" * 70000 + b"\nc"
        run = self.bus("produce", self.topic, "--receipts", data=lines)
        self.assertEqual([json.loads(line)["line"] for line in run.stdout.splitlines()], [1, 2, 3, 4, 5, 6])
        self.assertIn(b"line 3: a message of 1000000 bytes", run.stderr)
        self.assertIn(b"line 5: a message of 70000 bytes", run.stderr)
        for size, key in ((1000000, "error"), (5, "position")):
            path = os.path.join(self.bus.directory, "whole file")
            with open(path, "wb") as file:
                file.write(b"x\n" * size)
            run = self.bus("produce", self.topic, "--receipts", "--file", path)
            receipt = json.loads(run.stdout)
            self.assertEqual(receipt["file"], path)
            self.assertIn(key, receipt)
            self.assertNotIn("line", receipt)
            self.assertNotIn(b"line 1", run.stderr)

    def test_json_has_key_tag_headers_and_base64(self):
        self.create()
        self.ok("produce", self.topic, "--key", "k", "--tag", "new", "--header", "a=1", "--header", "b=x=y", data=b"\xff\n")
        message, = self.messages()
        self.assertEqual((message["key"], message["tag"], message["headers"]), ("k", "new", {"a": "1", "b": "x=y"}))
        self.assertEqual(message["payload_base64"], "/w==")
        self.assertNotIn("payload", message)
        self.assertRegex(message["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$")

    def test_a_file_is_one_message_byte_for_byte(self):
        self.create()
        data = bytes(range(256)) * 100
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self.ok("produce", self.topic, "--file", file.name)
        message, = self.messages()
        shown = self.ok("msg", "show", f"{self.topic}/0@{message['position']}", "--payload").stdout
        self.assertEqual(shown, data)
        self.assertEqual(self.bus("produce", self.topic, "--file", "/nonexistent").returncode, 5)

    def test_consume_starts_and_ends_where_it_is_told(self):
        self.create()
        self.ok("produce", self.topic, data=b"".join(b"%d\n" % i for i in range(10)))
        messages = self.messages()
        third = messages[3]
        self.assertEqual(self.ok("consume", self.topic, "--from", str(third["position"]), "--exit").stdout.split()[0], b"3")
        snapped = self.ok("consume", self.topic, "--from", f"0@{third['position'] - 1}", "--count", "2")
        self.assertEqual(snapped.stdout, b"3\n4\n")
        self.assertEqual(snapped.stderr, b"2 messages, 2 bytes\n")
        self.assertEqual(self.ok("consume", self.topic, "--from", "-1h", "--exit").stdout.count(b"\n"), 10)
        self.assertEqual(self.ok("consume", self.topic, "--from", "latest", "--exit").stdout, b"")
        self.ok("produce", self.topic, "--tag", "red", data=b"tagged\n")
        self.assertEqual(self.ok("consume", self.topic, "--tag", "red", "--exit").stdout, b"tagged\n")

    def test_patterns_mean_the_topics_there_are(self):
        for name in ("pattern.a", "pattern.b"):
            self.ok("topic", "create", name)
            self.ok("produce", name, data=name.encode())
        out = self.ok("consume", "pattern.*", "--exit", "--format", "%t=%s\\n").stdout
        self.assertEqual(sorted(out.splitlines()), [b"pattern.a=pattern.a", b"pattern.b=pattern.b"])

    def test_exit_codes_are_those_of_the_contract(self):
        self.create("--partitions", "2")
        for expected, words in (
                (2, ("topic", "create", "bad name")),
                (2, ("topic", "create", "x", "--checksum", "off")),
                (2, ("consume", self.topic, "--from", "5")),
                (5, ("topic", "describe", "none")),
                (5, ("topic", "delete", "none")),
                (5, ("produce", "none")),
                (5, ("consume", "none", "--exit")),
                (5, ("consume", "none.*", "--exit")),
                (5, ("audit", "none")),
                (5, ("msg", "show", self.topic + "/0@64")),
                (5, ("msg", "show", self.topic + "/7@64")),
                (5, ("session", "kill", "999999")),
                (6, ("consume", self.topic, "--timeout", "100ms")),
                (8, ("topic", "create", self.topic)),
        ):
            run = self.bus(*words)
            self.assertEqual(run.returncode, expected, (words, run.stderr))
            self.assertEqual(run.stdout, b"", words)
            self.assertNotEqual(run.stderr, b"", words)
        run = subprocess.run([SLUICE, "status", "--socket", "/nonexistent/s"], capture_output=True, check=False)
        self.assertEqual(run.returncode, 3)

    def test_everything_that_prints_data_prints_one_json_document(self):
        self.create()
        for words in (("topic", "list"), ("topic", "describe", self.topic), ("audit", self.topic), ("status",),
                      ("doctor", "--quick"), ("config",), ("session", "list")):
            run = self.bus(*words, "--json")
            json.loads(run.stdout)
            self.assertNotIn(b"\x1b", run.stdout)
        self.assertIn(self.topic, [t["name"] for t in json.loads(self.ok("topic", "list", "--json").stdout)["topics"]])

    def test_metrics_tell_of_every_partition(self):
        self.create("--partitions", "2")
        self.ok("produce", self.topic, data=b"a message\n")
        series = dict(line.rsplit(" ", 1) for line in self.ok("metrics").stdout.decode().splitlines()
                      if not line.startswith("#"))
        records = [int(series['sluice_partition_records_total{topic="%s",partition="%d"}' % (self.topic, i)])
                   for i in range(2)]
        self.assertEqual(sum(records), 1)
        self.assertEqual(series["sluice_partitions_poisoned"], "0")

    def test_a_full_volatile_topic_is_back_pressure_and_nothing_is_lost(self):
        self.create("--durability", "volatile", "--slots", "4")
        reader = subprocess.Popen(self.bus.command("consume", self.topic, "--from", "earliest"), stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
        time.sleep(0.5)
        reader.send_signal(signal.SIGSTOP)
        try:
            lines = b"".join(b"%06d %s\n" % (i, b"x" * 2000) for i in range(2000))
            run = self.bus("produce", self.topic, "--timeout", "500ms", data=lines)
            self.assertEqual(run.returncode, 6, run.stderr)
            sent = int(run.stderr.splitlines()[-1].split()[0])
            self.assertLess(sent, 2000)
        finally:
            reader.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        reader.send_signal(signal.SIGINT)
        out, err = reader.communicate(timeout=60)
        self.assertEqual(reader.returncode, 0)
        self.assertEqual(err.splitlines()[-1], b"%d messages, %d bytes" % (sent, sent * 2007))
        self.assertEqual(out, lines[:sent * 2008])

    def test_signals_end_produce_and_consume_with_their_summary(self):
        self.create()
        for number in (signal.SIGINT, signal.SIGTERM):
            consumer = subprocess.Popen(self.bus.command("consume", self.topic), stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
            producer = subprocess.Popen(self.bus.command("produce", self.topic), stdin=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
            time.sleep(0.5)
            producer.stdin.write(b"live\n")
            producer.stdin.flush()
            self.assertEqual(consumer.stdout.readline(), b"live\n", "what came must not be held back")
            producer.send_signal(number)
            consumer.send_signal(number)
            self.assertEqual(producer.wait(timeout=30), 0)
            self.assertEqual(consumer.wait(timeout=30), 0)
            self.assertEqual(producer.stderr.read(), b"1 messages, 4 bytes, 0 errors\n")
            self.assertEqual(consumer.stderr.read(), b"1 messages, 4 bytes\n")
            for pipe in (producer.stdin, producer.stderr, consumer.stdout, consumer.stderr):
                pipe.close()

    def test_a_reader_of_stdout_that_is_gone_ends_consume_quietly(self):
        self.create()
        self.ok("produce", self.topic, data=b"line\n" * 100000)
        consumer = subprocess.Popen(self.bus.command("consume", self.topic, "--from", "earliest"), stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE)
        consumer.stdout.readline()
        consumer.stdout.close()
        self.assertEqual(consumer.wait(timeout=30), 0)
        self.assertRegex(consumer.stderr.read(), rb"^\d+ messages, \d+ bytes\n$")
        consumer.stderr.close()

    def test_colours_are_for_terminals(self):
        def on_terminal(extra):
            parent, child = pty.openpty()
            environment = {**os.environ, "TERM": "xterm", **extra}
            run = subprocess.Popen(self.bus.command("doctor", "--quick"), stdout=child, stderr=child, env=environment)
            run.wait(timeout=30)
            os.close(child)
            text = os.read(parent, 100000)
            os.close(parent)
            return text
        os.environ.pop("NO_COLOR", None)
        self.assertIn(b"\x1b[32m", on_terminal({}))
        self.assertNotIn(b"\x1b", on_terminal({"NO_COLOR": "1"}))

    def test_more_partitions_need_yes(self):
        self.create()
        self.assertEqual(self.bus("topic", "alter", self.topic, "--partitions", "2").returncode, 2)
        self.ok("topic", "alter", self.topic, "--partitions", "2", "--yes", "--retention-time", "3d")
        topic = json.loads(self.ok("topic", "describe", self.topic, "--json").stdout)
        self.assertEqual(len(topic["partitions"]), 2)
        self.assertEqual(topic["retention_time_ns"], 3 * 86400 * 10**9)
        self.assertEqual(self.bus("topic", "alter", self.topic, "--partitions", "1", "--yes").returncode, 2)

    def test_a_killed_session_ends_its_client_with_four(self):
        self.create()
        consumer = subprocess.Popen(self.bus.command("consume", self.topic), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.5)
        sessions = json.loads(self.ok("session", "list", "--json").stdout)["sessions"]
        session, = [s for s in sessions if s["pid"] == consumer.pid]
        self.assertEqual(session["client_name"], "sluice consume")
        self.ok("session", "kill", str(session["id"]))
        consumer.communicate(timeout=30)
        self.assertEqual(consumer.returncode, 4)


class RestartTest(unittest.TestCase):
    def test_produce_and_consume_go_on_when_the_daemon_comes_back(self):
        bus = Bus()
        try:
            bus.start()
            self.assertEqual(bus("topic", "create", "t").returncode, 0)
            consumer = subprocess.Popen(bus.command("consume", "t"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            producer = subprocess.Popen(bus.command("produce", "t", "--durability", "sync", "--receipts"),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            time.sleep(0.5)
            producer.stdin.write(b"before\n")
            producer.stdin.flush()
            self.assertEqual(json.loads(producer.stdout.readline())["state"], "durable")
            self.assertEqual(consumer.stdout.readline(), b"before\n")
            bus.kill()
            producer.stdin.write(b"while away\n")
            producer.stdin.flush()
            bus.start()
            self.assertEqual(json.loads(producer.stdout.readline())["state"], "durable")
            self.assertEqual(consumer.stdout.readline(), b"while away\n")
            out, err = producer.communicate(timeout=60)
            self.assertEqual(producer.returncode, 0, err)
            self.assertEqual(err.splitlines()[-1], b"2 messages, 16 bytes, 0 errors")
            consumer.send_signal(signal.SIGINT)
            out, err = consumer.communicate(timeout=60)
            self.assertEqual((consumer.returncode, out), (0, b""), err)
            self.assertEqual(bus("consume", "t", "--exit").stdout, b"before\nwhile away\n")
            self.assertEqual(bus("audit", "t").returncode, 0)
        finally:
            bus.remove()


class ConfiguredTest(unittest.TestCase):
    def test_what_a_topic_leaves_out_is_as_the_configuration_says(self):
        bus = Bus('[topics]\ndurability = "volatile"\nslots = 6\nclaim_deadline = "250ms"\n'
                  '[retention]\nbytes = "1GiB"\ntime = "2d"\n')
        self.addCleanup(bus.remove)
        bus.start()
        self.assertEqual(bus("topic", "create", "plain").returncode, 0)
        topic = json.loads(bus("topic", "describe", "plain", "--json").stdout)
        self.assertEqual(topic["durability"], "volatile")
        self.assertEqual(topic["slots"], 6)
        self.assertEqual(topic["claim_deadline_ns"], 250 * 10**6)
        self.assertEqual(topic["retention_bytes"], 1 << 30)
        self.assertEqual(topic["retention_time_ns"], 2 * 86400 * 10**9)
        told = ("--durability", "async", "--retention-bytes", "none", "--retention-time", "1h", "--claim-deadline", "2s")
        self.assertEqual(bus("topic", "create", "told", *told).returncode, 0)
        topic = json.loads(bus("topic", "describe", "told", "--json").stdout)
        self.assertEqual(topic["durability"], "async")
        self.assertEqual(topic["claim_deadline_ns"], 2 * 10**9)
        self.assertEqual(topic["retention_bytes"], 0)
        self.assertEqual(topic["retention_time_ns"], 3600 * 10**9)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
