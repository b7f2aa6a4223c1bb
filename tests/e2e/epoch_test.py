"""A group that is sought back below its safe horizon: refused without --force, and with it every message is handled anew, once.

The carts of the checkout example keep a ledger and forget below the horizon after each run.
"""

import os
import sqlite3
import subprocess
import unittest

import rig

CHECKOUT = os.environ.get("SLUICE_TEST_CHECKOUT", "checkout")
GROUP = "checkout.carts"
EXIT_REFUSED = 8


class Epoch(unittest.TestCase):
    def setUp(self):
        self.bus = rig.Bus()
        self.addCleanup(self.bus.__exit__, None, None, None)
        self.bus.start("--keeper")
        self.carts = self.bus.folder / "carts.db"

    def run_checkout(self, *words):
        done = subprocess.run([CHECKOUT, *map(str, words)], env=self.bus.environment, capture_output=True,
                              timeout=rig.TIMEOUT, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def order(self, number):
        self.run_checkout("order", self.bus.folder / "orders.db", f"order-{number}", "goods")

    def clear_carts(self):
        self.run_checkout("carts", self.carts, 1)

    def cleared(self):
        with sqlite3.connect(self.carts) as database:
            return dict(database.execute("SELECT order_id, times FROM cleared"))

    def ledger_rows(self):
        with sqlite3.connect(self.carts) as database:
            return database.execute("SELECT COUNT(*) FROM sluice_ledger_messages").fetchone()[0]

    def seek(self, *words):
        return self.bus.sluice("group", "seek", GROUP, "--topic", "orders", *words, check=False)

    def test_what_was_forgotten_is_handled_again_by_force_alone(self):
        for number in range(3):
            self.order(number)
        self.clear_carts()
        self.assertEqual(self.ledger_rows(), 0, "all of it is below the horizon")
        partition = self.bus.json("group", "describe", GROUP)["partitions"][0]
        self.assertEqual(partition["safe_horizon"], partition["cursor"])
        self.assertGreater(partition["cursor"], 0)

        dry = self.seek("--to", "earliest")
        self.assertEqual(dry.returncode, 0, dry.stderr)
        self.assertIn(b"needs --force", dry.stdout)
        refused = self.seek("--to", "earliest", "--execute")
        self.assertEqual(refused.returncode, EXIT_REFUSED, refused.stdout)
        self.assertIn(b"safe horizon", refused.stderr)
        self.clear_carts()
        self.assertEqual(self.cleared(), {f"order-{n}": 1 for n in range(3)})

        self.assertEqual(self.seek("--to", "earliest", "--execute", "--force").returncode, 0)
        self.assertEqual(self.bus.json("group", "describe", GROUP)["epoch"], 1)
        self.bus.stop()
        self.bus.start("--keeper")
        self.order(3)
        self.clear_carts()
        self.assertEqual(self.cleared(), {"order-0": 2, "order-1": 2, "order-2": 2, "order-3": 1})
        # Nothing of the new epoch comes twice.
        self.clear_carts()
        self.assertEqual(self.cleared(), {"order-0": 2, "order-1": 2, "order-2": 2, "order-3": 1})

    def test_what_was_not_forgotten_is_known_for_a_repeat(self):
        self.order(0)
        self.clear_carts()
        horizon = self.bus.json("group", "describe", GROUP)["partitions"][0]["safe_horizon"]
        self.order(1)
        # Ahead and back again, above the horizon: no force, no new epoch, and the ledger has the note or the message is new.
        self.assertEqual(self.seek("--to", "latest", "--execute").returncode, 0)
        self.assertEqual(self.seek("--to", str(horizon), "--execute").returncode, 0)
        self.assertEqual(self.bus.json("group", "describe", GROUP)["epoch"], 0)
        self.clear_carts()
        self.assertEqual(self.cleared(), {"order-0": 1, "order-1": 1})


if __name__ == "__main__":
    unittest.main()
