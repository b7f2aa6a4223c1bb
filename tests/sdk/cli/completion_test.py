#!/usr/bin/env python3
"""Checks that the completion and the man page know exactly the commands and flags that the command has.

    completion_test.py SLUICE COMPLETION MAN_PAGE [SLUICED SLUICED_MAN_PAGE]

Walks through `--help` of every command, and asks bash for what it would complete.
"""

import re
import subprocess
import sys

GLOBAL = {"--help", "--socket", "--version"}


def help_of(binary, words):
    run = subprocess.run([binary, *words, "--help"], capture_output=True, text=True, check=True)
    return run.stdout


def commands_of(binary, words=()):
    """Every runnable command below `words`, as tuples."""
    text = help_of(binary, words)
    section = re.search(r"^Subcommands:\n((?:  .*\n)+)", text, re.MULTILINE)
    if section is None:
        return [tuple(words)]
    found = []
    for name in re.findall(r"^  (\S+)", section.group(1), re.MULTILINE):
        found += commands_of(binary, (*words, name))
    return found


def flags_of(binary, words):
    return set(re.findall(r"^  (?:-\w,)?(--[a-z-]+)", help_of(binary, words), re.MULTILINE)) - GLOBAL


def complete(completion, binary, function, words):
    script = f"""
source {completion}
COMP_WORDS=({' '.join(repr(word) for word in (binary, *words))})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
{function}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def main():
    binary, completion, page = sys.argv[1:4]
    manual = open(page, encoding="utf-8").read()
    errors = []
    commands = commands_of(binary)
    if len(commands) < 10:
        errors.append(f"only {commands} found: has the help changed?")
    for depth in ((), ("topic",), ("group",), ("dlq",), ("msg",), ("session",)):
        expected = {words[len(depth)] for words in commands if words[:len(depth)] == depth}
        found = complete(completion, binary, "_sluice", [*depth, ""])
        if found != expected:
            errors.append(f"after {depth}: completes {sorted(found)}, the command has {sorted(expected)}")
    for words in commands:
        expected = flags_of(binary, words)
        found = complete(completion, binary, "_sluice", [*words, "--"]) - GLOBAL
        if found != expected:
            errors.append(f"{' '.join(words)}: completes {sorted(found)}, the command has {sorted(expected)}")
        if " ".join(words) not in manual:
            errors.append(f"{page} does not name: {' '.join(words)}")
        for flag in expected:
            if f"Fl {flag[1:]}" not in manual:
                errors.append(f"{page} does not name {flag}")
    if len(sys.argv) > 5:
        daemon, daemon_page = sys.argv[4:6]
        text = open(daemon_page, encoding="utf-8").read()
        expected = flags_of(daemon, ()) | {"--socket"}
        found = complete(completion, daemon, "_sluiced", ["--"]) - GLOBAL | {"--socket"}
        if found != expected:
            errors.append(f"sluiced: completes {sorted(found)}, the daemon has {sorted(expected)}")
        for flag in expected:
            if f"Fl {flag[1:]}" not in text:
                errors.append(f"{daemon_page} does not name {flag}")
    values = complete(completion, binary, "_sluice", ["topic", "create", "x", "--durability", ""])
    if values != {"volatile", "async", "sync"}:
        errors.append(f"--durability completes {sorted(values)}")
    for error in errors:
        print(error)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
