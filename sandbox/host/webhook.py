"""The Event Grid webhook, as the Event Grid extension (3.4) answers it.

The steps run in the extension's order, which decides what a wrong request gets. One delivery starts one
invocation per event, all at once, and one failed event fails the whole delivery: Event Grid then sends every
event of it again.
"""

import asyncio
import json
from collections.abc import Mapping

from aiohttp import web
from azure.functions.meta import Datum

from sandbox.host.index import EVENT_GRID, Function
from sandbox.host.invocation import Invoker
from sandbox.host.keys import Keys, query_value, refusal

_METHODS = {"GET", "PUT", "POST", "DELETE", "OPTIONS"}
_SOVEREIGN = (".us", ".cn", ".gov")


class EventGridWebhook:
    """Answers /runtime/webhooks/EventGrid for the Event Grid functions of the app."""

    def __init__(self, functions: Mapping[str, Function], invoker: Invoker, keys: Keys) -> None:
        listening = (function for function in functions.values() if not function.disabled)
        self._functions = {function.name: function for function in listening if function.kind == EVENT_GRID}
        self._invoker = invoker
        self._keys = keys

    async def answer(self, request: web.Request, extension: str) -> web.Response:
        """Answer one request to /runtime/webhooks/{extension}."""
        if request.method not in _METHODS:
            return web.Response(status=405)
        is_event_grid = extension.casefold() == "eventgrid"
        accepted = ("master", "eventgrid_extension") if is_event_grid else ("master",)
        if status := refusal(self._keys.sent_with(request), *accepted):
            return web.Response(status=status)
        if not is_event_grid:
            return web.Response(status=404)
        name = query_value(request.query, "functionName")
        if name not in self._functions:
            return web.Response(status=404, text=f"cannot find function: '{name}'")
        if request.method == "OPTIONS":
            return _cloud_events_handshake(request)
        return await self._answer_event_type(request, self._functions[name])

    async def _answer_event_type(self, request: web.Request, function: Function) -> web.Response:
        match request.headers.get("aeg-event-type", "").casefold():
            case "subscriptionvalidation":
                return _validation(await request.read())
            case "notification":
                return await self._notification(request, function)
            case "unsubscribe":
                return web.Response(status=202)
            case _:
                return web.Response(status=400)

    async def _notification(self, request: web.Request, function: Function) -> web.Response:
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError):
            return web.Response(status=400, text="the body is no JSON")
        events = body if isinstance(body, list) else [body]
        started = [self._invoker.start(function, event_datum(event), request.headers) for event in events]
        outcomes = await asyncio.gather(*started)
        if all(outcome.ok for outcome in outcomes):
            return web.Response(status=202)
        return web.Response(status=500, text=f"Exception while executing function: Functions.{function.name}")


def event_datum(event: object) -> Datum:
    """What the host hands the worker for one event: compact JSON."""
    return Datum(json.dumps(event, separators=(",", ":"), ensure_ascii=False), "json")


def _cloud_events_handshake(request: web.Request) -> web.Response:
    origin = request.headers.get("WebHook-Request-Origin", "").casefold()
    allowed = origin if origin.endswith(_SOVEREIGN) else "eventgrid.azure.net"
    return web.Response(headers={"Webhook-Allowed-Origin": allowed})


def _validation(body: bytes) -> web.Response:
    """Answer the validation code: in a list of events, or in a CloudEvent whose data is JSON within JSON."""
    try:
        sent = json.loads(body)
        data = sent[0]["data"] if isinstance(sent, list) else sent["data"]
        code = (json.loads(data) if isinstance(data, str) else data)["validationCode"]
    except (ValueError, LookupError, TypeError):
        return web.Response(status=400, text="the body holds no data.validationCode")
    return web.json_response({"validationResponse": code})
