"""One HTTP session for every Azure client: our certificate authorities, our routes, no redirects.

The SDK's own transport would build a TLS context per request where a CA bundle is set, and so never reuse
a connection.
"""

import socket
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp import TraceConfig, TraceRequestHeadersSentParams
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from azure.core.exceptions import ServiceRequestError
from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import HttpRequest
from yarl import URL

from rotation.clients.calls import called, count

MALFORMED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What the SDK's models raise where an answer is not of the documented shape."""

CALL_SECONDS = 14
"""What a read may take with its retry: the SDK would sleep as long as a Retry-After says."""

MOST_BYTES = 8 * 1024 * 1024
"""No answer that we ask for comes near it; what is larger is malformed, and is not read to its end."""

_TOO_LARGE = f"the answer is larger than {MOST_BYTES >> 20} MiB"

CONNECT_SECONDS = 4
READ_SECONDS = 6

CALL_OPTIONS: Mapping[str, Any] = {
    "retry_total": 1,
    "retry_backoff_factor": 0.2,
    "retry_backoff_max": 1,
    "permit_redirects": False,
}
"""Every outbound call ends in bounded time; the timer comes again, so one retry is enough."""


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Verification against the system's authorities and those of the bundle, alike on every Python."""
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if ca_bundle:
        context.load_verify_locations(cafile=ca_bundle)
    return context


def open_session(
    context: ssl.SSLContext, connect_to: Mapping[tuple[str, int], tuple[str, int]]
) -> aiohttp.ClientSession:
    """The session; to be called inside the event loop that uses it."""
    connector = aiohttp.TCPConnector(ssl=context, resolver=_Routes(connect_to), limit=100, limit_per_host=16)
    return aiohttp.ClientSession(
        connector=connector,
        response_class=_Bounded,
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[_counting()],
    )


def transport(session: aiohttp.ClientSession) -> AioHttpTransport:
    """The session as an SDK client wants it; closing the client leaves the session open."""
    return AioHttpTransport(
        session=session,
        session_owner=False,
        connection_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
    )


def _counting() -> TraceConfig:
    """Counts what is sent, and so each retry and each challenge that a vault begins with."""

    async def sent(_: object, __: object, request: TraceRequestHeadersSentParams) -> None:
        if what := called(request.method, request.url.path):
            count(what)

    trace = TraceConfig()
    trace.on_request_headers_sent.append(sent)
    return trace


class _Bounded(aiohttp.ClientResponse):
    """An answer of at most MOST_BYTES, counted as they arrive and after decompression."""

    async def read(self) -> bytes:
        """The body; ValueError, and no further byte taken from the server, where it is too large."""
        if self._body is None:
            try:
                self._body = await self._counted()
            finally:
                if self._body is None:
                    self.close()
        return self._body

    async def _counted(self) -> bytes:
        body = bytearray()
        if self.method != "HEAD" and (self.content_length or 0) > MOST_BYTES:
            raise ValueError(_TOO_LARGE)
        async for piece in self.content.iter_any():
            body += piece
            if len(body) > MOST_BYTES:
                raise ValueError(_TOO_LARGE)
        return bytes(body)


class OnlyHost(SansIOHTTPPolicy[Any, Any]):
    """Refuses to send a request, and with it a token, to any other host: a nextLink is outside data."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._origin = _origin(url)

    def on_request(self, request: PipelineRequest[HttpRequest]) -> None:
        """Raise before anything is sent elsewhere."""
        if _origin(request.http_request.url) != self._origin:
            raise ServiceRequestError(f"refused to follow a link away from {self._url}")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = URL(url)
    return parts.scheme, parts.host, parts.port


class _Routes(AbstractResolver):
    """Names resolved by setting where there is one, by the system elsewhere."""

    def __init__(self, connect_to: Mapping[tuple[str, int], tuple[str, int]]) -> None:
        self._connect_to = connect_to
        self._system = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses to dial for a host and port."""
        address, other = self._connect_to.get((host.lower(), port), (host, port))
        found = await self._system.resolve(address, other, family)
        return [{**result, "hostname": host} for result in found]

    async def close(self) -> None:
        """Nothing is held."""
