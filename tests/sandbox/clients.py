"""Clients the tests look at the sandbox with: real SDKs, stdlib TLS, plain HTTP."""

import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity import ManagedIdentityCredential
from azure.mgmt.apimanagement import ApiManagementClient

from sandbox.azure import Azure
from sandbox.certificates import Leaf
from sandbox.world import Version


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whatever its status."""

    status: int
    headers: "Message[str, str]"
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


def fetch(
    azure: Azure,
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    data: bytes | None = None,
    seconds: float = 10,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """One request, without retries and without raising on 4xx and 5xx."""
    request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
    context = context or ssl.create_default_context(cafile=azure.ca_file)
    try:
        with urllib.request.urlopen(request, timeout=seconds, context=context) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def bearer(azure: Azure, resource: str) -> dict[str, str]:
    """A header that opens the door of one resource."""
    settings = azure.app_settings()
    url = f"{settings['IDENTITY_ENDPOINT']}?api-version=2019-08-01&resource={resource}"
    token = fetch(azure, url, headers={"X-IDENTITY-HEADER": settings["IDENTITY_HEADER"]}).json()
    return {"Authorization": f"Bearer {token['access_token']}"}


def api_management(azure: Azure, credential: ManagedIdentityCredential) -> ApiManagementClient:
    """The real management client; every failure shows at once."""
    return ApiManagementClient(
        credential,
        azure.world.subscription_id,
        base_url=azure.arm_url,
        credential_scopes=["https://management.azure.com/.default"],
        connection_verify=str(azure.ca_file),
        retry_total=0,
        polling_interval=0.02,
    )


class _Loopback(AbstractResolver):
    """What DNS and the internet do: from a host's name to its port on loopback."""

    def __init__(self, azure: Azure) -> None:
        self._azure = azure

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The one address there is; the port asked for does not matter."""
        del port, family
        ours = self._azure.connect_to[host]
        return [
            ResolveResult(
                hostname=host,
                host="127.0.0.1",
                port=ours,
                family=socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""


@asynccontextmanager
async def transport(azure: Azure) -> AsyncIterator[AioHttpTransport]:
    """A transport for aio SDK clients that reaches public names on loopback."""
    context = ssl.create_default_context(cafile=azure.ca_file)
    connector = aiohttp.TCPConnector(resolver=_Loopback(azure), ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield AioHttpTransport(session=session, session_owner=False)


def handshake(
    azure: Azure, port: int, name: str | None, version: ssl.TLSVersion | None = None, *, seconds: float = 5
) -> bytes:
    """The leaf presented to one fresh connection, after its chain was verified."""
    context = ssl.create_default_context(cafile=azure.ca_file)
    context.check_hostname = False  # it is the chain that is proven here; tests compare the leaf
    if version:
        context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection,
        context.wrap_socket(connection, server_hostname=name) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


def which(der: bytes, **candidates: Version | Leaf) -> str:
    """The name of the certificate that was presented."""
    return next((name for name, candidate in candidates.items() if candidate.der == der), "another one")


def eventually(condition: Callable[[], object], seconds: float = 5) -> bool:
    """Whether something comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
