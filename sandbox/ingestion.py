"""Application Insights' ingestion endpoint: takes envelopes in and keeps them in the world."""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from sandbox.identity import application, refusal
from sandbox.witness import told
from sandbox.world import Server, World

_AUDIENCES = ("https://monitor.azure.com",)
_TRACK = ("/v2.1/track", "/v2/track")


class Ingestion:
    """The server that the connection string's IngestionEndpoint and LiveEndpoint point to.

    Args:
        world: where envelopes are kept.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def app(self) -> web.Application:
        """The server."""
        return application(self._world, Server.INGESTION, self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        if (
            request.path.replace("//", "/") not in _TRACK
        ):  # live metrics, statistics about the SDK: welcome and forgotten
            return web.json_response({}, headers={"x-ms-qps-subscribed": "false"})
        if self._world.ingestion_needs_token and (why := refusal(self._world, request, _AUDIENCES)):
            return _result(401, 0, 0, {"index": 0, "statusCode": 401, "message": f"Bearer token {why}"})
        try:
            envelopes = _envelopes(await request.text())  # aiohttp has undone a gzip encoding
        except ValueError as error:
            return _result(400, 0, 0, {"index": 0, "statusCode": 400, "message": str(error)})
        for envelope in envelopes:
            shown = {name: value for name, value in envelope.items() if name != "iKey"}
            told("telemetry", json.dumps(shown))
        self._world.telemetry.extend(envelopes)
        return _result(200, len(envelopes), len(envelopes))


def _envelopes(text: str) -> list[dict[str, Any]]:
    """The envelopes of a JSON array, of one object, or of one object a line (`application/x-json-stream`)."""
    if text.lstrip().startswith("["):
        envelopes = json.loads(text)
    else:
        envelopes = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(envelope, dict) for envelope in envelopes):
        raise ValueError("an envelope is a JSON object")
    return list(envelopes)


def _result(status: int, received: int, accepted: int, *errors: Mapping[str, object]) -> web.Response:
    body = {"itemsReceived": received, "itemsAccepted": accepted, "errors": list(errors)}
    return web.json_response(body, status=status)
