"""Steady state makes no system call per message: strace counts all calls of a producer and of a consumer, from start to
end, while a million messages pass and neither sleeps. Far fewer than one in a thousand messages may cost one.
"""

import os
import re
import shutil
import subprocess
import unittest

import rig

MESSAGES = 1_000_000
SIZE = 64
PEER = os.environ.get("SLUICE_TEST_STEADY_PEER", "sluice_steady_peer")


def calls_of(summary):
    """The calls in strace's table, by name. The column of errors may be empty."""
    calls = {}
    for line in summary.splitlines():
        match = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if match and match.group(2) != "total":
            calls[match.group(2)] = int(match.group(1))
    return calls


def can_trace():
    return shutil.which("strace") and subprocess.run(["strace", "-c", "true"], capture_output=True,
                                                     check=False).returncode == 0


@unittest.skipIf(os.environ.get("SLUICE_TEST_SANITIZED", "") == "1", "a sanitizer makes calls of its own")
@unittest.skipUnless(can_trace(), "strace is not there, or may not trace")
class SteadyTest(unittest.TestCase):
    def move(self, durability):
        with rig.Bus() as bus:
            bus.start()
            bus.sluice("topic", "create", "steady", "--durability", durability, "--slots", "48")
            summaries = {name: bus.folder / f"{name}.strace" for name in ("produce", "consume")}
            peers = {}
            for name in ("consume", "produce"):
                peers[name] = bus.spawn("strace", "-c", "-f", "-o", summaries[name], PEER, name, "steady", MESSAGES, SIZE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                if name == "consume":
                    self.assertEqual(b"attached\n", peers[name].stdout.readline())
            for name, peer in peers.items():
                _, errors = peer.communicate(timeout=rig.TIMEOUT)
                self.assertEqual(0, peer.returncode, f"{name}: {errors.decode(errors='replace')}")
                calls = calls_of(summaries[name].read_text())
                total = sum(calls.values())
                most = sorted(calls.items(), key=lambda item: -item[1])[:5]
                print(f"\n{durability}: {name} made {total} system calls for {MESSAGES} messages, most of all {most}",
                      flush=True)
                self.assertGreater(total, 0)
                # One call a message would be a hundred times as many; a producer that overtakes the daemon makes a few.
                self.assertLess(total, MESSAGES // 100)
            bus.sluice("audit", "steady")

    def test_on_a_volatile_topic(self):
        self.move("volatile")

    def test_on_an_async_topic(self):
        self.move("async")


if __name__ == "__main__":
    rig.main()
