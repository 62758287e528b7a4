import asyncio
import gzip
import ssl
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
import pytest
from aiohttp import web
from azure.core.exceptions import ServiceRequestError
from azure.core.pipeline import AsyncPipeline, PipelineContext, PipelineRequest
from azure.core.rest import HttpRequest

from rotation.clients.http import MOST_BYTES, OnlyHost, open_session, tls_context, transport
from rotation.model import CertificateId, CertificateUnreadable, SyncOutcome, UnreadableCause
from sandbox.azure import Azure
from sandbox.world import Certificate, Fault, Server
from tests.clients import farm
from tests.clients.cloud import all_closed, discover, requests, routes, sync, with_key_vault

Route = Mapping[tuple[str, int], tuple[str, int]]


def get(url: str, context: ssl.SSLContext, connect_to: Route) -> tuple[int, str]:
    """One request through the session that all Azure clients share."""

    async def main() -> tuple[int, str]:
        try:
            async with open_session(context, connect_to) as session, session.get(url) as answer:
                return answer.status, await answer.text()
        finally:
            await all_closed()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("origin", "url"),
    [
        pytest.param("https://management.azure.com", "https://management.azure.com/x?y=z", id="a path"),
        pytest.param("https://management.azure.com", "https://management.azure.com:443/x", id="its port"),
        pytest.param("https://management.azure.com/", "https://MANAGEMENT.azure.com/x", id="upper case"),
        pytest.param("https://127.0.0.1:8443", "https://127.0.0.1:8443/x", id="a port of its own"),
    ],
)
def test_a_request_to_the_own_origin_passes(origin: str, url: str) -> None:
    """Scheme, host and port are those of the client."""
    request = PipelineRequest(HttpRequest("GET", url), PipelineContext(None))

    assert None is OnlyHost(origin).on_request(request)  # type: ignore[func-returns-value] # it would raise


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://fabrikam.com/x", id="another host"),
        pytest.param("https://management.azure.com.fabrikam.com/x", id="a host that begins like it"),
        pytest.param("https://management.azure.com@fabrikam.com/x", id="the host as a user name"),
        pytest.param("https://management.azure.com:8443/x", id="another port"),
        pytest.param("http://management.azure.com/x", id="without TLS"),
        pytest.param("http://management.azure.com:443/x", id="without TLS at the same port"),
        pytest.param("https://management.azure.com./x", id="a dot behind it"),
        pytest.param("https://sub.management.azure.com/x", id="a label before it"),
    ],
)
def test_a_request_to_another_origin_is_refused(url: str) -> None:
    """Nothing is sent, and with it no token."""
    request = PipelineRequest(HttpRequest("GET", url), PipelineContext(None))

    with pytest.raises(ServiceRequestError, match=r"refused to follow a link away from https://management"):
        OnlyHost("https://management.azure.com").on_request(request)


@pytest.mark.parametrize("url", ["", "/x", "x", "//fabrikam.com/x", "https://", "javascript:alert(1)"])
def test_a_request_to_no_origin_is_refused(url: str) -> None:
    """What is no absolute URL is refused in the same way, or at least as a value the clients expect."""
    request = PipelineRequest(HttpRequest("GET", url), PipelineContext(None))

    with pytest.raises((ServiceRequestError, ValueError)):
        OnlyHost("https://management.azure.com").on_request(request)


def test_a_bundle_adds_an_authority(azure: Azure) -> None:
    """A private authority is trusted when it is set, and the system's stay trusted."""
    context = tls_context(str(azure.ca_file))

    status, _ = get(f"{azure.arm_url}/x", context, {})

    assert 401 == status
    system = {authority["serialNumber"] for authority in tls_context(None).get_ca_certs()}
    both = {authority["serialNumber"] for authority in context.get_ca_certs()}
    assert 1 == len(both - system)
    assert set() == system - both


def test_without_the_bundle_its_servers_are_refused(azure: Azure) -> None:
    """There is no way to trust everybody."""
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        get(f"{azure.arm_url}/x", tls_context(None), {})

    assert [] == requests(azure, Server.ARM)


@pytest.mark.parametrize("bundle", ["missing", "empty", "nonsense"])
def test_a_bundle_that_is_none_is_an_error(tmp_path_factory: pytest.TempPathFactory, bundle: str) -> None:
    """A bundle is not silently ignored."""
    path = tmp_path_factory.mktemp("bundle") / "ca.pem"
    if bundle != "missing":
        path.write_text("" if bundle == "empty" else "no certificate")

    with pytest.raises(OSError):  # noqa: PT011 - FileNotFoundError and SSLError have only that in common
        tls_context(str(path))


def test_both_versions_of_python_judge_alike() -> None:
    """Python 3.13 would be stricter than 3.11 about certificates that public authorities still issue."""
    context = tls_context(None)

    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)
    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version


def test_routes_lead_hosts_to_their_places(azure: Azure) -> None:
    """The name stays that of the host, in TLS and in the request; only the address is another."""
    azure.world.add_vault("kv-one")

    status, _ = get(
        "https://KV-one.vault.azure.net/certificates/x", tls_context(str(azure.ca_file)), routes(azure)
    )

    assert 401 == status
    [request] = requests(azure, Server.VAULT)
    assert "kv-one.vault.azure.net" == request.headers["Host"].lower()


def test_a_route_is_for_one_port() -> None:
    """Two services at one host are two places."""
    leaf = farm.CA.issue(["management.contoso.com"])
    serving = farm.serving(leaf)
    with farm.Listener(serving) as one, farm.Listener(serving) as other:
        connect_to = {
            ("management.contoso.com", 443): one.place,
            ("management.contoso.com", 8443): other.place,
        }
        ports = []
        for url in ("https://management.contoso.com/", "https://management.contoso.com:8443/"):
            with pytest.raises(aiohttp.ServerDisconnectedError):  # the farm does not speak HTTP
                get(url, farm.client_context(), connect_to)
            ports.append((one.accepted > 0, other.accepted > 0))

    assert [(True, False), (True, True)] == ports


def test_a_certificate_for_another_host_is_refused_behind_a_route(azure: Azure) -> None:
    """Where a route leads does not matter to trust: the name asked for has to be on the certificate."""
    place = ("127.0.0.1", int(azure.arm_url.rpartition(":")[2]))

    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        get("https://fabrikam.com/", tls_context(str(azure.ca_file)), {("fabrikam.com", 443): place})

    assert [] == requests(azure, Server.ARM)


def test_closing_a_client_leaves_the_session_open(azure: Azure) -> None:
    """All clients share it: the first to go must not take it from the others."""

    async def main() -> tuple[bool, int]:
        async with open_session(tls_context(str(azure.ca_file)), {}) as session:
            for _ in range(2):
                async with AsyncPipeline(transport(session), []) as pipeline:
                    answer = await pipeline.run(HttpRequest("GET", f"{azure.arm_url}/x"))
            result = session.closed, answer.http_response.status_code
        await all_closed()
        return result

    assert (False, 401) == asyncio.run(main())


def test_no_cookie_is_kept(azure: Azure) -> None:
    """Nothing but the token tells a server who is asking."""
    azure.world.faults.append(Fault(Server.ARM, status=200, headers={"Set-Cookie": "a=b; Path=/"}))

    async def main() -> None:
        async with open_session(tls_context(str(azure.ca_file)), {}) as session:
            for _ in range(2):
                async with session.get(f"{azure.arm_url}/x") as answer:
                    await answer.read()
        await all_closed()

    asyncio.run(main())

    assert ["Cookie" in request.headers for request in requests(azure, Server.ARM)] == [False, False]


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def ask(handler: Handler) -> bytes:
    """The body that an SDK client gets from a server, read as its pipelines read it."""

    async def main() -> bytes:
        runner = web.ServerRunner(web.Server(handler), shutdown_timeout=1)  # type: ignore[arg-type]
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            async with (
                open_session(tls_context(None), {}) as session,
                AsyncPipeline(transport(session), []) as pipeline,
            ):
                answer = await pipeline.run(HttpRequest("GET", f"{site.name}/x"))
                body: bytes = answer.http_response.content
                return body
        finally:
            await runner.cleanup()
            await all_closed()

    return asyncio.run(main())


def whole(body: bytes, **headers: str) -> Handler:
    """An answer with a Content-Length."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, headers={name.replace("_", "-"): v for name, v in headers.items()})

    return answer


@pytest.mark.parametrize("size", [0, 1, MOST_BYTES], ids=["nothing", "a byte", "8 MiB"])
def test_an_answer_of_any_size_that_azure_sends_is_read(size: int) -> None:
    """The limit itself is within it."""
    body = bytes(size)

    assert body == ask(whole(body))


def test_a_compressed_answer_is_read() -> None:
    """It is unpacked once, on its way."""
    packed = gzip.compress(b'{"value": []}')

    assert b'{"value": []}' == ask(whole(packed, Content_Encoding="gzip"))


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(whole(bytes(MOST_BYTES + 1)), id="with a Content-Length"),
        pytest.param(
            whole(gzip.compress(bytes(MOST_BYTES * 8)), Content_Encoding="gzip"), id="small until unpacked"
        ),
    ],
)
def test_an_answer_that_is_too_large_is_refused(handler: Handler) -> None:
    """It is malformed, whatever it says."""
    with pytest.raises(ValueError, match="the answer is larger than 8 MiB"):
        ask(handler)


def test_an_answer_that_never_ends_is_not_read_on() -> None:
    """Little more than the limit is taken from a server that sends pieces without saying how many."""
    sent = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(64 * 1024))
            sent += 64 * 1024

    with pytest.raises(ValueError, match="the answer is larger than 8 MiB"):
        ask(answer)

    assert MOST_BYTES <= sent < 4 * MOST_BYTES  # what the sockets hold was sent and never read


def test_an_announced_size_is_believed_before_a_byte_is_read() -> None:
    """What is announced as too large is not waited for."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(200 << 20)})
        await response.prepare(request)
        await asyncio.Event().wait()  # until the client goes away
        return response

    with pytest.raises(ValueError, match="the answer is larger than 8 MiB"):
        ask(answer)


TOO_LARGE = bytes(MOST_BYTES + 1)


def test_arm_and_key_vault_take_it_as_malformed(azure: Azure, certificate: Certificate) -> None:
    """A failed observation is a value, for each client that shares the session."""
    azure.world.graph.denied = True
    azure.world.faults += [
        Fault(Server.ARM, "/service$", status=200, body=TOO_LARGE, times=None),
        Fault(Server.VAULT, status=200, body=TOO_LARGE, times=None),
    ]
    vault = CertificateId(certificate.vault.host, certificate.name)

    inventory = discover(azure)
    unreadable = with_key_vault(azure, lambda key_vault: key_vault.current(vault))

    assert isinstance(unreadable, CertificateUnreadable)
    assert (UnreadableCause.MALFORMED, "the answer is larger than 8 MiB") == (
        unreadable.cause,
        unreadable.detail,
    )
    assert ["the answer is larger than 8 MiB" in problem for problem in inventory.problems] == [True]


def test_what_key_vault_says_of_a_deleted_certificate_may_be_malformed_too(
    azure: Azure, certificate: Certificate
) -> None:
    """It is missing in any case."""
    azure.world.faults.append(Fault(Server.VAULT, "/deletedcertificates/", status=200, body=TOO_LARGE))
    missing = CertificateId(certificate.vault.host, "no-such")

    unreadable = with_key_vault(azure, lambda key_vault: key_vault.current(missing))

    assert isinstance(unreadable, CertificateUnreadable)
    assert UnreadableCause.NOT_FOUND == unreadable.cause


def test_a_sync_whose_answer_is_too_large_was_accepted_all_the_same(azure: Azure) -> None:
    """Its status was read before its body."""
    service = azure.world.add_service("apim-prod")
    azure.world.faults.append(Fault(Server.ARM, "refreshHostnames", status=202, body=TOO_LARGE))

    answer = sync(azure, service)

    assert (SyncOutcome.ACCEPTED, "no readable answer (the answer is larger than 8 MiB)") == (
        answer.outcome,
        answer.detail,
    )
