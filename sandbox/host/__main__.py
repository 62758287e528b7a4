"""`python -m sandbox.host`: load an app, run it on loopback, say so on stdout, stop on SIGTERM."""

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import aiohttp
from aiohttp import web

from sandbox.host.clock import Clock, RealClock, RemoteClock
from sandbox.host.index import HTTP, QUEUE, TIMER, Function, IndexingError, load
from sandbox.host.invocation import InvocationIdFilter, Invoker
from sandbox.host.keys import Keys
from sandbox.host.queues import Options, Queues
from sandbox.host.routes import Route, RouteError
from sandbox.host.server import Server
from sandbox.host.timers import ScheduleError, Timers

log = logging.getLogger("host")
_DRAIN_SECONDS = 10.0
_ANSWER_SECONDS = 1.0  # for the answers of invocations that have just ended


def main() -> None:
    """Run the host; exit 0 after SIGTERM, 1 if the app cannot be indexed or had to be cut off."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.host", description=__doc__)
    parser.add_argument("--app", type=Path, default=Path(), help="the directory of function_app.py")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--clock", help='a URL that answers {"now": "<iso utc>"}; without it, real time')
    options = parser.parse_args()
    # The ready line is the only thing on stdout: what the app prints belongs to the log.
    stdout, sys.stdout = sys.stdout, sys.stderr
    _log_to_stderr()
    try:
        abandoned = asyncio.run(_serve(options.app.resolve(), options.port, options.clock, stdout))
    except IndexingError as error:
        log.error("%s", error, exc_info=error.__cause__)  # noqa: TRY400 - the cause's traceback is the app's own
        sys.exit(1)
    if abandoned:
        log.error("%d invocations did not end within %.0f s and were cut off", abandoned, _DRAIN_SECONDS)
        # A thread cannot be stopped, and a normal exit would wait for it.
        os._exit(1)
    # What ends with the process need not be searched for garbage: it would take as long as loading the app.
    gc.freeze()


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(InvocationIdFilter())
    form = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)-7s [%(invocation_id)s] %(name)s: %(message)s",
        "%Y-%m-%dT%H:%M:%S",
    )
    form.converter = time.gmtime
    handler.setFormatter(form)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


async def _serve(app_directory: Path, port: int, clock_url: str | None, stdout: TextIO) -> int:
    """Serve until told to stop; return how many invocations had to be left behind."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clock = await _clock(clock_url)
    try:
        os.chdir(app_directory)  # the worker's own working directory; nothing else runs yet
        # On the running loop, as in the worker: asyncio.run() at import must fail here too.
        functions = load(app_directory)
        timers, invoker, keys = Timers(clock), Invoker(), Keys()
        queues = Queues(invoker, Options.from_host_json(app_directory))
        invoker.put = queues.put
        running, routes, refused = _sort(functions, _route_prefix(app_directory), timers, queues, invoker)
        server = Server(running, routes, timers, queues=queues, invoker=invoker, keys=keys)
        runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=_ANSWER_SECONDS)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        timers.start()
        queues.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready = {"url": url, "functions": list(running), "refused": refused, "keys": asdict(keys)}
        # The one line whoever started us waits for.
        print(json.dumps(ready), file=stdout, flush=True)
        await stop.wait()
        log.info("Stopping: no new work, running invocations may end")
        timers.stop()
        queues.stop()
        await site.stop()
        abandoned = await invoker.drain(_DRAIN_SECONDS)
        await runner.cleanup()
        return abandoned
    finally:
        await clock.close()


async def _clock(url: str | None) -> Clock:
    if url is None:
        return RealClock()
    clock = RemoteClock(url)
    try:
        await clock.start()
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError) as error:
        await clock.close()
        raise SystemExit(f"no time from the clock at {url}: {error}") from error
    return clock


def _sort(
    functions: list[Function], prefix: str, timers: Timers, queues: Queues, invoker: Invoker
) -> tuple[dict[str, Function], list[tuple[Route, Function]], dict[str, str]]:
    """Part the functions that run from those in error, which the real host logs and leaves out."""
    running: dict[str, Function] = {}
    routes: list[tuple[Route, Function]] = []
    refused: dict[str, str] = {}
    for function in functions:
        try:
            if function.not_run:
                refused[function.name] = function.not_run
                continue
            if function.kind == TIMER:
                timers.add(function, invoker)
            elif function.kind == QUEUE:
                queues.add(function)
            elif function.kind == HTTP:
                routes.append((Route.parse(f"{prefix}/{function.trigger['route']}"), function))
            running[function.name] = function
        except (ScheduleError, RouteError) as error:
            refused[function.name] = str(error)
    for name, reason in refused.items():
        log.error("The '%s' function is in error: %s", name, reason)
    return running, routes, refused


def _route_prefix(app_directory: Path) -> str:
    """What host.json says, or the default."""
    path = app_directory / "host.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    prefix = settings.get("extensions", {}).get("http", {}).get("routePrefix", "api")
    return str(prefix)


if __name__ == "__main__":
    main()
