import asyncio
import base64
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsyncManagedIdentityCredential
from azure.keyvault.certificates import KeyVaultCertificate
from azure.keyvault.certificates._shared import http_challenge_cache
from azure.keyvault.certificates.aio import CertificateClient

from sandbox.azure import Azure
from sandbox.key_vault import bundle
from sandbox.world import Certificate
from tests.sandbox.clients import bearer, fetch, transport

NAME = "api-contoso-com"
Ask = Callable[[CertificateClient], Awaitable[Any]]


@pytest.fixture
def ask(
    azure: Azure, credential: ManagedIdentityCredential, certificate: Certificate
) -> Callable[[Ask], Any]:
    """Asks the vault with the real SDK, by its public name."""
    del credential  # it is the environment that counts

    async def run(question: Ask) -> Any:
        async with transport(azure) as wire, AsyncManagedIdentityCredential() as identity:
            url = f"https://{certificate.vault.host}"
            client = CertificateClient(url, identity, transport=wire, retry_total=0)
            return await question(client)

    return lambda question: asyncio.run(run(question))


def paths(azure: Azure) -> list[tuple[str, int | None]]:
    """What the vault server was asked, and how it answered."""
    return [(request.path, request.status) for request in azure.world.requests if request.server == "vault"]


def test_the_sdk_reads_the_newest_version_after_a_challenge(
    azure: Azure, ask: Callable[[Ask], Any], certificate: Certificate
) -> None:
    """A first request without a token is challenged; the second has one. The path ends in a slash."""
    http_challenge_cache.clear()  # the SDK's, of the whole process: other tests have vaults of this name
    newest = certificate.renew()

    found: KeyVaultCertificate = ask(lambda client: client.get_certificate(NAME))

    assert found.properties is not None
    assert found.properties.x509_thumbprint is not None
    assert [(f"/certificates/{NAME}/", 401), (f"/certificates/{NAME}/", 200)] == paths(azure)
    assert newest.thumbprint == found.properties.x509_thumbprint.hex().upper()
    assert newest.der == bytes(found.cer or b"")
    assert newest.secret_id == found.secret_id
    assert (newest.id, True) == (found.properties.version, found.properties.enabled)
    assert (newest.not_before, newest.not_after) == (found.properties.not_before, found.properties.expires_on)


def test_the_sdk_reads_one_version_and_lists_all(ask: Callable[[Ask], Any], certificate: Certificate) -> None:
    """Older versions stay readable; the list comes in pages."""
    first = certificate.newest
    for _ in range(3):
        certificate.renew(announce=False)

    async def listing(client: CertificateClient) -> list[str | None]:
        versions = client.list_properties_of_certificate_versions(NAME, max_page_size=2)
        return [version.version async for version in versions]

    found = ask(lambda client: client.get_certificate_version(NAME, first.id))

    assert first.der == bytes(found.cer)
    assert [version.id for version in certificate.versions] == ask(listing)


def test_a_disabled_newest_version_is_forbidden_or_shown(
    azure: Azure, ask: Callable[[Ask], Any], certificate: Certificate
) -> None:
    """Azure's documents do not say which, so a switch does; an older version does not step in."""
    certificate.renew()
    certificate.disable()

    with pytest.raises(HttpResponseError) as caught:
        ask(lambda client: client.get_certificate(NAME))
    azure.world.disabled_certificate_answers = 200
    shown = ask(lambda client: client.get_certificate(NAME))
    certificate.enable()
    enabled = ask(lambda client: client.get_certificate(NAME))

    assert caught.value.status_code == 403
    assert caught.value.error is not None
    assert (caught.value.error.code, caught.value.error.innererror) == (
        "Forbidden",
        {"code": "CertificateDisabled"},
    )
    assert (certificate.newest.id, False) == (shown.properties.version, shown.properties.enabled)
    assert enabled.properties.enabled


def test_a_deleted_certificate_is_found_among_the_deleted_until_recovered(
    ask: Callable[[Ask], Any], certificate: Certificate
) -> None:
    """404 alone does not tell deleted from never there; the other address does."""
    with pytest.raises(ResourceNotFoundError):
        ask(lambda client: client.get_deleted_certificate(NAME))
    certificate.delete()
    deleted = ask(lambda client: client.get_deleted_certificate(NAME))

    with pytest.raises(ResourceNotFoundError) as caught:
        ask(lambda client: client.get_certificate(NAME))
    certificate.recover()
    recovered = ask(lambda client: client.get_certificate(NAME))

    assert deleted.scheduled_purge_date - deleted.deleted_on == timedelta(days=90)
    assert caught.value.error is not None
    assert caught.value.error.code == "CertificateNotFound"
    assert certificate.newest.secret_id == recovered.secret_id


def test_an_answer_has_the_shape_of_the_official_example(
    certificate: Certificate, contract: Callable[[str], Any]
) -> None:
    """Every field of the example is there, with a value of the same type."""
    official = contract("keyvault/GetCertificate-example.json")["responses"]["200"]["body"]
    ours = bundle(certificate.newest)

    for part in (None, "attributes", "policy"):
        theirs, mine = (official, ours) if part is None else (official[part], ours[part])
        assert {key: type(value) for key, value in theirs.items()} == {key: type(mine[key]) for key in theirs}
    assert bytes.fromhex(certificate.newest.thumbprint) == base64.urlsafe_b64decode(ours["x5t"] + "=")
    assert set(official["policy"]["key_props"]) <= set(ours["policy"]["key_props"])


@pytest.mark.parametrize(
    ("path", "resource", "refusal"),
    [
        (f"/secrets/{NAME}", "https://vault.azure.net", (403, "Forbidden")),
        (f"/certificates/{NAME}", None, (401, "Unauthorized")),
        (f"/certificates/{NAME}", "https://management.azure.com", (401, "Unauthorized")),
        ("/certificates/none", "https://vault.azure.net", (404, "CertificateNotFound")),
        (f"/certificates/{NAME}/{'0' * 32}", "https://vault.azure.net", (404, "CertificateNotFound")),
        (f"/keys/{NAME}", "https://vault.azure.net", (404, "NotFound")),
    ],
)
def test_the_vault_refuses(
    azure: Azure, certificate: Certificate, path: str, resource: str | None, refusal: tuple[int, str]
) -> None:
    """No secrets for anyone, nothing without the right token; and each request is on record."""
    headers = {"Host": certificate.vault.host} | (bearer(azure, resource) if resource else {})
    url = f"https://127.0.0.1:{azure.connect_to[certificate.vault.host]}{path}?api-version=7.4"

    answer = fetch(azure, url, headers=headers)

    status, _ = refusal
    assert refusal == (answer.status, answer.json()["error"]["code"])
    assert (path, status) == paths(azure)[-1]
    assert (status == 401) == (
        answer.headers.get("WWW-Authenticate", "").endswith('resource="https://vault.azure.net"')
    )
