"""HTTP requests in, what they ask for out, or the problem to answer with (RFC 9457). Pure.

A request names things by ARM id, hostname, certificate or vault; never an address to connect to.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from rotation.model import GatewayKind, Mode, Pause, Reason, Scope, Status, clean
from rotation.model import KeyVaultReference as Reference
from rotation.plan import OVERRIDABLE

LARGEST_BODY = 16 * 1024
MOST_ITEMS = 500
"""On a page; also where no limit is asked for."""

_SCOPES = ("gateway", "hostname", "certificate", "vault", "all")
_FLAGS = ("dry_run", "force")
_FIELDS = (*_SCOPES, *_FLAGS, "override")
_ARM_ID = re.compile(
    r"/subscriptions/[0-9a-f-]{36}/resourcegroups/[^/?#%\s]{1,90}(/[^/?#%\s]{1,260}){4,10}",
    re.IGNORECASE | re.ASCII,
)
_VAULT = re.compile(r"[a-z](?!.*--)[a-z0-9-]{1,22}[a-z0-9]", re.ASCII)
_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)
_HOSTNAME = re.compile(r"(?=.{1,253}$)(\*\.)?[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is not what was asked for; `title` is the status's own phrase.

    `allow` names the methods that a place takes, where it does not take this one.
    """

    status: HTTPStatus
    detail: str
    allow: str = ""

    def to_json(self, operation_id: str = "") -> str:
        """The body of an application/problem+json answer."""
        body = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
        }
        return json.dumps({**body, "operation_id": operation_id} if operation_id else body)


@dataclass(frozen=True, slots=True)
class Resync:
    """A resync asked for by hand."""

    scope: Scope
    mode: Mode
    overrides: frozenset[Reason] = frozenset()


def read_resync(content_type: str, body: bytes, vault_suffix: str) -> Resync | Problem:
    """The scope and mode that the body of POST /api/resync asks for."""
    example = '{"hostname": "api.contoso.com", "dry_run": true}'
    fields = _fields(content_type, body, example)
    if isinstance(fields, Problem):
        return fields
    try:
        return Resync(_scope(fields, vault_suffix), _mode(fields), _overrides(fields))
    except ValueError as error:
        return _bad(error, example)


def read_run_id(text: str | None) -> str | Problem:
    """The id of an operation, which is that of its run."""
    if not _RUN_ID.fullmatch((text or "").lower()):
        return Problem(HTTPStatus.NOT_FOUND, "The id of an operation is the run_id of a resync's answer.")
    return (text or "").lower()


def read_pause(content_type: str, body: bytes, now: datetime) -> Pause | Problem:
    """The kill switch that the body of POST /api/pause turns on."""
    example = '{"reason": "change freeze"}'
    fields = _fields(content_type, body, example)
    if isinstance(fields, Problem):
        return fields
    reason = fields.get("reason")
    if set(fields) != {"reason"} or not isinstance(reason, str) or not clean(reason).strip():
        return _bad(ValueError("'reason' is the only field, and says why"), example)
    return Pause(now, clean(reason).strip())


def _fields(content_type: str, body: bytes, example: str) -> Mapping[str, object] | Problem:
    if content_type.partition(";")[0].strip().lower() != "application/json":
        return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send Content-Type: application/json.")
    if len(body) > LARGEST_BODY:
        return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body has more than {LARGEST_BODY} bytes.")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        return _bad(error, example)
    return fields if isinstance(fields, dict) else _bad(ValueError("the body is not an object"), example)


def _bad(error: Exception, example: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, f"{clean(error)}. Send for example {example}.")


def _scope(fields: Mapping[str, object], vault_suffix: str) -> Scope:
    if unknown := sorted(set(fields) - set(_FIELDS)):
        raise ValueError(f"{unknown[0]!r} is no field; there are {', '.join(_FIELDS)}")
    given = [name for name in _SCOPES if name in fields]
    if len(given) != 1:
        raise ValueError(f"exactly one of {', '.join(_SCOPES)} is needed, not {', '.join(given) or 'none'}")
    name, value = given[0], fields[given[0]]
    if name == "all":
        if value is not True:
            raise ValueError("'all' is true or left out")
        return Scope()
    if not isinstance(value, str):
        raise ValueError(f"{name!r} is a string")
    return _named_scope(name, value, vault_suffix)


def _named_scope(name: str, value: str, vault_suffix: str) -> Scope:
    if name == "gateway":
        if not _ARM_ID.fullmatch(value):
            raise ValueError("'gateway' is an ARM id: /subscriptions/…/resourceGroups/…/providers/…")
        return Scope(gateway_id=value)
    if name == "hostname":
        if not _HOSTNAME.fullmatch(value):
            raise ValueError("'hostname' is a DNS name")
        return Scope(hostname=value)
    if name == "vault":
        vault = value.lower().removesuffix(f".{vault_suffix}")
        if not _VAULT.fullmatch(vault):
            raise ValueError(f"'vault' is the name of a vault, or its host NAME.{vault_suffix}")
        return Scope(vault_host=f"{vault}.{vault_suffix}")
    return Scope(certificate=Reference.from_url(value, vault_suffix).certificate)


def _overrides(fields: Mapping[str, object]) -> frozenset[Reason]:
    """Blocks to go past, named one by one: a person has read what each of them says."""
    given = fields.get("override", [])
    names = given if isinstance(given, list) else [given]
    if not {str(name) for name in names} <= set(map(str, OVERRIDABLE)):
        raise ValueError(f"'override' is a list of blocks; there are {', '.join(sorted(OVERRIDABLE))}")
    return frozenset(Reason(str(name)) for name in names)


def _mode(fields: Mapping[str, object]) -> Mode:
    for flag in _FLAGS:
        if not isinstance(fields.get(flag, False), bool):
            raise ValueError(f"{flag!r} is true or false")
    dry_run, force = bool(fields.get("dry_run")), bool(fields.get("force"))
    if dry_run and force:
        raise ValueError("'dry_run' and 'force' exclude each other")
    return Mode.OBSERVE if dry_run else Mode.FORCE if force else Mode.REPAIR


def _name(item: Mapping[str, Any], field: str) -> set[str]:
    return {str(item[field]).lower()}


def _gateway(item: Mapping[str, Any]) -> set[str]:
    return _name(item, "gateway") | _name(item, "gateway_id")


def _certificate(item: Mapping[str, Any]) -> set[str]:
    (url,) = _name(item, "certificate")
    return {url, url.rpartition("/")[2]}


@dataclass(frozen=True, slots=True)
class _Filter:
    """What an item is asked for, and what may be asked, where that is a closed list."""

    of: Callable[[Mapping[str, Any]], set[str]]
    choices: Sequence[str] = ()


STATUS_FILTERS: Mapping[str, _Filter] = {
    "gateway": _Filter(_gateway),
    "hostname": _Filter(lambda item: _name(item, "hostname")),
    "status": _Filter(lambda item: _name(item, "status"), tuple(Status)),
    "reason": _Filter(lambda item: _name(item, "reason"), tuple(Reason)),
    "kind": _Filter(lambda item: _name(item, "gateway_kind"), tuple(GatewayKind)),
}
ROTATION_FILTERS: Mapping[str, _Filter] = {
    "gateway": _Filter(_gateway),
    "certificate": _Filter(_certificate),
    "running": _Filter(lambda item: {str(item["proven"] is None).lower()}, ("true", "false")),
}

_PAGING = ("limit", "offset")
_OF_THE_HOST = frozenset({"code", "clientid"})
"""How a function key comes in the query."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which items of a list are wanted, and which page of them.

    `wanted` maps a filter to values in lower case, of which an item needs one.
    """

    filters: Mapping[str, _Filter]
    wanted: Mapping[str, tuple[str, ...]]
    limit: int = MOST_ITEMS
    offset: int = 0

    def select(self, items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The items that every filter lets through."""
        return [
            item
            for item in items
            if all(not self.filters[name].of(item).isdisjoint(values) for name, values in self.wanted.items())
        ]

    def page(
        self, selected: Sequence[Mapping[str, Any]], path: str
    ) -> tuple[list[Mapping[str, Any]], dict[str, object]]:
        """One page of the selected items, and where it stands; `next` leads on, None at the end."""
        end = self.offset + self.limit
        asked = {name: ",".join(values) for name, values in self.wanted.items()}
        place = urlencode({**asked, "limit": self.limit, "offset": end}, safe=",/")
        following = f"{path}?{place}" if end < len(selected) else None
        where: dict[str, object] = {
            "total": len(selected),
            "limit": self.limit,
            "offset": self.offset,
            "next": following,
        }
        return list(selected[self.offset : end]), where


def read_query(params: Mapping[str, str], filters: Mapping[str, _Filter]) -> Query | Problem:
    """The filters and the page that the query of a GET asks for."""
    known = (*filters, *_PAGING)
    try:
        given = {name: text for name, text in params.items() if name.lower() not in _OF_THE_HOST}
        if unknown := sorted(set(given) - set(known)):
            raise ValueError(f"{unknown[0]!r} is no parameter; there are {', '.join(known)}")
        wanted = {
            name: _values(name, given[name], filters[name].choices) for name in filters if name in given
        }
        limit = _number("limit", given.get("limit", str(MOST_ITEMS)), 1, MOST_ITEMS)
        offset = _number("offset", given.get("offset", "0"), 0, 999_999)
    except ValueError as error:
        return Problem(HTTPStatus.BAD_REQUEST, f"{clean(error)}.")
    return Query(filters, wanted, limit, offset)


def _values(name: str, text: str, choices: Sequence[str]) -> tuple[str, ...]:
    """The values between commas, any one of which is wanted."""
    if not text.isprintable():
        raise ValueError(f"{name!r} has characters that no name has")
    values = tuple(part.strip().lower() for part in text.split(","))
    wrong = [value for value in values if choices and value not in {choice.lower() for choice in choices}]
    if wrong:
        raise ValueError(f"{name!r} is one or more of {', '.join(choices)}, separated by commas")
    return values


def _number(name: str, text: str, least: int, most: int) -> int:
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise ValueError(f"{name!r} is a whole number from {least} to {most}")
    return int(text)


def narrowed(report: Mapping[str, Any], query: Query) -> tuple[dict[str, object], dict[str, object]]:
    """The report with one page of the wanted verdicts, and where that page stands.

    Where something is wanted, decisions and rotations are those of the gateways that have it.
    """
    selected = query.select(report["verdicts"])
    verdicts, page = query.page(selected, "/api/status")
    of_them = {verdict["gateway_id"] for verdict in selected}
    others = {
        name: [item for item in report[name] if not query.wanted or item["gateway_id"] in of_them]
        for name in ("decisions", "rotations")
    }
    return {**report, **others, "verdicts": verdicts}, page


def etag(body: str) -> str:
    """A strong validator of an answer (RFC 9110, 8.8.3)."""
    return f'"{sha256(body.encode()).hexdigest()[:32]}"'


def is_known(if_none_match: str | None, tag: str) -> bool:
    """Whether the caller has that answer already (RFC 9110, 13.1.2)."""
    tags = [part.strip().removeprefix("W/") for part in (if_none_match or "").split(",")]
    return tag in tags or "*" in tags


class Role(StrEnum):
    """App roles of the Entra application; an operator may read too."""

    READER = "reader"
    OPERATOR = "operator"


_ROLE_CLAIMS = frozenset({"roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"})


_NAME_CLAIMS = (
    "preferred_username",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
    "appid",
    "azp",
)
"""What a person or a program is called, the most telling first."""

_OBJECT_CLAIMS = ("oid", "http://schemas.microsoft.com/identity/claims/objectidentifier")
_OTHER_SITES = frozenset({"cross-site", "same-site"})


def refuse_entry(method: str, client_principal: str | None, fetch_site: str | None = None) -> Problem | None:
    """Why who has signed in may not do this; None lets him.

    Args:
        method: of the request.
        fetch_site: the header sec-fetch-site, by which a browser says whose page has sent the request; the
            cookie of who has signed in goes with it whoever that is. https://www.w3.org/TR/fetch-metadata/
        client_principal: the header x-ms-client-principal. App Service Authentication sets it, and removes it
            from what comes from outside; it is worth nothing where that is off.
            https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities
    """
    try:
        held = _roles(client_principal or "")
    except _NO_PRINCIPAL:
        return Problem(HTTPStatus.UNAUTHORIZED, "Sign in with Entra: the request does not say who sent it.")
    needed = Role.READER if method.upper() in {"GET", "HEAD"} else Role.OPERATOR
    if needed is Role.OPERATOR and (fetch_site or "").strip().lower() in _OTHER_SITES:
        return Problem(HTTPStatus.FORBIDDEN, "Another site's page has sent this; use the app's own.")
    if held & {needed, Role.OPERATOR}:
        return None
    return Problem(HTTPStatus.FORBIDDEN, f"The app role {needed} is needed; ask for it to be assigned.")


def caller(client_principal: str | None) -> str:
    """Who has signed in, for the record: a name, which may be given anew, and the object id, which is not."""
    try:
        said = {str(typ): clean(val, 100) for typ, val in _claims(client_principal or "")}
    except _NO_PRINCIPAL:
        return "nobody known"
    name = next((said[claim] for claim in _NAME_CLAIMS if claim in said), "somebody")
    return f"{name} ({next((said[claim] for claim in _OBJECT_CLAIMS if claim in said), 'no object id')})"


_NO_PRINCIPAL = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


def _roles(client_principal: str) -> set[str]:
    return {val for typ, val in _claims(client_principal) if typ in _ROLE_CLAIMS}


def _claims(client_principal: str) -> list[tuple[str, str]]:
    """What is in the base64 of `{"auth_typ": "aad", "claims": [{"typ": "roles", "val": "reader"}]}`.

    Raises:
        ValueError, TypeError, LookupError, AttributeError, RecursionError: it is no principal of Entra.
    """
    principal = json.loads(base64.b64decode(client_principal, validate=True))
    if principal["auth_typ"] != "aad":
        raise ValueError("not signed in with Entra")
    return [(claim["typ"], claim["val"]) for claim in principal["claims"]]


def unknown_place(method: str, path: str, document: Mapping[str, Any]) -> Problem:
    """What to answer where no function is: 405 where only the method is wrong, else 404."""
    parts = path.strip("/").lower().split("/")
    for template, operations in document["paths"].items():
        wanted = template.strip("/").split("/")
        fits = len(wanted) == len(parts) and all(
            part == one or one.startswith("{") for part, one in zip(parts, wanted, strict=True)
        )
        if fits:
            allow = ", ".join(sorted(name.upper() for name in operations))
            detail = f"{clean(template)} does not take {clean(method, 20)}; it takes {allow}."
            return Problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, allow)
    return Problem(HTTPStatus.NOT_FOUND, "There is nothing here; GET /api/openapi.json says what there is.")
