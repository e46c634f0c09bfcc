#!/usr/bin/env python3
"""Writes to a cluster and keeps a ledger of what was acknowledged, until its standard input closes; then reads everything back.

    ledger.py HOST:PORT < pipe        TRINE_PASSWORD has the password

Ends with 0 where nothing acknowledged is lost, and errors came from one server at a time. Prints what it saw as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import select
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "module_utils"))
from trine_server import Connection, ReplyError  # noqa: E402

KEYS = 2000
# A small load: the point is what is lost, not how fast.
PAUSE_S = 0.0005


class Cluster:
    """A cluster client: asks whom it takes to own a key, and learns from MOVED."""

    def __init__(self, seed, password):
        self.password, self.connections, self.owner = password, {}, {}
        self.seed = seed

    def connection(self, address):
        """The connection to a node, made where there is none."""
        if address not in self.connections:
            host, port = address.rsplit(":", 1)
            self.connections[address] = Connection(host, port, self.password, timeout=2)
        return self.connections[address]

    def ask(self, key, *words):
        """Asks the owner of a key. Raises (address, error) where that fails."""
        address = self.owner.get(key, self.seed)
        for _ in range(5):
            try:
                return self.connection(address).ask(*words)
            except ReplyError as error:
                if not str(error).startswith("MOVED"):
                    raise Failed(address, error) from error
                address = str(error).split()[2]
                self.owner[key] = address
            except OSError as error:
                if address in self.connections:
                    self.connections.pop(address).close()
                raise Failed(address, error) from error
        raise Failed(address, "too many redirections")


class Failed(Exception):
    """A request that a server did not answer as it should."""

    def __init__(self, address, error):
        super().__init__(f"{address}: {error}")
        self.server = address.rsplit(":", 1)[0]


def is_closed(stream):
    """Whether a stream has come to its end; nothing is ever written to this one."""
    return bool(select.select([stream], [], [], 0)[0])


def write(cluster, ledger, errors):
    """Writes round after round, until standard input closes. Returns how many writes were acknowledged."""
    acknowledged = 0
    for number in itertools.count():
        for index in range(KEYS):
            key, value = f"ledger:{index}", f"{number}.{acknowledged}"
            ledger.setdefault(key, [None]).append(value)
            try:
                cluster.ask(key, "SET", key, value)
                # Of what was sent before, nothing may be seen any more.
                ledger[key] = [value]
                acknowledged += 1
            except Failed as failed:
                errors.append((time.monotonic(), failed.server, str(failed)))
                time.sleep(0.02)
            time.sleep(PAUSE_S)
            if index % 100 == 0 and is_closed(sys.stdin):
                return acknowledged


def lost(cluster, ledger):
    """Every key whose value is none that may be there: the last one acknowledged, or one sent later."""
    found = []
    for key, values in ledger.items():
        value = None
        for _ in range(100):
            try:
                value = cluster.ask(key, "GET", key)
                break
            except Failed:
                time.sleep(0.05)
        if value not in values:
            found.append(f"{key}: {value}, not one of {values[-3:]}")
    return found


def spans_of(errors):
    """From the first to the last error of each server."""
    spans = {}
    for at, server, _ in errors:
        first, _ = spans.get(server, (at, at))
        spans[server] = (first, at)
    return spans


def overlapping(spans):
    """Pairs of servers that failed at once."""
    servers = sorted(spans)
    return [
        (one, other)
        for index, one in enumerate(servers)
        for other in servers[index + 1 :]
        if spans[one][0] < spans[other][1] and spans[other][0] < spans[one][1]
    ]


def main():
    """Runs until standard input closes."""
    cluster, ledger, errors = Cluster(sys.argv[1], os.environ.get("TRINE_PASSWORD")), {}, []
    acknowledged = write(cluster, ledger, errors)
    spans = spans_of(errors)
    missing, both = lost(cluster, ledger), overlapping(spans)
    report = {
        "acknowledged": acknowledged,
        "keys": len(ledger),
        "lost": missing[:10],
        "errors": len(errors),
        "error_span_s": {server: round(last - first, 3) for server, (first, last) in spans.items()},
        "failed_at_once": both,
        "error_samples": sorted({text for _, _, text in errors})[:6],
    }
    print(json.dumps(report))
    return 1 if missing or both or not acknowledged else 0


if __name__ == "__main__":
    sys.exit(main())
