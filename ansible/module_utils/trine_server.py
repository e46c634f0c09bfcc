"""As much of the Redis protocol as a playbook needs: one connection, one request at a time; and when a server serves."""

from __future__ import annotations

import socket
import time

# What every module that speaks to a server is told of it.
SERVER_ARGUMENTS = {
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 7000},
    "password": {"type": "str", "no_log": True},
    "timeout": {"type": "int", "default": 60},
    "slots": {"type": "int", "default": 16384},
}


class ReplyError(Exception):
    """An error reply; its text begins with the error's name, such as MOVED or LOADING."""


class Connection:
    """A connection to one server. Closes with `with`."""

    def __init__(self, host, port, password=None, timeout=5.0):
        self.socket = socket.create_connection((host, int(port)), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        if password:
            self.ask("AUTH", password)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes both ends of it; what is in flight is lost."""
        self.file.close()
        self.socket.close()

    def ask(self, *words):
        """Sends a request and returns its reply: text, a number, a list or None. Raises ReplyError."""
        request = b"*%d\r\n" % len(words)
        for word in words:
            word = str(word).encode()
            request += b"$%d\r\n%s\r\n" % (len(word), word)
        self.socket.sendall(request)
        return self._reply()

    def info(self, *words):
        """Asks for something that answers in lines of `name:value`, and returns these as a dictionary."""
        lines = (line.split(":", 1) for line in self.ask(*words).splitlines() if ":" in line)
        return {name: value.strip() for name, value in lines}

    def _reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, text = line[:1], line[1:-2].decode()
        if kind == b"+":
            return text
        if kind == b"-":
            raise ReplyError(text)
        if kind == b":":
            return int(text)
        if kind == b"$":
            length = int(text)
            if length < 0:
                return None
            data = self.file.read(length + 2)
            if len(data) != length + 2:
                raise ConnectionError("the server closed the connection")
            return data[:-2].decode(errors="replace")
        if kind == b"*":
            return None if int(text) < 0 else [self._reply() for _ in range(int(text))]
        raise ConnectionError(f"this is not the Redis protocol: {line[:40]!r}")


def connect(parameters):
    """Connects as SERVER_ARGUMENTS say."""
    return Connection(parameters["host"], parameters["port"], parameters["password"])


def look(parameters):
    """One look at a server. Raises whatever keeps it from serving."""
    with connect(parameters) as server:
        server.ask("PING")
        info = server.info("INFO")
        if info.get("loading", "0") != "0":
            raise ReplyError("LOADING it still reads its data")
        cluster = server.info("CLUSTER", "INFO")
        if parameters["slots"]:
            state, covered = cluster.get("cluster_state"), int(cluster.get("cluster_slots_ok", "0"))
            if state != "ok" or covered != parameters["slots"]:
                raise ReplyError(f"CLUSTERDOWN cluster_state:{state}, cluster_slots_ok:{covered}")
        return {"info": info, "cluster": cluster, "keys": server.ask("DBSIZE")}


def await_server(module):
    """Looks until the server serves, and returns what it said; ends the module where it does not in time."""
    parameters = module.params
    where = f"{parameters['host']}:{parameters['port']}"
    began = time.monotonic()
    while True:
        try:
            found = look(parameters)
            found["waited_s"] = round(time.monotonic() - began, 3)
            return found
        except (OSError, ReplyError) as error:
            if str(error).split(" ", maxsplit=1)[0] in ("NOAUTH", "WRONGPASS"):
                module.fail_json(msg=f"{where}: {error}. Is trine_password the one that it was started with?")
            if parameters["timeout"] <= time.monotonic() - began:
                module.fail_json(
                    msg=f"{where} did not serve within {parameters['timeout']} s: {error}. "
                    "`journalctl -u trine` on the host says more."
                )
        time.sleep(0.05)
