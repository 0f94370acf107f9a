"""Nanoseconds for a Deferred with ten callbacks that is fired: the median over some rounds."""

import statistics
import sys
import time

from twisted.internet.defer import Deferred


def add_one(n):
    return n + 1


def fire():
    deferred = Deferred()
    for _ in range(10):
        deferred.addCallback(add_one)
    deferred.callback(1)


def batch(operations=2000):
    start = time.perf_counter_ns()
    for _ in range(operations):
        fire()
    return (time.perf_counter_ns() - start) / operations


rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 21
batch()
print(statistics.median(batch() for _ in range(rounds)))
