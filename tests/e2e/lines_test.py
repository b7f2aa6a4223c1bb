"""Lines through `sluice produce | consume --exit`: the same multiset, in order per key, and a clean audit.

The expectation is what went in: for each key the digests of its lines in their order. That is order and multiset in one:
a line lost, repeated, changed or moved within its key is another list.
"""

import hashlib
import random
import subprocess
import threading
import unittest

import rig

LINES = 1_000_000 if rig.LONG else 200_000
PARTITIONS = 4
KEYS = 97


def digest(line):
    return hashlib.blake2b(line, digest_size=8).digest()


def lines_of(producer, count):
    """Yields (key, payload): 10 to 2000 bytes, every payload different, the same ones each time it is asked."""
    chance = random.Random(producer)
    filler = bytes(chance.choice(b"abcdefghijklmnopqrstuvwxyz0123456789 ,.-") for _ in range(8192))
    for number in range(count):
        size = chance.randint(10, 2000)
        start = chance.randrange(len(filler) - 2000)
        head = b"%d/%d " % (producer, number)
        yield b"p%d-key%d" % (producer, chance.randrange(KEYS)), head + filler[start:start + size - min(size, len(head))]


class Expectation:
    def __init__(self):
        self.keys = {}
        self.count = 0

    def add(self, key, payload):
        self.keys.setdefault(key, []).append(digest(payload))
        self.count += 1


def feed(pipe, producer, count, expected):
    """Writes a producer's lines into the command's stdin and notes them."""
    with pipe:
        block = []
        for key, payload in lines_of(producer, count):
            expected.add(key, payload)
            block.append(key + b":" + payload + b"\n")
            if len(block) == 256:
                pipe.write(b"".join(block))
                block.clear()
        pipe.write(b"".join(block))


def collect(pipe, found):
    with pipe:
        for line in pipe:
            key, _, payload = line[:-1].partition(b"\t")
            found.add(key, payload)


class LinesTest(unittest.TestCase):
    def same(self, expected, found):
        self.assertEqual(expected.count, found.count)
        self.assertEqual(sorted(expected.keys), sorted(found.keys))
        for key, digests in expected.keys.items():
            self.assertEqual(digests, found.keys[key], f"the lines of key {key} are others, or in another order")

    def finish_produce(self, process, count):
        with process.stderr:
            errors = process.stderr.read().decode()
        self.assertEqual(0, process.wait(rig.TIMEOUT), errors)
        self.assertRegex(errors.replace(",", ""), rf"{count} messages \d+ bytes 0 errors")

    def consume(self, bus, *arguments):
        return bus.spawn(rig.SLUICE, "consume", "lines", "--from", "earliest", "--format", "%k\\t%s\\n", *arguments,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def test_lines_come_out_as_they_went_in(self):
        with rig.Bus() as bus:
            bus.start()
            bus.sluice("topic", "create", "lines", "--partitions", PARTITIONS)
            expected, found = Expectation(), Expectation()
            producer = bus.spawn(rig.SLUICE, "produce", "lines", "--key-delimiter", ":", stdin=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            feed(producer.stdin, 0, LINES, expected)
            self.finish_produce(producer, LINES)
            consumer = self.consume(bus, "--exit")
            collect(consumer.stdout, found)
            self.assertEqual(0, consumer.wait(rig.TIMEOUT))
            self.same(expected, found)
            bus.sluice("audit", "lines")
            self.assertEqual(0, bus.stop())

    def test_four_producers_and_four_consumers_at_once(self):
        producers = consumers = 4
        lines = LINES if rig.LONG else LINES // 2
        each = lines // producers
        with rig.Bus() as bus:
            bus.start()
            bus.sluice("topic", "create", "lines", "--partitions", PARTITIONS)
            reading = [self.consume(bus, "--count", lines) for _ in range(consumers)]
            writing = [bus.spawn(rig.SLUICE, "produce", "lines", "--key-delimiter", ":", stdin=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(producers)]
            expected = [Expectation() for _ in range(producers)]
            found = [Expectation() for _ in range(consumers)]
            threads = [threading.Thread(target=feed, args=(process.stdin, number, each, expected[number]))
                       for number, process in enumerate(writing)]
            threads += [threading.Thread(target=collect, args=(process.stdout, found[number]))
                        for number, process in enumerate(reading)]
            for thread in threads:
                thread.start()
            for process in writing:
                self.finish_produce(process, each)
            for thread in threads:
                thread.join()
            everything = Expectation()
            for one in expected:  # keys are a producer's own
                everything.keys.update(one.keys)
                everything.count += one.count
            for process, one in zip(reading, found):
                self.assertEqual(0, process.wait(rig.TIMEOUT))
                self.same(everything, one)
            bus.sluice("audit", "lines")


if __name__ == "__main__":
    rig.main()
