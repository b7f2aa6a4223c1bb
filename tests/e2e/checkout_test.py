"""The checkout example, killed at each of its steps, and its daemon at each of the daemon's own: at the end the orders in the
database, the messages that were delivered and the carts that were cleared are the same, and nothing is open.
"""

import os
import signal
import sqlite3
import subprocess
import unittest

import rig

CHECKOUT = os.environ.get("SLUICE_TEST_CHECKOUT", "checkout")
ROUNDS = 200 if rig.LONG else 5
ORDER_STEPS = ["before-half", "after-half", "in-transaction", "after-database", "after-resolve"]
CART_STEPS = ["before-cart-database", "after-cart-database"]
DAEMON_STEPS = ["transactions.before_decision", "transactions.decided", "spill.half_ref_appended"]


class Checkout(unittest.TestCase):
    def setUp(self):
        self.bus = rig.Bus()
        self.addCleanup(self.bus.__exit__, None, None, None)
        self.orders = self.bus.folder / "orders.db"
        self.carts = self.bus.folder / "carts.db"
        self.placed = 0
        self.certain = set()  # orders that were placed to the end

    def run_checkout(self, *words):
        return subprocess.run([CHECKOUT, *map(str, words)], env=self.bus.environment, capture_output=True,
                              timeout=rig.TIMEOUT, text=True)

    def order(self, crash_at=None):
        self.placed += 1
        name = f"order-{self.placed}"
        done = self.run_checkout("order", self.orders, name, f"goods-{self.placed}",
                                 *(["--crash-at", crash_at] if crash_at else []))
        if crash_at is None:
            self.assertEqual(done.returncode, 0, done.stderr)
            self.certain.add(name)
        else:
            self.assertEqual(done.returncode, -signal.SIGKILL, done.stderr)
            if crash_at in ("after-database", "after-resolve"):
                self.certain.add(name)

    def clear_carts(self, crash_at=None):
        done = self.run_checkout("carts", self.carts, 2, *(["--crash-at", crash_at] if crash_at else []))
        self.assertEqual(done.returncode, -signal.SIGKILL if crash_at else 0, done.stderr)

    def answer(self):
        child = self.bus.spawn(CHECKOUT, "answer", self.orders, stdout=subprocess.PIPE)
        self.assertEqual(child.stdout.readline(), b"answering\n")
        child.stdout.close()

    def expect_agreement(self):
        """Once nothing is open any more."""
        rig.wait_until(lambda: not self.bus.json("txn", "list")["transactions"], "every transaction to be decided")
        self.clear_carts()
        with sqlite3.connect(self.orders) as database:
            orders = {row[0] for row in database.execute("SELECT id FROM orders")}
        with sqlite3.connect(self.carts) as database:
            cleared = list(database.execute("SELECT order_id, times FROM cleared"))
        lines = self.bus.sluice("consume", "orders", "--exit", "--from", "earliest").stdout.decode().splitlines()
        delivered = sorted(line.split(" ")[0] for line in lines)
        self.assertEqual(delivered, sorted(orders))
        self.assertEqual(sorted(order for order, _ in cleared), sorted(orders))
        self.assertEqual({times for _, times in cleared}, {1})
        self.assertLessEqual(self.certain, orders)
        row = self.bus.json("audit", "orders")
        self.assertTrue(row["holds"], row)

    def test_killed_at_each_step(self):
        self.bus.start("--keeper")
        self.answer()
        for _ in range(ROUNDS):
            for step in ORDER_STEPS:
                self.order(step)
            self.order()
            for step in CART_STEPS:
                self.order()
                self.clear_carts(step)
        self.expect_agreement()

    def test_nobody_answers_until_one_comes_back(self):
        self.bus.start("--keeper")
        self.order()
        self.order("after-database")
        before = self.bus.json("txn", "list")["transactions"]
        self.assertEqual([t["unknown_answers"] for t in before], [0])
        self.bus.stop()
        self.bus.start()
        after = self.bus.json("txn", "list")["transactions"]
        self.assertEqual([t["id"] for t in after], [t["id"] for t in before])
        self.assertEqual([t["unknown_answers"] for t in after], [0])
        self.answer()
        self.expect_agreement()

    def test_the_daemon_killed_at_each_of_its_steps(self):
        for step in DAEMON_STEPS:
            with self.subTest(step=step):
                self.setUp()
                self.bus.start("--keeper", environment={"SLUICE_FAILPOINT": f"{step}=kill@~3"})
                self.answer()
                for _ in range(ROUNDS):
                    self.order()
                    self.order("after-half")
                    self.order("after-database")
                self.expect_agreement()


if __name__ == "__main__":
    unittest.main()
