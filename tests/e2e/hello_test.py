"""The README's example does what the README says, and stands there as it is compiled."""

import os
import pathlib
import subprocess
import unittest

import rig

HELLO = os.environ.get("SLUICE_TEST_HELLO", "sluice_example_hello")
ROOT = pathlib.Path(__file__).resolve().parents[2]


class HelloTest(unittest.TestCase):
    def hello(self, bus):
        return subprocess.run([HELLO], env=bus.environment, capture_output=True, timeout=rig.TIMEOUT, check=False)

    def test_it_reads_back_what_it_sent(self):
        with rig.Bus() as bus:
            bus.start()
            for _ in range(2):  # the topic is there already the second time
                done = self.hello(bus)
                self.assertEqual(0, done.returncode, done.stderr.decode())
                self.assertRegex(done.stdout.decode(), r"^hello/0@\d+: Hello, neighbour\n$")

    def test_without_a_daemon_it_says_so(self):
        with rig.Bus() as bus:
            done = self.hello(bus)
            self.assertEqual(3, done.returncode)
            self.assertIn(str(bus.socket), done.stderr.decode())

    def test_the_readme_shows_the_source(self):
        source = (ROOT / "sdk" / "examples" / "hello.cc").read_text()
        self.assertIn(f"```cpp\n{source}```", (ROOT / "README.md").read_text())


if __name__ == "__main__":
    rig.main()
