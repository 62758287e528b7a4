"""Plain named values of API Management: NamedValue_Get and NamedValue_Update (2025-09-01-preview).

A secret one is shown without its value. An update needs If-Match, and is answered with what the service
answers a sync with. Those from Key Vault are in `sandbox.arm_entities`.
"""

import json
import re
from typing import Any

from aiohttp import web

from sandbox.arm_bodies import ArmError
from sandbox.world import NamedValue, Service


async def answer(request: web.Request, path: re.Match[str], service: Service) -> web.Response:
    """GET or PATCH one of them."""
    found = service.named_values.get(path["named_value"])
    if found is None:
        raise ArmError(404, "ResourceNotFound", "NamedValue not found.")
    if request.method == "GET":
        return shown(service, path["named_value"], found)
    sent = request.headers.get("If-Match")
    if sent is None:
        raise ArmError(400, "ValidationError", "The If-Match header is required.")
    if sent not in {"*", _etag(found)}:
        raise ArmError(412, "PreconditionFailed", "Resource was modified since last retrieval.")
    try:
        found.value = str(json.loads(await request.read())["properties"]["value"])
    except (ValueError, LookupError, TypeError):
        raise ArmError(400, "ValidationError", "One or more fields contain incorrect values.") from None
    found.revision += 1
    if service.accepts_with == 200:
        return shown(service, path["named_value"], found)
    return web.Response(status=202, headers={"Location": str(request.url), "Retry-After": "10"})


def shown(service: Service, name: str, found: NamedValue) -> web.Response:
    """One as ARM shows it, with its ETag."""
    return web.json_response(body(service, name, found), headers={"ETag": _etag(found)})


def body(service: Service, name: str, found: NamedValue) -> dict[str, Any]:
    """One as ARM shows it."""
    properties: dict[str, Any] = {"displayName": name, "secret": found.secret}
    if not found.secret:
        properties["value"] = found.value
    return {
        "id": f"{service.id}/namedValues/{name}",
        "type": "Microsoft.ApiManagement/service/namedValues",
        "name": name,
        "properties": properties,
    }


def _etag(found: NamedValue) -> str:
    return f'"AAAAAAAAB{found.revision:03}="'
