"""One engine in a fresh process: what it costs in CPU time and memory, and what it read.

    python -m bench.engine NAME ROOT_PEM IN_FLIGHT < targets.json > result.json

The first targets are probed once before the clock starts, so that what is loaded at first use is not counted.
"""

import asyncio
import hashlib
import json
import re
import resource
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.machine import most_resident
from rotation.clients.tls import TlsProbe
from rotation.model import Endpoint, ProbeFailure, ServedCertificate

WARM_UP = 16
PATIENCE = timedelta(seconds=30)

Target = tuple[str, str, int]
Engine = Callable[[list[Target]], Awaitable[list[str]]]
"""Prepares, and begins when it is awaited: only that is measured."""


class TimedObject(ssl.SSLObject):
    """Knows how much CPU time all of them have spent inside `do_handshake`."""

    seconds = 0.0

    def do_handshake(self) -> None:
        """Go on with the handshake, and count what it takes."""
        began = time.thread_time()
        try:
            super().do_handshake()
        finally:
            TimedObject.seconds += time.thread_time() - began


def client_context(root: str) -> ssl.SSLContext:
    """One context for all connections, that trusts the farm."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(root)
    return context


def probe(context: ssl.SSLContext, *, read: bool) -> Engine:
    """The product's own; where it shall `read`, with all that a leaf says, as a report shows it."""

    def engine(targets: list[Target]) -> Awaitable[list[str]]:
        routes = {(f"{address}.test", port): (address, port) for _, address, port in targets}
        endpoints = [Endpoint(name, "bench", f"{address}.test", port) for name, address, port in targets]
        tls = TlsProbe(context, routes, PATIENCE)

        async def run() -> list[str]:
            seen = await tls(endpoints)
            served = [each for each in seen if isinstance(each, ServedCertificate)]
            assert not context.check_hostname or not any(each.distrust for each in served)
            if read:
                facts = [
                    (leaf.not_after, leaf.names, leaf.subject, leaf.issuer, leaf.serial) for leaf in served
                ]
                assert all(all(each) for each in facts)
            return [each.fault if isinstance(each, ProbeFailure) else each.thumbprint for each in seen]

        return run()

    return engine


def open_connection(context: ssl.SSLContext, in_flight: int) -> Engine:
    """What is written without a second thought; it reads the same facts of the leaf."""

    async def engine(targets: list[Target]) -> list[str]:
        turns = asyncio.Semaphore(in_flight)

        async def read(name: str, address: str, port: int) -> str:
            async with turns, asyncio.timeout(PATIENCE.total_seconds()):
                _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=name)
                secured = writer.get_extra_info("ssl_object")
                der, facts = secured.getpeercert(binary_form=True), secured.getpeercert()
                assert facts["notAfter"]
                writer.close()
            return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()

        return await asyncio.gather(*(read(*target) for target in targets))

    return engine


def ask_blackbox(port: int, in_flight: int) -> Engine:
    """Asks a blackbox_exporter, whose modules have the names of the targets; gives SHA-256."""

    async def engine(targets: list[Target]) -> list[str]:
        waiting = list(enumerate(targets))[::-1]
        found = [""] * len(targets)

        async def ask() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while waiting:
                number, (name, address, at) = waiting.pop()
                request = f"GET /probe?module={name}&target={address}:{at} HTTP/1.1\r\nHost: blackbox\r\n\r\n"
                writer.write(request.encode())
                found[number] = await _fingerprint(reader)
            writer.close()

        await asyncio.gather(*(ask() for _ in range(in_flight)))
        return found

    return engine


async def _fingerprint(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    if length := re.search(rb"(?i)content-length: (\d+)", head):
        body = await reader.readexactly(int(length[1]))
    else:
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    seen = re.search(rb'fingerprint_sha256="([0-9a-f]+)"', body)
    return seen[1].decode().upper() if seen else "nothing"


def resident() -> float:
    """MiB at present."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def cpu_seconds() -> float:
    """Of this process, all threads, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(engine: Engine, targets: list[Target], *, again: bool) -> dict[str, Any]:
    """Run it, warmed up: with the first few, or as a worker is at its later passes, with all of them."""
    await engine(targets if again else targets[:WARM_UP])
    gaps = [0.0]

    async def tick() -> None:
        while True:
            last = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - last - 0.01)

    ticking = asyncio.ensure_future(tick())
    await asyncio.sleep(0)
    work = engine(targets)
    idle, cpu, wall, inside = resident(), cpu_seconds(), time.monotonic(), TimedObject.seconds
    seen = await work
    result = {
        "wall": time.monotonic() - wall,
        "cpu": cpu_seconds() - cpu,
        "inside": TimedObject.seconds - inside,
        "mib": most_resident() - idle,
        "lag": max(gaps),
        "seen": seen,
    }
    ticking.cancel()
    return result


def main(name: str, root: str, in_flight: str) -> None:
    """Measure the engine of that name."""
    context = client_context(root)
    if name == "unverified":  # with a root at hand OpenSSL would verify, and only not say so
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if name == "timed":
        context.sslobject_class = TimedObject
    if name.startswith("blackbox:"):
        engine = ask_blackbox(int(name.partition(":")[2]), int(in_flight))
    elif name == "open_connection":
        engine = open_connection(context, int(in_flight))
    else:
        engine = probe(context, read=name != "timed")
    targets = [(str(name), str(address), int(port)) for name, address, port in json.load(sys.stdin)]
    json.dump(asyncio.run(measure(engine, targets, again=name == "again")), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
