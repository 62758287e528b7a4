"""A TLS server in a process of its own: a leaf for each name, on many addresses, as far away as told.

    python -m bench.farm FOLDER LEAVES KEY RTT_MS TLS

Writes one line of JSON when it listens, and is to be terminated. Distance is made here, because loopback has
none: a flight arrives a round trip after what it answers, and the first no earlier than two round trips after
the connection was asked for, of which one was TCP's.
To answer requests is part of it: some peers send one.
"""

import heapq
import json
import selectors
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from bench.authority import issue

ADDRESSES = [f"127.0.1.{n}" for n in range(1, 33)]
_ANSWER = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint of the farm, and the hashes of the leaf that is right for it: SHA-1 and SHA-256."""

    name: str
    address: str
    port: int
    right: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Farm:
    """A running farm: its process, the root to trust, and what it serves."""

    process: "subprocess.Popen[str]"
    root: Path
    port: int
    hashes: dict[str, tuple[str, str]]

    def targets(self, number: int, addresses: int = len(ADDRESSES)) -> list[Target]:
        """So many endpoints; where there are fewer leaves, several endpoints serve the same."""
        names = list(self.hashes)
        return [
            Target(name, ADDRESSES[n % addresses], self.port, self.hashes[name])
            for n in range(number)
            for name in [names[n % len(names)]]
        ]


@contextmanager
def running(leaves: int, key: str, rtt: float, tls: str = "any") -> Iterator[Farm]:
    """A farm, until the context ends."""
    with tempfile.TemporaryDirectory(prefix="bench-farm-") as folder:
        command = [sys.executable, "-m", "bench.farm", folder, str(leaves), key, str(rtt), tls]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            yield Farm(
                process,
                Path(ready["root"]),
                ready["port"],
                {n: (a, b) for n, (a, b) in ready["hashes"].items()},
            )
        finally:
            process.terminate()
            process.wait(10)
            process.stdout.close()


@dataclass(slots=True, eq=False)
class _Visitor:
    sock: socket.socket
    tls: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    earliest: float
    shaken: bool = False


@dataclass(slots=True)
class _Server:
    context: ssl.SSLContext
    rtt: float
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    underway: list[tuple[float, int, _Visitor, bytes]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def listen(self) -> int:
        """Listen on one port of every address."""
        port = 0
        for address in ADDRESSES:
            sock = socket.create_server((address, port), backlog=4096)
            sock.setblocking(False)
            port = int(sock.getsockname()[1])
            self.selector.register(sock, selectors.EVENT_READ)
        return port

    def serve(self) -> None:
        """Until the process is ended."""
        while True:
            patience = max(0.0, self.underway[0][0] - time.monotonic()) if self.underway else None
            for key, _ in self.selector.select(patience):
                if key.data:
                    self.hear(key.data)
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self.welcome(key.fileobj)
            while self.underway and self.underway[0][0] <= time.monotonic():
                _, _, visitor, flight = heapq.heappop(self.underway)
                self.deliver(visitor, flight)

    def welcome(self, listener: socket.socket) -> None:
        """Take the next connection."""
        sock, _ = listener.accept()
        sock.setblocking(False)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(incoming, outgoing, server_side=True)
        self.selector.register(
            sock,
            selectors.EVENT_READ,
            _Visitor(sock, tls, incoming, outgoing, time.monotonic() + 2 * self.rtt),
        )

    def hear(self, visitor: _Visitor) -> None:
        """Go on with the handshake, or answer a request and hang up."""
        over = False
        try:
            flight = visitor.sock.recv(16384)
            over = not flight
            visitor.incoming.write(flight)
            if not visitor.shaken:
                visitor.tls.do_handshake()
                visitor.shaken = True
            if visitor.tls.read(16384):
                visitor.tls.write(_ANSWER)
                over = True
        except ssl.SSLWantReadError:
            pass
        except OSError:
            over = True
        if reply := visitor.outgoing.read():
            self.send(visitor, reply)
        if over:
            self.selector.unregister(visitor.sock)
            self.send(visitor, b"")

    def send(self, visitor: _Visitor, flight: bytes) -> None:
        """Put a flight on its way; an empty one is the end."""
        if not self.rtt:
            self.deliver(visitor, flight)
            return
        arrives = max(time.monotonic() + self.rtt, visitor.earliest)
        heapq.heappush(self.underway, (arrives, next(self.numbers), visitor, flight))

    def deliver(self, visitor: _Visitor, flight: bytes) -> None:
        """What arrives now."""
        if not flight:
            visitor.sock.close()
            return
        with suppress(OSError):
            visitor.sock.sendall(flight)


def main(folder: str, leaves: str, key: str, rtt: str, tls: str) -> None:
    """Serve until the process is ended."""
    issued = issue(Path(folder), [f"api-{n}.bench.test" for n in range(int(leaves))], key)
    contexts: dict[str, ssl.SSLContext] = {}

    for name, chain in issued.chains.items():
        made = contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls == "1.2":
            made.maximum_version = ssl.TLSVersion.TLSv1_2
        made.load_cert_chain(chain)
    front = next(iter(contexts.values()))

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = contexts.get(name or "", front)

    front.sni_callback = choose
    server = _Server(front, float(rtt) / 1000)
    port = server.listen()
    ready = {"root": str(issued.root), "port": port, "hashes": issued.hashes}
    print(json.dumps(ready), flush=True)
    server.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
