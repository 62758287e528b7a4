"""An Event Grid topic whose input schema is CloudEvents 1.0: takes events in and keeps them in the world.

https://learn.microsoft.com/azure/event-grid/post-to-custom-topic and .../cloud-event-schema.
"""

import json
from typing import Any

from aiohttp import web

from sandbox.identity import application, refusal
from sandbox.witness import told
from sandbox.world import Server, World

HOST = "topic-contoso.westeurope-1.eventgrid.azure.net"

_AUDIENCES = ("https://eventgrid.azure.net",)
_SINGLE = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"
_LARGEST_REQUEST = 1024 * 1024
_REQUIRED = ("id", "source", "type", "specversion")


class EventGridTopic:
    """The publishing side of one topic.

    Args:
        world: where events are kept.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def app(self) -> web.Application:
        """The server."""
        return application(self._world, Server.TOPIC, self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        if request.path != "/api/events" or request.method != "POST":
            return _error(404, "NotFound", f"nothing at {request.method} {request.path}")
        if request.query.get("api-version") != "2018-01-01":
            return _error(400, "BadRequest", "api-version=2018-01-01 is needed")
        if why := refusal(self._world, request, _AUDIENCES):
            return _error(401, "Unauthorized", f"Bearer token {why}")
        body = await request.read()
        if len(body) > _LARGEST_REQUEST:
            return _error(413, "RequestEntityTooLarge", "a request holds 1 MB")
        try:
            events = _events(request.content_type, body)
        except ValueError as error:
            return _error(400, "BadRequest", str(error))
        told("notice", body)
        self._world.notices.extend(events)
        return web.Response()


def _events(content_type: str, body: bytes) -> list[dict[str, Any]]:
    if content_type not in {_SINGLE, _BATCH}:
        raise ValueError("this topic is configured to receive events in CloudEventSchemaV1_0")
    found = json.loads(body)
    events = [found] if content_type == _SINGLE else found
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise ValueError("a batch is an array of events")
    for event in events:
        missing = [name for name in _REQUIRED if not isinstance(event.get(name), str) or not event[name]]
        if missing or event["specversion"] != "1.0":
            raise ValueError(f"an event has no {', '.join(missing) or 'specversion 1.0'}")
    return events


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)
