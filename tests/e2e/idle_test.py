"""Idle costs nothing: a daemon with 16 topics, one of them used before, does (almost) nothing for a while; neither does
one whose topics all have readers that wait for messages.

What is asserted are the kernel's counts, per second of what really passed: at most 3 ticks of CPU time in 30 seconds for the
process, and one voluntary context switch a second for each of its threads.
"""

import os
import subprocess
import time
import unittest

import rig

SECONDS = 30 if rig.LONG else 10
TOPICS = 16
TICKS_PER_30_S = 3
SANITIZED = os.environ.get("SLUICE_TEST_SANITIZED", "") not in ("", "0")


class IdleTest(unittest.TestCase):
    @unittest.skipIf(SANITIZED, "a sanitizer's own threads and costs are no measure")
    def test_an_idle_daemon_with_16_topics_sleeps(self):
        self.measure(readers=0)

    @unittest.skipIf(SANITIZED, "a sanitizer's own threads and costs are no measure")
    def test_readers_that_wait_cost_the_daemon_nothing(self):
        self.measure(readers=4)

    def measure(self, readers):
        with rig.Bus() as bus:
            bus.start()
            for number in range(TOPICS):
                durability = ("async", "sync", "volatile")[number % 3]
                bus.sluice("topic", "create", f"topic{number}", "--durability", durability)
            bus.sluice("produce", "topic0", stdin="one\ntwo\n")
            bus.sluice("consume", "topic0", "--exit")
            topics = [f"topic{number}" for number in range(TOPICS)]
            for _ in range(readers):
                bus.spawn(rig.SLUICE, "consume", *topics, stdout=subprocess.DEVNULL)
            rig.wait_until(lambda: sum(session["readers"] for session in bus.json("session", "list")["sessions"]) ==
                           readers * TOPICS, "the readers to be attached")
            time.sleep(2)  # what the last call left to do is not idling
            started = time.monotonic()
            ticks, switches = rig.counters_of(bus.process.pid)
            time.sleep(SECONDS)
            ticks_after, switches_after = rig.counters_of(bus.process.pid)
            passed = time.monotonic() - started
            report = {thread: count - switches.get(thread, 0) for thread, count in switches_after.items()}
            print(f"\nidle for {passed:.1f} s: {ticks_after - ticks} ticks, switches {report}", flush=True)
            self.assertLessEqual(ticks_after - ticks, TICKS_PER_30_S * max(1.0, passed / 30))
            for thread, count in report.items():
                self.assertLessEqual(count, passed + 1, f"thread {thread} does not sleep")


if __name__ == "__main__":
    rig.main()
