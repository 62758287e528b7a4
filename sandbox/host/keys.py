"""The access keys of the host and what each of them opens."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from aiohttp import web

from sandbox.witness import canary


@dataclass(frozen=True, slots=True)
class Keys:
    """New for each start: nothing may depend on a key staying as it is."""

    master: str = field(default_factory=canary)
    function: str = field(default_factory=canary)
    eventgrid_extension: str = field(default_factory=canary)

    def sent_with(self, request: web.Request) -> str | None:
        """The name of the key that came with the request; the header wins over the query."""
        sent = request.headers.get("x-functions-key") or query_value(request.query, "code")
        return next((name for name, key in asdict(self).items() if key == sent), None)


def query_value(query: Mapping[str, str], name: str) -> str:
    """The value of a query parameter, whatever the case of its name, as ASP.NET reads it."""
    return next((value for key, value in query.items() if key.casefold() == name.casefold()), "")


def refusal(sent: str | None, *accepted: str) -> int | None:
    """401 without a known key, 403 with one of another kind, None with one that is accepted."""
    if sent in accepted:
        return None
    return 401 if sent is None else 403
