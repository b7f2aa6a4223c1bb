"""docs/LEDGER.md's example bills each message once, however often and by however many it is handled, and stands there as
it is compiled.

    example_test.py PROGRAM
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]


class ExampleTest(unittest.TestCase):
    def start(self, database, position, amount):
        return subprocess.Popen([PROGRAM, database, str(position), str(amount)], stdout=subprocess.PIPE, text=True)

    def test_each_message_is_billed_once(self):
        with tempfile.TemporaryDirectory() as folder:
            database = folder + "/app.db"
            for position in (64, 128):
                handlers = [self.start(database, position, 7) for _ in range(4)]
                said = sorted(handler.communicate()[0] for handler in handlers)
                self.assertEqual(["billed\n"] + 3 * ["billed before\n"], said)

    def test_a_database_that_is_not_there_is_an_error(self):
        with self.start("/nonexistent/app.db", 64, 7) as handler:
            self.assertNotEqual(0, handler.wait())

    def test_the_page_shows_the_source(self):
        source = (ROOT / "sdk" / "examples" / "ledger.cc").read_text()
        self.assertIn(f"```cpp\n{source}```", (ROOT / "docs" / "LEDGER.md").read_text())


if __name__ == "__main__":
    unittest.main()
