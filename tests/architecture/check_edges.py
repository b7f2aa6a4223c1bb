#!/usr/bin/env python3
"""Checks that includes point only downwards through the modules, as docs/ARCHITECTURE.md ("Modules") allows.

    check_edges.py [ROOT]        exit 1 and one line per wrong edge
    check_edges.py --self-test   proves that each rule can fail: feeds wrong edges in temporary trees

Rules:
 1. An include of a file of ours stays in its module or goes to one that MAY_USE names ("may use" goes on downwards).
 2. A quoted include that is no file of ours and no generated schema is an error: a misspelt path is not a free pass.
 3. Public headers (sdk/include, sdk/ledger/include, shm/base/{result,types}.h) include each other, the standard library
    and tl/expected.hpp, and nothing else; those of the ledger reach shm/base through sluice/result.h alone, since only
    sdk/include has it beside itself once installed.
 4. KJ and Cap'n Proto are known to KJ_MODULES only.
 5. The USES of a sluice_module() in a CMakeLists.txt follow rule 1 too.
Files longer than LINES_MAX are named as a warning.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

# module -> what it may use directly. A file belongs to the longest module that is a prefix of its path.
MAY_USE = {
    "shm/base": [],
    "shm/layout": ["shm/base"],
    "shm/region": ["shm/base", "shm/layout"],
    "shm/ring": ["shm/layout"],
    "sdk/protocol": [],
    "sdk/include": ["shm/base"],  # narrowed to two headers by rule 3
    "daemon/core": ["shm/base"],
    "daemon/io": ["shm/base"],
    "daemon/log": ["shm/layout", "daemon/io"],
    "daemon/spill": ["shm/ring", "daemon/log", "daemon/core"],
    "daemon/store": ["daemon/core"],
    "daemon/session": ["shm/region", "shm/ring", "daemon/core"],
    "daemon/keep": ["shm/region"],
    "daemon/delivery": ["daemon/core", "daemon/session", "daemon/store", "shm/region", "shm/ring"],
    "daemon/resolve": ["daemon/core"],
    "daemon/transactions": ["daemon/core", "daemon/resolve", "daemon/session", "daemon/store"],
    "daemon/bus": ["daemon/delivery", "daemon/transactions", "daemon/spill", "daemon/session", "daemon/store", "daemon/log", "daemon/keep"],
    "daemon/control": ["sdk/protocol", "daemon/bus", "daemon/core", "daemon/session"],
    "daemon/observe": ["daemon/core"],
    "daemon/main": ["daemon/bus", "daemon/control", "daemon/core", "daemon/io", "daemon/keep", "daemon/log", "daemon/observe",
                    "daemon/resolve", "daemon/session", "daemon/spill", "daemon/store"],
    "sdk": ["sdk/include", "sdk/protocol", "shm/region", "shm/ring"],
    "sdk/ledger": ["sdk/include"],
    "sdk/examples": ["sdk/include", "sdk/ledger"],
    "sdk/cli": ["sdk/include"],
    "perf": ["sdk/include", "shm/ring"],
}
KJ_MODULES = {"sdk/protocol", "sdk", "daemon/control", "daemon/main"}
PUBLIC_BASE_HEADERS = {"shm/base/result.h", "shm/base/transaction_id.h", "shm/base/types.h"}
LEDGER_HEADERS = "sdk/ledger/include/"
# Text alone, so that `5s` and `64KiB` mean the same in the daemon's configuration and on a command line.
SIBLINGS = {header.rsplit("/", 1)[1] for header in PUBLIC_BASE_HEADERS}
COMMAND_BASE_HEADERS = PUBLIC_BASE_HEADERS | {"shm/base/units.h"}
LINES_MAX = 600

SOURCES = {".h", ".cc", ".cpp", ".hpp"}
TOP_FOLDERS = ("shm", "daemon", "sdk", "perf")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
STANDARD = re.compile(r"^([a-z_0-9]+|std(int|def|bool)\.h)$")
SLUICE_MODULE = re.compile(r"sluice_module\s*\(([^)]*)\)", re.DOTALL)


def module_of(path):
    """The module that a path (relative to the root, as text) belongs to, or None."""
    best = None
    for module in MAY_USE:
        if path.startswith(module + "/") and (best is None or len(module) > len(best)):
            best = module
    return best


def reachable(module):
    """Every module that `module` may use, itself included."""
    seen, todo = set(), [module]
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo.extend(MAY_USE[current])
    return seen


class Checker:
    def __init__(self, root):
        self.root = root
        self.errors = []
        self.warnings = []
        self.edges = 0

    def error(self, path, line, text):
        self.errors.append(f"{path}:{line}: {text}")

    def resolve(self, path, name):
        """The file of ours that an include names, relative to the root; None for somebody else's."""
        if name.endswith(".capnp.h"):
            return "sdk/protocol/" + name.rsplit("/", 1)[-1]
        candidates = [Path(name), Path(path).parent / name]
        if name.startswith("sluice/"):
            candidates.append(Path("sdk/include") / name)
            candidates.append(Path(LEDGER_HEADERS) / name)
        for candidate in candidates:
            if (self.root / candidate).is_file():
                return os.path.normpath(candidate)
        return None

    def check_include(self, path, line, bracket, name):
        module = module_of(path)
        of_ledger = path.startswith(LEDGER_HEADERS)
        public = module == "sdk/include" or of_ledger or path in PUBLIC_BASE_HEADERS
        target = self.resolve(path, name)
        if name.startswith(("kj/", "capnp/")) or name.endswith(".capnp.h"):
            if module not in KJ_MODULES:
                self.error(path, line, f"{module} must not know KJ or Cap'n Proto, but includes {name}")
                return
        if target is None:
            if bracket == '"':
                self.error(path, line, f'"{name}" is no file of this tree (paths start at the root)')
            elif public and not STANDARD.match(name) and name != "tl/expected.hpp":
                self.error(path, line, f"a public header includes <{name}>: only C++, tl/expected.hpp and public headers")
            return
        self.edges += 1
        installed = module_of(target) == "sdk/include" or target in PUBLIC_BASE_HEADERS \
            or (of_ledger and target.startswith(LEDGER_HEADERS))
        if public and not installed:
            self.error(path, line, f"a public header includes {target}, which is not installed")
        elif of_ledger and target in PUBLIC_BASE_HEADERS:
            self.error(path, line, f"{target} is not found from an installed header in a folder: include sluice/result.h")
        elif path in PUBLIC_BASE_HEADERS:
            if name not in SIBLINGS:
                self.error(path, line, f"{target}: the public headers of shm/base include one another by bare name alone")
        elif module_of(target) is None:
            self.error(path, line, f"{target} belongs to no module of the table")
        elif module_of(target) not in reachable(module):
            self.error(path, line, f"{module} may not use {module_of(target)} ({target})")
        elif module == "sdk/examples" and module_of(target) == "sdk/ledger" and not target.startswith(LEDGER_HEADERS):
            self.error(path, line, f"an example includes {target}, which is not installed")
        elif module in ("sdk/cli", "sdk/ledger", "sdk/examples") and module_of(target) == "shm/base" \
                and target not in (COMMAND_BASE_HEADERS if module == "sdk/cli" else PUBLIC_BASE_HEADERS):
            self.error(path, line, f"{module} uses the public SDK alone, but includes {target}")

    def check_source(self, file):
        path = file.relative_to(self.root).as_posix()
        if module_of(path) is None:
            self.error(path, 1, "belongs to no module of the table")
            return
        lines = file.read_text(encoding="utf-8").splitlines()
        if len(lines) > LINES_MAX:
            self.warnings.append(f"{path}: {len(lines)} lines (aim: {LINES_MAX}); do two things live together?")
        for number, text in enumerate(lines, 1):
            match = INCLUDE.match(text)
            if match:
                self.check_include(path, number, match.group(1), match.group(2))

    def check_uses(self, file):
        """Rule 5: target sluice_a_b is the module a/b."""
        path = file.relative_to(self.root).as_posix()
        targets = {"sluice_" + module.replace("/", "_"): module for module in MAY_USE}
        for match in SLUICE_MODULE.finditer(file.read_text(encoding="utf-8")):
            words = match.group(1).split()
            module = targets.get(words[0])
            if module is None or "USES" not in words:
                continue
            for word in words[words.index("USES") + 1:]:
                if word in ("SOURCES", "LIBRARIES"):
                    break
                used = targets.get(word)
                if used is not None:
                    self.edges += 1
                    if used not in reachable(module):
                        self.error(path, 1, f"{module} may not use {used} (USES {word})")

    def run(self):
        for top in TOP_FOLDERS:
            for file in sorted((self.root / top).rglob("*")):
                if file.suffix in SOURCES:
                    self.check_source(file)
                elif file.name == "CMakeLists.txt":
                    self.check_uses(file)
        return not self.errors


# (what must be found, files of the tree). An empty text: the tree must pass.
SELF_TEST_TREES = [
    ("", {"shm/base/result.h": "#include <tl/expected.hpp>\n", "shm/ring/a.h": '#include "shm/base/result.h"\n'}),
    ("", {"daemon/control/a.cc": "#include <kj/async.h>\n#include \"sdk/protocol/control.capnp.h\"\n"}),
    ("", {"daemon/bus/a.h": '#include "shm/base/x.h"\n', "shm/base/x.h": ""}),
    ("shm/base may not use shm/ring", {"shm/base/a.h": '#include "shm/ring/b.h"\n', "shm/ring/b.h": ""}),
    ("shm/base may not use shm/ring", {"shm/base/a.h": "#include <shm/ring/b.h>\n", "shm/ring/b.h": ""}),
    ("shm/ring may not use shm/region", {"shm/ring/a.cc": '#  include "../region/b.h"\n', "shm/region/b.h": ""}),
    ("daemon/core may not use daemon/io", {"daemon/core/a.cc": '#include "daemon/io/b.h"\n', "daemon/io/b.h": ""}),
    ("daemon/log may not use sdk", {"daemon/log/a.cc": '#include "sdk/b.h"\n', "sdk/b.h": ""}),
    ("sdk may not use daemon/log", {"sdk/a.cc": '#include "daemon/log/b.h"\n', "daemon/log/b.h": ""}),
    ("perf may not use daemon/spill", {"perf/a.cc": '#include "daemon/spill/b.h"\n', "daemon/spill/b.h": ""}),
    ("sdk/cli may not use sdk ", {"sdk/cli/a.cc": '#include "sdk/b.h"\n', "sdk/b.h": ""}),
    ("uses the public SDK alone", {"sdk/cli/a.cc": '#include "shm/base/fd.h"\n', "shm/base/fd.h": ""}),
    ("is no file of this tree", {"sdk/a.cc": '#include "producer.h"\n'}),
    ("must not know KJ", {"daemon/bus/a.cc": "#include <kj/async.h>\n"}),
    ("must not know KJ", {"sdk/include/sluice/a.h": "#include <capnp/message.h>\n"}),
    ("must not know KJ", {"daemon/session/a.cc": '#include "control.capnp.h"\n'}),
    ("a public header includes <boost/", {"sdk/include/sluice/a.h": "#include <boost/any.hpp>\n"}),
    ("which is not installed", {"sdk/include/sluice/a.h": '#include "shm/base/fd.h"\n', "shm/base/fd.h": ""}),
    ("bare name alone", {"shm/base/result.h": '#include "shm/base/types.h"\n', "shm/base/types.h": ""}),
    ("", {"sdk/ledger/include/sluice/ledger/a.h": '#include "sluice/ledger/b.h"\n#include "sluice/c.h"\n',
          "sdk/ledger/include/sluice/ledger/b.h": "", "sdk/include/sluice/c.h": ""}),
    ("which is not installed", {"sdk/ledger/include/sluice/ledger/a.h": '#include "sdk/ledger/b.h"\n', "sdk/ledger/b.h": ""}),
    ("a public header includes <libpq", {"sdk/ledger/include/sluice/ledger/a.h": "#include <libpq-fe.h>\n"}),
    ("include sluice/result.h",
     {"sdk/ledger/include/sluice/ledger/a.h": '#include "shm/base/result.h"\n', "shm/base/result.h": ""}),
    ("", {"sdk/examples/a.cc": '#include "sluice/ledger/b.h"\n', "sdk/ledger/include/sluice/ledger/b.h": ""}),
    ("which is not installed", {"sdk/examples/a.cc": '#include "sdk/ledger/b.h"\n', "sdk/ledger/b.h": ""}),
    ("which is not installed", {"sdk/include/sluice/a.h": '#include "sluice/ledger/b.h"\n',
                                "sdk/ledger/include/sluice/ledger/b.h": ""}),
    ("belongs to no module", {"daemon/other/a.cc": "\n"}),
    ("daemon/io may not use daemon/log",
     {"daemon/io/CMakeLists.txt": "sluice_module(sluice_daemon_io\n  SOURCES a.cc\n  USES sluice_daemon_log)\n"}),
]


def self_test():
    failures = 0
    for expected, files in SELF_TEST_TREES:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                file = Path(folder) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            checker = Checker(Path(folder))
            checker.run()
        found = any(expected in error for error in checker.errors) if expected else not checker.errors
        if not found:
            failures += 1
            print(f"self-test: expected {expected or 'no error'!r} for {files}, got {checker.errors}")
    print(f"self-test: {len(SELF_TEST_TREES) - failures} of {len(SELF_TEST_TREES)} trees judged rightly")
    return failures == 0


def main():
    arguments = sys.argv[1:]
    if arguments == ["--self-test"]:
        return 0 if self_test() else 1
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[2]
    checker = Checker(root)
    checker.run()
    for warning in checker.warnings:
        print("warning: " + warning)
    for error in checker.errors:
        print(error)
    if checker.edges == 0:
        print(f"no edge found below {root}: is this the root of the tree?")
        return 1
    print(f"{checker.edges} edges, {len(checker.errors)} wrong, {len(checker.warnings)} long files")
    return 1 if checker.errors else 0


if __name__ == "__main__":
    sys.exit(main())
