"""HTTP as it travels between host and worker: a request to a Datum, a function's Datum to a response."""

import json
from collections.abc import Iterable, Mapping

from aiohttp import web
from azure.functions.meta import Datum
from multidict import CIMultiDict

_FRAMING = {"content-length", "transfer-encoding"}  # the listener's own business, whatever the function says


async def request_datum(request: web.Request, route_values: Mapping[str, str]) -> Datum:
    """What the host hands the worker for a request: headers in lower case, no empty query values."""
    return http_datum(
        method=request.method,
        url=str(request.url),
        headers=_joined((name.lower(), value) for name, value in request.headers.items()),
        query=_joined((name, value) for name, value in request.query.items() if value),
        route_values=route_values,
        body=await request.read() if request.content_length else b"",
    )


def http_datum(
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    route_values: Mapping[str, str],
    body: bytes,
) -> Datum:
    """An HTTP request in the shape that the SDK's converter decodes."""
    value = {
        "method": Datum(method, "string"),
        "url": Datum(url, "string"),
        "headers": {name: Datum(text, "string") for name, text in headers.items()},
        "query": {name: Datum(text, "string") for name, text in query.items()},
        "params": {name: Datum(text, "string") for name, text in route_values.items()},
        "body": Datum(body, "bytes"),
    }
    return Datum(value, "http")


def response(answer: Datum) -> web.Response:
    """The response an answer stands for: an HttpResponse as given, a string as text or response object."""
    if answer.type == "string":
        return _response_object(answer.value) or web.Response(text=answer.value)
    parts = answer.value
    headers = CIMultiDict((name, text.value) for name, text in parts["headers"].items())
    for name in _FRAMING & {name.casefold() for name in headers}:
        del headers[name]
    for cookie in parts["cookies"] or ():
        for morsel in cookie.values():
            headers.add("Set-Cookie", morsel.OutputString())
    return web.Response(status=int(parts["status_code"].value), headers=headers, body=parts["body"].value)


def _response_object(text: str) -> web.Response | None:
    """The real host reads a string holding JSON with a body as a whole response."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return None
    if not isinstance(parsed, dict) or "body" not in parsed:
        return None
    body = parsed["body"]
    return web.Response(
        status=int(parsed.get("status", 200)),
        headers=parsed.get("headers"),
        text=body if isinstance(body, str) else json.dumps(body),
    )


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One value for each name; repeated ones joined by a comma."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined
