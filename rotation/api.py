"""HTTP requests in, what they ask for out, or the problem to answer with (RFC 9457). Pure.

A request names things by ARM id, hostname or certificate; never an address to connect to.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from rotation.model import KeyVaultReference as Reference
from rotation.model import Mode, Pause, Reason, Scope, clean
from rotation.plan import OVERRIDABLE

LARGEST_BODY = 16 * 1024

_SCOPES = ("gateway", "hostname", "certificate", "all")
_FLAGS = ("dry_run", "force")
_FIELDS = (*_SCOPES, *_FLAGS, "override")
_ARM_ID = re.compile(
    r"/subscriptions/[0-9a-f-]{36}/resourcegroups/[^/?#%\s]{1,90}(/[^/?#%\s]{1,260}){4,10}",
    re.IGNORECASE | re.ASCII,
)
_HOSTNAME = re.compile(r"(?=.{1,253}$)(\*\.)?[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is not what was asked for; `title` is the status's own phrase."""

    status: HTTPStatus
    detail: str
    operation_id: str = ""

    def to_json(self) -> str:
        """The body of an application/problem+json answer."""
        body = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
        }
        return json.dumps({**body, "operation_id": self.operation_id} if self.operation_id else body)


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
        raise ValueError(f"{name!r} is a string")  # noqa: TRY004 - bad input, not a bug
    if name == "gateway":
        if not _ARM_ID.fullmatch(value):
            raise ValueError("'gateway' is an ARM id: /subscriptions/…/resourceGroups/…/providers/…")
        return Scope(gateway_id=value)
    if name == "hostname":
        if not _HOSTNAME.fullmatch(value):
            raise ValueError("'hostname' is a DNS name")
        return Scope(hostname=value)
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
            raise ValueError(f"{flag!r} is true or false")  # noqa: TRY004 - bad input, not a bug
    dry_run, force = bool(fields.get("dry_run")), bool(fields.get("force"))
    if dry_run and force:
        raise ValueError("'dry_run' and 'force' exclude each other")
    return Mode.OBSERVE if dry_run else Mode.FORCE if force else Mode.REPAIR
