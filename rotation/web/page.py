"""The status page as HTML, from the JSON of /api/status. Pure but for reading its own files.

Everything from outside passes one place, `_safe`: control and bidirectional characters are removed there, and
Jinja escapes what comes out. The page runs no inline script and asks nobody but its own app.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from statistics import median

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, UndefinedError
from markupsafe import Markup

from rotation.model import clean, shorten
from rotation.plan import OVERRIDABLE
from rotation.web import words
from rotation.web.calendar import DAYS, draw
from rotation.web.fleet import ATTENTION, PAGE_SIZE, WORDS, Fleet, Json, Query, object_name

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of the page. no-referrer and no-store also keep the key in its URL from other sites and from disk."""

FILE_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "public, max-age=31536000, immutable",
}
"""Of its files, which hold no secret: their URLs name their content's hash, and carry no key."""

FILES: Mapping[str, str] = {
    "style.css": "text/css",
    "script.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

LONGEST_TEXT = 2000

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Pages:
    """Where the reader is in a long list."""

    number: int
    last: int
    first_shown: int
    last_shown: int
    found: int


def render(view: Json, now: datetime, params: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        view: what GET /api/status answers.
        now: the time that everything is told relative to.
        params: the query of the request: `q`, `status`, `page` and the function key `code`.

    Raises:
        ArithmeticError, AttributeError, LookupError, TypeError, ValueError: the view is none.
    """
    fleet, query = Fleet.from_json(view, now), Query.from_params(params)
    found = fleet.found(query)
    pages = _pages(len(found), query.page)
    shown = found[pages.first_shown - 1 : pages.last_shown] if found else ()
    durations = [r["seconds_to_served"] for r in fleet.proven if r["seconds_to_served"] is not None]
    try:
        return _template("page.html").render(
            fleet=fleet,
            query=query,
            pages=pages,
            gateways=fleet.gateways(shown),
            calendar=draw(fleet.hostnames, fleet.now, fleet.expires_soon),
            calendar_days=DAYS,
            running=fleet.running,
            median_to_served=median(durations) if durations else None,
            counts=fleet.counts,
            now=fleet.now,
        )
    except UndefinedError as error:
        raise LookupError(f"the view has not all that is shown: {error}") from error


def render_problem(
    status: HTTPStatus, sentences: Sequence[str], operation_id: str, params: Mapping[str, str]
) -> str:
    """The page where there is nothing to show: what is wrong, and how to find it in the log."""
    return _template("problem.html").render(
        status=status,
        sentences=sentences,
        operation_id=operation_id,
        query=Query.from_params(params),
        now=datetime.min.replace(tzinfo=UTC),
    )


def etag(view: Json, now: datetime) -> str:
    """Changes when the page would say something else: relative times are kept up by its script."""
    fleet = Fleet.from_json(view, now)
    said = json.dumps([view, fleet.stale], sort_keys=True)
    return f'"{sha256(said.encode()).hexdigest()[:32]}"'


def file(name: str) -> bytes | None:
    """One of the page's own files, None where there is none of that name."""
    return (_HERE / name).read_bytes() if name in FILES else None


def openssl_command(seen: Json) -> str:
    """The shell command that shows the same certificate to anybody with reach."""
    place, name = shlex.quote(clean(f"{seen['host']}:{seen['port']}")), shlex.quote(clean(seen["sni"]))
    return (
        f"openssl s_client -connect {place} -servername {name} </dev/null 2>/dev/null"
        " | openssl x509 -noout -fingerprint -sha1 -serial -subject -issuer -enddate"
    )


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_safe,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "file_url": _file_url,
        "span": words.span,
        "relative": words.relative,
        "moment": words.moment,
        "count": words.count,
        "shorten": shorten,
        "object_name": object_name,
        "openssl_command": openssl_command,
        "WORDS": WORDS,
        "ATTENTION": ATTENTION,
        "OVERRIDABLE": OVERRIDABLE,
    }
    return environment.get_template(name)


def _safe(value: object) -> object:
    """Whatever is written into the page: clean text, which Jinja then escapes."""
    return clean(value, LONGEST_TEXT) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _file_url(name: str) -> str:
    return f"/api/page/{name}?v={sha256((_HERE / name).read_bytes()).hexdigest()[:12]}"


def _pages(found: int, wanted: int) -> Pages:
    last = max(1, -(-found // PAGE_SIZE))
    number = min(wanted, last)
    first = (number - 1) * PAGE_SIZE + 1
    return Pages(number, last, first, min(found, number * PAGE_SIZE), found)
