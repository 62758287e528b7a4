"""The host's listener: HTTP functions with their routes and keys, the admin endpoints and the home page."""

import json
import os
import time
from collections.abc import Mapping, Sequence

from aiohttp import web
from azure.functions.meta import Datum

from sandbox.host.index import EVENT_GRID, QUEUE, TIMER, Function
from sandbox.host.invocation import Invoker
from sandbox.host.keys import Keys, refusal
from sandbox.host.messages import http_datum, request_datum, response
from sandbox.host.queues import Queues
from sandbox.host.routes import Route
from sandbox.host.timers import Timers
from sandbox.host.webhook import EventGridWebhook, event_datum

_NO_HOME_PAGE = "AzureWebJobsDisableHomepage"
_LARGEST_BODY = 100 * 1024 * 1024  # the host's maxRequestBodySize


class Server:
    """Routes every request of the loopback listener."""

    def __init__(
        self,
        functions: Mapping[str, Function],
        routes: Sequence[tuple[Route, Function]],
        timers: Timers,
        *,
        queues: Queues,
        invoker: Invoker,
        keys: Keys,
    ) -> None:
        self._functions = {name.casefold(): function for name, function in functions.items()}
        self._routes = sorted(routes, key=lambda entry: entry[0].precedence)
        self._timers = timers
        self._queues = queues
        self._invoker = invoker
        self._keys = keys
        self._webhook = EventGridWebhook(functions, invoker, keys)
        self._started = time.monotonic()

    def application(self) -> web.Application:
        """The aiohttp application: one handler, because ASP.NET's routes are not aiohttp's."""
        application = web.Application(client_max_size=_LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.rel_url.path_safe
        segments = [segment for segment in path.split("/") if segment]
        match [segment.casefold() for segment in segments]:
            case []:
                return _home_page()
            case ["runtime", "webhooks", _]:
                return await self._webhook.answer(request, segments[-1])
            case ["admin", *rest]:
                return await self._admin(request, rest)
        return await self._http_function(request, path)

    async def _admin(self, request: web.Request, path: Sequence[str]) -> web.Response:
        match path:
            case ["sandbox", *rest]:
                return await self._sandbox(request, rest)
            case ["host", "ping"]:
                return web.Response()
        if status := refusal(self._keys.sent_with(request), "master"):
            return web.Response(status=status)
        match path:
            case ["host", "status"]:
                uptime = round((time.monotonic() - self._started) * 1000)
                return web.json_response(
                    {"state": "Running", "version": "4.0-sandbox", "processUptime": uptime}
                )
            case ["functions", name] if name in self._functions and request.method == "POST":
                return await self._run_now(request, self._functions[name])
        return web.Response(status=404)

    async def _run_now(self, request: web.Request, function: Function) -> web.Response:
        """Start the function in the background, as the portal's Test/Run does; also one that is disabled."""
        try:
            given = json.loads(await request.read())["input"]
            data = self._data_of_run(request, function, given)
        except (ValueError, LookupError, TypeError):
            return web.Response(status=400)
        self._invoker.start(function, data)
        return web.Response(status=202)

    def _data_of_run(self, request: web.Request, function: Function, given: object) -> Datum:
        if function.kind == TIMER:
            return self._timers.by_name[function.name].payload()
        if function.kind == EVENT_GRID:
            return event_datum(json.loads(given) if isinstance(given, str) else given)
        text = given if isinstance(given, str) else json.dumps(given)
        if function.kind == QUEUE:  # a message whose text is the input: no queue is read here
            return Datum(text, "string")
        body = text.encode()
        url = str(request.url)
        return http_datum(method="POST", url=url, headers={}, query={}, route_values={}, body=body)

    async def _sandbox(self, request: web.Request, path: Sequence[str]) -> web.Response:
        """Not Azure's: what tests need to know and to do."""
        match path:
            case ["idle"]:
                return await self._idle()
            case ["queues", name]:
                return await self._queue(request, name)
        return web.Response(status=404)

    async def _idle(self) -> web.Response:
        """Answer when every timer due has run, queues are empty and nothing is running."""
        await self._timers.caught_up()
        await self._invoker.idle()
        await self._queues.empty()
        await self._invoker.idle()
        return web.Response(status=204)

    async def _queue(self, request: web.Request, name: str) -> web.Response:
        """Put the body on a queue as a message, or show the messages that wait there."""
        queue = self._queues.named(name)
        if request.method == "POST":
            await queue.put(await request.text())
            return web.Response(status=201)
        return web.json_response([message.text for message in await queue.peek()])

    async def _http_function(self, request: web.Request, path: str) -> web.Response:
        for route, function in self._routes:
            values = route.match(path)
            # The method is part of the route: a wrong one is no match, so it ends in 404 and not in 405.
            if values is not None and request.method in function.trigger.get("methods", [request.method]):
                return await self._call(request, function, values)
        return web.Response(status=404)

    async def _call(
        self, request: web.Request, function: Function, values: Mapping[str, str]
    ) -> web.Response:
        sent = self._keys.sent_with(request)
        level = function.trigger.get("authLevel", "FUNCTION")
        if level != "ANONYMOUS" and sent not in {"master", "function" if level == "FUNCTION" else "master"}:
            return web.Response(status=401)
        if function.disabled and sent != "master":
            return web.Response(status=404)
        outcome = await self._invoker.start(function, await request_datum(request, values), request.headers)
        return web.Response(status=500) if outcome.value is None else response(outcome.value)


def _home_page() -> web.Response:
    if os.environ.get(_NO_HOME_PAGE, "").casefold() == "true":
        return web.Response(status=204)
    return web.Response(text="The Functions host of the sandbox runs here.")
