"""Azure Resource Graph: the tables `resources` and `advisorresources`, asked in a small part of KQL.

Understood are `where` with one comparison, with several `contains` joined by `or`, or with the beginning of
a hash, `summarize` with a count, `project` and `order by`; another query is refused as Azure refuses one that
is wrong. The truths that hurt: rows lag behind ARM, fields may be hidden, what the caller
may not read is left out without a word, rows without an order come in any, and without an id there is no
next page.
"""

import base64
import hashlib
import json
import random
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from sandbox import arm_network
from sandbox.arm_bodies import ArmError, service_body
from sandbox.world import Recommendation, Service, World

_PATH = "/providers/microsoft.resourcegraph/resources"
_COLUMN = r"[A-Za-z]\w*(?:\.[A-Za-z]\w*)*"
_VALUE = rf"(?:tostring\((?P<text>{_COLUMN})\)|(?P<column>{_COLUMN}))"
_WHERE = re.compile(rf"where\s+{_VALUE}\s*(?P<operator>=~|==)\s*'(?P<literal>[^']*)'")
_CONTAINS = re.compile(rf"{_VALUE}\s+contains\s+'(?P<literal>[^']*)'")
_HASHED = re.compile(
    rf"where\s+substring\(hash_sha256\(tolower\((?P<column>{_COLUMN})\)\),\s*0,\s*(?P<digits>\d+)\)"
    r"\s+in\s+\((?P<literals>'[^']*'(?:,\s*'[^']*')*)\)"
)
_COUNT = re.compile(rf"summarize\s+(?P<name>[A-Za-z]\w*)\s*=\s*count\(\)\s+by\s+(?P<column>{_COLUMN})")
_PROJECTED = re.compile(rf"(?:(?P<name>[A-Za-z]\w*)\s*=\s*)?{_VALUE}")
_ORDER = re.compile(rf"(?:order|sort)\s+by\s+(?P<column>{_COLUMN})(?:\s+(?P<direction>asc|desc))?")

_PROBLEMS = {
    Recommendation.HOSTNAME_CERT_ROTATION_FAIL: "Hostname certificate rotation failed",
    Recommendation.TLS_RENEGOTIATION_BLOCKED: "SSL/TLS renegotiation blocked",
}

Row = Mapping[str, Any]
Rows = list[Row]


class ResourceGraph:
    """The `resources` operation.

    Args:
        world: what there is to be shown.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._window_ends = world.clock.now()
        self._left = 0
        self._shown: dict[str, Rows] = {}  # so that a page costs no second look at all services

    def is_asked(self, request: web.Request) -> bool:
        """Whether a request to ARM is one for Resource Graph."""
        return request.method == "POST" and request.path.casefold() == _PATH

    async def answer(self, request: web.Request) -> web.Response:
        """A page of rows, with what is left of the caller's quota."""
        quota = self._take_quota()
        if self._world.graph.denied:
            message = (
                "The client does not have authorization to perform action "
                "'Microsoft.ResourceGraph/resources/read' over scope '/'."
            )
            raise ArmError(403, "AuthorizationFailed", message)
        try:
            asked = await request.json()
        except ValueError:
            asked = None
        if not isinstance(asked, dict) or not isinstance(asked.get("query"), str):
            raise _refused("InvalidQuery", "The request body must have a query.")
        page = self._page(asked["query"], self._scope(asked), asked.get("options") or {})
        return web.json_response(page, headers=quota)

    def _take_quota(self) -> dict[str, str]:
        habits, now = self._world.graph, self._world.clock.now()
        if now >= self._window_ends:
            self._left, self._window_ends = habits.quota, now + habits.window
        resets_after = timedelta(seconds=-(-(self._window_ends - now) // timedelta(seconds=1)))
        headers = {"x-ms-user-quota-resets-after": f"0{resets_after}"}  # hh:mm:ss
        if not self._left:
            message = (
                "Client application has been throttled and should not attempt to repeat the request until an "
                "amount of time has elapsed. Please see https://aka.ms/resourcegraph-throttling for help."
            )
            throttled = ArmError(429, "RateLimiting", _support(), details=[_detail("RateLimiting", message)])
            seconds = str(int(resets_after.total_seconds()))
            throttled.headers |= headers | {"Retry-After": seconds, "x-ms-user-quota-remaining": "0"}
            raise throttled
        self._left -= 1
        return headers | {"x-ms-user-quota-remaining": str(self._left)}

    def _scope(self, asked: Mapping[str, Any]) -> set[str]:
        """The subscriptions that can be read; whichever else was asked for is passed over in silence."""
        denied = {each.casefold() for each in self._world.denied_subscriptions}
        readable = {each.casefold() for each in self._world.subscriptions} - denied
        wanted = asked.get("subscriptions")
        if not wanted:
            return readable
        try:
            eligible = {str(uuid.UUID(each)) for each in wanted} & readable
        except (ValueError, TypeError, AttributeError):
            raise _refused("SubscriptionsContainInvalidGuids", "Subscriptions must be GUIDs.") from None
        if not eligible:
            message = (
                f"There must be at least one subscription that is eligible to contain resources: {wanted}."
            )
            raise _refused("NoValidSubscriptionsInQueryRequest", message)
        return eligible

    def _page(self, query: str, scope: set[str], options: Mapping[str, Any]) -> dict[str, Any]:
        if options.get("resultFormat", "objectArray") != "objectArray":
            raise _refused("InvalidQuery", "This sandbox has the result format objectArray only.")
        top = options.get("$top", self._world.graph.most_rows)
        if not isinstance(top, int) or not 1 <= top <= 1000:
            raise _refused("InvalidQuery", "$top must be from 1 to 1000.")
        context = hashlib.sha256(f"{query}{sorted(scope)}".encode()).hexdigest()
        start = _start(options.get("$skipToken"), context)
        rows = self._shown.get(context) if start else None
        if rows is None:
            rows = self._shown[context] = self._evaluate(query, scope)
        shown = rows[start : start + min(top, self._world.graph.most_rows)]
        after = start + len(shown)
        page: dict[str, Any] = {
            "totalRecords": len(rows),
            "count": len(shown),
            "data": shown,
            "facets": [],
            "resultTruncated": "false",
        }
        if after >= len(rows):
            self._shown.pop(context, None)
        if after < len(rows) and "id" not in shown[0]:
            page["resultTruncated"] = "true"  # only where there is no way to the rest: azure-docs #50606
        elif after < len(rows):
            page["$skipToken"] = base64.b64encode(json.dumps([context, after]).encode()).decode()
        return page

    def _evaluate(self, query: str, scope: set[str]) -> Rows:
        table, *operators = (part.strip() for part in query.split("|"))
        rows: Rows
        if table.casefold() == "resources":
            kept = self._world.graph.kept
            rows = [kept.get(each[0].id) or service_row(*each) for each in self._services(scope)]
            rows += arm_network.rows(self._world, scope, self._lately)
        elif table.casefold() == "advisorresources":
            rows = [row for service, _ in self._services(scope) for row in _recommendation_rows(service)]
            rows += arm_network.recommendations(self._world, scope, self._lately)
        else:
            raise _refused("InvalidQuery", f"Failed to resolve table '{table}'.")
        for row in rows:
            for path in self._world.graph.hidden:
                _hide(row, path.split("."))
        random.shuffle(rows)
        for operator in operators:
            if "hash_sha256" in operator and not self._world.graph.hashes:
                raise _refused("UnknownFunction", "Unknown function: 'hash_sha256'.")
            rows = _apply(operator, rows)
        return rows

    @property
    def _lately(self) -> datetime:
        return self._world.clock.now() - self._world.graph.lag

    def _services(self, scope: set[str]) -> Iterator[tuple[Service, datetime]]:
        """What there was a lag ago."""
        moment = self._lately
        gone = [service for at, service in self._world.removed if moment < at]
        for service in (*self._world.services, *gone):
            if service.subscription_id.casefold() in scope and service.created <= moment:
                yield service, moment


def service_row(service: Service, moment: datetime) -> Row:
    """A service as the table has it."""
    body = service_body(service, moment)
    return {
        "id": body["id"],
        "name": body["name"],
        "type": body["type"].casefold(),
        "tenantId": service.world.tenant_id,
        "kind": "",
        "location": body["location"],
        "resourceGroup": service.resource_group.casefold(),
        "subscriptionId": service.subscription_id,
        "managedBy": "",
        "sku": body["sku"],
        "plan": None,
        "properties": body["properties"],
        "tags": body["tags"] or None,
        "identity": body["identity"],
        "zones": None,
        "extendedLocation": None,
    }


def _recommendation_rows(service: Service) -> Iterator[Row]:
    for kind in sorted(service.recommendations):
        guid = service.guid(f"recommendation {kind}")
        yield {
            "id": f"{service.id}/providers/Microsoft.Advisor/recommendations/{guid}",
            "name": guid,
            "type": "microsoft.advisor/recommendations",
            "tenantId": service.world.tenant_id,
            "resourceGroup": service.resource_group.casefold(),
            "subscriptionId": service.subscription_id,
            "properties": {
                "recommendationTypeId": kind.value,
                "category": "HighAvailability",
                "impact": "High",
                "impactedField": "Microsoft.ApiManagement/service",
                "impactedValue": service.name,
                "shortDescription": {"problem": _PROBLEMS[kind], "solution": _PROBLEMS[kind]},
                "resourceMetadata": {"resourceId": service.id.casefold(), "source": None},
            },
        }


def _apply(operator: str, rows: Rows) -> Rows:
    if operator.startswith("where "):
        return _where(operator, rows)
    if found := _COUNT.fullmatch(operator):
        counted = Counter(str(_look_up(row, found["column"].split(".")) or "") for row in rows)
        return [{found["column"]: value, found["name"]: number} for value, number in counted.items()]
    if operator.startswith("project "):
        return _project(operator.removeprefix("project "), rows)
    if found := _ORDER.fullmatch(operator):
        path = found["column"].split(".")
        descending = found["direction"] != "asc"  # Kusto's default
        return sorted(rows, key=lambda row: str(_look_up(row, path) or ""), reverse=descending)
    raise _refused("InvalidQuery", f"Query is invalid near '{operator}'.")


def _where(operator: str, rows: Rows) -> Rows:
    if found := _WHERE.fullmatch(operator):
        value, literal = _value(found), found["literal"]
        if found["operator"] == "=~":
            return [row for row in rows if str(value(row) or "").casefold() == literal.casefold()]
        return [row for row in rows if value(row) == literal]
    if found := _HASHED.fullmatch(operator):
        return _hashed(found, rows)
    return _containing(operator.removeprefix("where "), rows)


def _hashed(found: re.Match[str], rows: Rows) -> Rows:
    path, digits = found["column"].split("."), int(found["digits"])
    literals = {literal.strip()[1:-1] for literal in found["literals"].split(",")}

    def beginning(row: Row) -> str:
        value = str(_look_up(row, path) or "").lower()
        return hashlib.sha256(value.encode()).hexdigest()[:digits]

    return [row for row in rows if beginning(row) in literals]


def _containing(condition: str, rows: Rows) -> Rows:
    """Kusto's `contains` compares without regard to case."""
    tests = []
    for part in re.split(r"\s+or\s+", condition.strip()):
        found = _CONTAINS.fullmatch(part)
        if not found:
            raise _refused("InvalidQuery", f"Query is invalid near '{part}'.")
        tests.append((_value(found), found["literal"].casefold()))
    return [
        row for row in rows if any(literal in str(value(row) or "").casefold() for value, literal in tests)
    ]


def _project(columns: str, rows: Rows) -> Rows:
    projected: dict[str, Callable[[Row], Any]] = {}
    for column in columns.split(","):
        found = _PROJECTED.fullmatch(column.strip())
        if not found:
            raise _refused("InvalidQuery", f"Query is invalid near '{column.strip()}'.")
        path = found["text"] or found["column"]
        projected[found["name"] or path.replace(".", "_")] = _value(found)
    return [{name: value(row) for name, value in projected.items()} for row in rows]


def _value(found: re.Match[str]) -> Callable[[Row], Any]:
    path = (found["text"] or found["column"]).split(".")
    if not found["text"]:
        return lambda row: _look_up(row, path)

    def text(row: Row) -> str:
        value = _look_up(row, path)
        return value if isinstance(value, str) else "" if value is None else json.dumps(value)

    return text


def _look_up(row: object, path: Sequence[str]) -> Any:
    for name in path:
        row = row.get(name) if isinstance(row, Mapping) else None
    return row


def _hide(value: Any, path: Sequence[str]) -> None:
    """Take a field out, of each element where there is a list on the way to it."""
    if isinstance(value, list):
        for each in value:
            _hide(each, path)
    elif isinstance(value, dict) and len(path) > 1:
        _hide(value.get(path[0]), path[1:])
    elif isinstance(value, dict):
        value.pop(path[0], None)


def _start(token: object, context: str) -> int:
    if token is None:
        return 0
    try:
        of, start = json.loads(base64.b64decode(str(token), validate=True))
    except ValueError:
        of, start = None, 0
    if of != context or not isinstance(start, int):
        raise _refused("InvalidSkipToken", "The skip token does not belong to this query and scope.")
    return start


def _refused(code: str, message: str) -> ArmError:
    return ArmError(400, "BadRequest", _support(), details=[_detail(code, message)])


def _detail(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}


def _support() -> str:
    return f"Please provide below info when asking for support: correlationId = {uuid.uuid4()}."
