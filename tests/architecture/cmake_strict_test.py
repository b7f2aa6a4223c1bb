"""cmake/SluiceModule.cmake refuses what is not there, instead of building a part of the tree.

    cmake_strict_test.py SOURCE_DIR

Configures a small project over it, once as it should be, and once with each mistake.
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv[1])

PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(strict LANGUAGES CXX)
enable_testing()
add_library(sluice_build_flags INTERFACE)
add_library(GTest::gtest INTERFACE IMPORTED)
add_library(GTest::gmock INTERFACE IMPORTED)
add_library(GTest::gtest_main INTERFACE IMPORTED)
include({module})
"""
GOOD = "sluice_module(part SOURCES part.cc)\nsluice_test(part_test SOURCES part.cc USES part LABELS unit)\n"


class CMakeStrict(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sluice-cmake-")
        cls.folder = pathlib.Path(cls.temporary.name)
        (cls.folder / "part.cc").write_text("int main() {}\n")

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def configure(self, body):
        module = (SOURCE / "cmake/SluiceModule.cmake").as_posix()
        (self.folder / "CMakeLists.txt").write_text(PROJECT.replace("{module}", module) + body)
        return subprocess.run(["cmake", "-S", self.folder, "-B", self.folder / "build"], capture_output=True, text=True,
                              timeout=120, check=False)

    def refused(self, body, why):
        done = self.configure(body)
        self.assertNotEqual(done.returncode, 0, body)
        self.assertIn(why, done.stderr)

    def test_what_is_there_is_configured(self):
        done = self.configure(GOOD)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_missing_source_of_a_module_is_an_error(self):
        self.refused("sluice_module(part SOURCES part.cc absent.cc)\n", "absent.cc")

    def test_a_missing_source_of_a_test_is_an_error(self):
        self.refused("sluice_test(part_test SOURCES absent_test.cc)\n", "absent_test.cc")

    def test_an_unknown_label_is_an_error(self):
        self.refused(GOOD.replace("LABELS unit", "LABELS unti"), "unknown label 'unti'")

    def test_a_word_that_is_no_argument_is_an_error(self):
        self.refused("sluice_module(part part.cc)\n", "not understood: part.cc")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
