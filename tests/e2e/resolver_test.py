"""Resolvers: the checkout's order service is killed and nobody of its group lives, and a command looks the order up in the
service's database and says what became of it.
"""

import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import unittest

import rig

CHECKOUT = os.environ.get("SLUICE_TEST_CHECKOUT", "checkout")
GROUP = "checkout.orders"
COMMIT, ROLLBACK, UNKNOWN = 197, 198, 199

# What orders.cc does in its check: says "no" for good, so that an order that is slow cannot be made afterwards.
LOOK_UP = f"""#!{sys.executable}
import os, sqlite3, subprocess, sys
folder = sys.argv[1]
transaction = os.environ["SLUICE_TRANSACTION"]
with open(folder + "/asked", "a") as asked:
    print(transaction, os.environ["SLUICE_GROUP"], os.environ["SLUICE_HALVES"], file=asked)
with sqlite3.connect(folder + "/orders.db") as database:
    database.execute("INSERT OR IGNORE INTO outcomes VALUES (?, 0)", (transaction,))
    committed = database.execute("SELECT committed FROM outcomes WHERE transaction_id = ?", (transaction,)).fetchone()
sys.exit({COMMIT} if committed[0] else {ROLLBACK})
"""


class Resolver(unittest.TestCase):
    def setUp(self):
        self.bus = rig.Bus()
        self.addCleanup(self.bus.__exit__, None, None, None)
        self.orders = self.bus.folder / "orders.db"
        self.script = self.bus.folder / "resolver"
        self.config = self.bus.folder / "sluiced.toml"

    def be(self, text):
        """The resolver is this program from now on: put in its place as a whole, since it may run."""
        fresh = self.bus.folder / "resolver.new"
        fresh.write_text(text)
        fresh.chmod(0o755)
        fresh.rename(self.script)

    def start(self, *arguments, timeout="30s"):
        self.config.write_text(f"""
[transactions]
timeout = "200ms"
[[transactions.resolver]]
group = "{GROUP}"
command = ["{self.script}", "{self.bus.folder}"]
timeout = "{timeout}"
""")
        self.bus.start("--config", str(self.config), *arguments)

    def order(self, name, crash_at):
        done = subprocess.run([CHECKOUT, "order", str(self.orders), name, "goods", "--crash-at", crash_at],
                              env=self.bus.environment, capture_output=True, timeout=rig.TIMEOUT, text=True)
        self.assertEqual(done.returncode, -signal.SIGKILL, done.stderr)

    def undecided(self):
        return self.bus.json("txn", "list")["transactions"]

    def wait_decided(self):
        rig.wait_until(lambda: not self.undecided(), "every transaction to be decided")

    def delivered(self):
        lines = self.bus.sluice("consume", "orders", "--exit", "--from", "earliest").stdout.decode().splitlines()
        return sorted(line.split(" ")[0] for line in lines)

    def lines(self, name):
        file = self.bus.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def logged(self, text):
        return text in self.bus.log.read_text(errors="replace")

    def test_with_nobody_alive_the_database_decides(self):
        self.be(LOOK_UP)
        self.start()
        expected = []
        for i in range(5):
            for name, step in (("never", "after-half"), ("rolled-back", "in-transaction"), ("placed", "after-database")):
                self.order(f"{name}-{i}", step)
                self.wait_decided()  # or the next one, while it lives, is asked
            expected.append(f"placed-{i}")
        self.assertEqual(self.delivered(), expected)
        with sqlite3.connect(self.orders) as database:
            self.assertEqual(sorted(row[0] for row in database.execute("SELECT id FROM orders")), expected)
        asked = [line.split(" ") for line in self.lines("asked")]
        self.assertEqual(len(asked), 15)
        for transaction, group, half in asked:
            self.assertEqual(group, GROUP)
            shown = self.bus.json("txn", "show", transaction)
            self.assertEqual(shown["decided_by"], "resolver")
            self.assertEqual([h["address"] for h in shown["halves"]], [half])
        self.assertTrue(self.bus.json("audit", "orders")["holds"])

    def test_a_producer_that_lives_is_asked_instead(self):
        self.be(LOOK_UP)
        self.start()
        child = self.bus.spawn(CHECKOUT, "answer", self.orders, stdout=subprocess.PIPE)
        self.assertEqual(child.stdout.readline(), b"answering\n")
        child.stdout.close()
        self.order("placed", "after-database")
        self.wait_decided()
        self.assertEqual(self.lines("asked"), [])
        child.kill()
        child.wait()
        self.order("placed-too", "after-database")
        self.wait_decided()
        self.assertEqual(len(self.lines("asked")), 1)
        self.assertEqual(self.delivered(), ["placed", "placed-too"])

    def test_one_that_goes_wrong_is_charged_to_nobody_and_asked_again(self):
        # A damaged database: the exit code of SQLite's own shell is 11 then.
        broken = {
            "crash": ("#!/bin/sh\necho cannot open it >&2\nkill -ABRT $$\n", "cannot open it"),
            "no answer": ("#!/bin/sh\nexit 11\n", "exit code 11"),
            "success": ("#!/bin/sh\nexit 0\n", "exit code 0"),
            "no program": ("not a program", "Exec format error"),
        }
        for name, (script, said) in broken.items():
            with self.subTest(name):
                self.setUp()
                self.be(script)
                self.start()
                self.order("placed", "after-database")
                rig.wait_until(lambda: self.logged(said), "the daemon to say why")
                self.assertEqual([t["unknown_answers"] for t in self.undecided()], [0])
                self.be(LOOK_UP)
                self.wait_decided()
                self.assertEqual(self.delivered(), ["placed"])

    def test_one_that_hangs_is_killed_with_all_that_it_started(self):
        self.be('#!/bin/sh\nsleep 1000 & echo $! >>"$1/children"\necho $$ >>"$1/children"\necho waiting >&2\nwait\n')
        self.start(timeout="500ms")
        self.order("placed", "after-database")
        rig.wait_until(lambda: self.logged("longer than 500ms"), "the daemon to give up waiting")
        self.assertTrue(self.logged('stderr="waiting"'))
        self.assertEqual([t["unknown_answers"] for t in self.undecided()], [0])
        first = self.lines("children")[:2]
        rig.wait_until(lambda: not any(lives(pid) for pid in first), "its processes to be gone")
        self.bus.sluice("topic", "create", "other")  # the bus goes on meanwhile
        self.be(LOOK_UP)
        self.wait_decided()
        self.assertEqual(self.delivered(), ["placed"])

    def test_unknown_is_an_answer_and_parks_it_at_last(self):
        self.be(f"#!/bin/sh\nexit {UNKNOWN}\n")
        self.config.write_text(f"""
[transactions]
timeout = "100ms"
check_max = 3
[[transactions.resolver]]
group = "{GROUP}"
command = ["{self.script}"]
""")
        self.bus.start("--config", str(self.config))
        self.order("placed", "after-database")
        rig.wait_until(lambda: [t["state"] for t in self.undecided()] == ["parked"], "it to be parked")
        self.assertEqual([t["unknown_answers"] for t in self.undecided()], [3])

    def test_it_goes_with_the_daemon_and_the_next_one_asks_again(self):
        for name in ("stopped", "killed"):
            with self.subTest(name):
                self.setUp()
                self.be('#!/bin/sh\necho $$ >>"$1/running"\nexec sleep 1000\n')
                self.start()
                self.order("placed", "after-database")
                rig.wait_until(lambda: self.lines("running"), "the resolver to run")
                pid = self.lines("running")[0]
                if name == "stopped":
                    self.assertEqual(self.bus.stop(), 0)
                else:
                    self.bus.kill()
                rig.wait_until(lambda: not lives(pid), "the resolver to be gone")
                self.be(LOOK_UP)
                self.start()
                self.wait_decided()
                self.assertEqual(self.delivered(), ["placed"])

    def test_below_a_keeper_too(self):
        self.be(LOOK_UP)
        self.start("--keeper")
        self.order("placed", "after-database")
        self.wait_decided()
        os.kill(self.bus.json("status")["pid"], signal.SIGKILL)
        self.order("placed-too", "after-database")
        self.order("never", "after-half")
        self.wait_decided()
        self.assertEqual(self.delivered(), ["placed", "placed-too"])

    def test_it_may_ask_the_bus(self):
        self.be(f"""#!/bin/sh
'{rig.SLUICE}' txn show "$SLUICE_TRANSACTION" --messages --json >"$1/shown" || exit 1
exit {COMMIT}
""")
        self.start()
        self.order("placed", "after-half")
        self.wait_decided()
        shown = json.loads((self.bus.folder / "shown").read_text())
        self.assertEqual(shown["group"], GROUP)
        self.assertEqual([message["key"] for message in shown["messages"]], ["placed"])
        self.assertTrue(shown["messages"][0]["payload"].startswith("placed "))
        text = self.bus.sluice("txn", "show", shown["id"], "--messages").stdout.decode()
        self.assertRegex(text, r"message +orders/0@\d+ key=placed \d+ bytes: placed ")
        self.assertEqual(self.delivered(), ["placed"])

    def test_a_configuration_that_cannot_be_is_refused_with_its_line(self):
        self.config.write_text('[[transactions.resolver]]\ngroup = "shop"\ncommand = ["resolver"]\n')
        done = subprocess.run([rig.SLUICED, "--config", self.config, "--print-config"], capture_output=True, text=True,
                              timeout=rig.TIMEOUT)
        self.assertEqual(done.returncode, 2)
        self.assertIn("line 1", done.stderr)
        self.assertIn("absolute path", done.stderr)


def lives(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    rig.main()
