import asyncio
import hashlib
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

import pytest

from rotation.clients.key_vault import KeyVault
from rotation.model import CertificateId, CertificateUnreadable, CertificateVersion, UnreadableCause
from sandbox.azure import Azure
from sandbox.key_vault import bundle
from sandbox.world import Certificate, Fault, Server, Vault, World
from tests.clients import farm
from tests.clients.cloud import requests, with_key_vault

PATH = "/certificates/api-contoso-com/"


@pytest.fixture
def vault(world: World) -> Vault:
    """A vault never met before: the SDK remembers the challenge of each host for the whole process."""
    return world.add_vault(f"kv-{uuid.uuid4().hex[:16]}")


def wanted(azure: Azure, name: str = "api-contoso-com") -> CertificateId:
    """A certificate in the first vault."""
    return CertificateId(next(iter(azure.world.vaults.values())).host, name)


def current(azure: Azure) -> CertificateVersion | CertificateUnreadable:
    """What the app expects to be served."""
    return with_key_vault(azure, lambda key_vault: key_vault.current(wanted(azure)))


def earlier(azure: Azure) -> frozenset[str] | None:
    """The thumbprints of all versions."""
    return with_key_vault(azure, lambda key_vault: key_vault.earlier(wanted(azure)))


def cause(azure: Azure, name: str = "api-contoso-com") -> UnreadableCause:
    """Why the certificate cannot be read."""
    seen = with_key_vault(azure, lambda key_vault: key_vault.current(wanted(azure, name)))
    assert isinstance(seen, CertificateUnreadable)
    assert wanted(azure, name) == seen.certificate
    assert "" != seen.detail
    return seen.cause


def test_a_challenge_comes_before_the_token(azure: Azure, certificate: Certificate) -> None:
    """The vault is asked without a token first and says whose token it wants; then it answers."""
    seen = current(azure)

    assert isinstance(seen, CertificateVersion)
    assert [(PATH, 401), (PATH, 200)] == [(r.path, r.status) for r in requests(azure, Server.VAULT)]
    assert ["https://vault.azure.net"] == [r.query["resource"] for r in requests(azure, Server.IDENTITY)]
    assert certificate.newest.id == seen.version


def test_the_newest_version_is_read_whole(azure: Azure, certificate: Certificate) -> None:
    """Every field of what is expected is the vault's own."""
    azure.world.clock.advance(timedelta(days=3))
    newest = certificate.renew(names=["api.contoso.com", "www.contoso.com"])

    seen = current(azure)

    assert (
        CertificateVersion(
            certificate=wanted(azure),
            version=newest.id,
            thumbprint=hashlib.sha1(newest.der, usedforsecurity=False).hexdigest().upper(),
            sha256=hashlib.sha256(newest.der).hexdigest().upper(),
            enabled=True,
            created=newest.created.replace(microsecond=0),
            updated=newest.updated.replace(microsecond=0),
            not_before=newest.not_before,
            not_after=newest.not_after,
            names=("api.contoso.com", "www.contoso.com"),
            issuer="CN=Sandbox TLS Issuing CA 1",
            self_signed=False,
            key="EC secp256r1",
            content_type="application/x-pkcs12",
        )
        == seen
    )


def test_a_disabled_version_is_shown_where_the_vault_shows_it(azure: Azure, certificate: Certificate) -> None:
    """A vault that hands a disabled version out says so in its attributes; updated tells since when."""
    azure.world.disabled_certificate_answers = 200
    azure.world.clock.advance(timedelta(hours=1))
    certificate.disable()

    seen = current(azure)

    assert isinstance(seen, CertificateVersion)
    assert (False, certificate.newest.id) == (seen.enabled, seen.version)
    assert certificate.newest.updated.replace(microsecond=0) == seen.updated == seen.available_since


def test_a_disabled_version_is_told_from_missing_rights(azure: Azure, certificate: Certificate) -> None:
    """Both are a 403; the code inside tells them apart, and what is to be done about them."""
    certificate.disable()

    assert UnreadableCause.DISABLED == cause(azure)


def test_a_deleted_certificate_is_told_from_one_that_never_was(
    azure: Azure, certificate: Certificate
) -> None:
    """One can be recovered, the other is a typing mistake."""
    certificate.delete()

    assert UnreadableCause.DELETED == cause(azure)
    assert UnreadableCause.NOT_FOUND == cause(azure, "api-contoso-net")


def test_without_the_right_to_see_deleted_ones_it_is_not_found(
    azure: Azure, certificate: Certificate
) -> None:
    """The second look may be forbidden; the first one has said enough."""
    certificate.delete()
    azure.world.faults.append(Fault(Server.VAULT, "deletedcertificates", status=403, times=None))

    assert UnreadableCause.NOT_FOUND == cause(azure)


def error(code: str, inner: str | None = None) -> dict[str, object]:
    """Key Vault's error body."""
    body: dict[str, object] = {"code": code, "message": "Caller is not authorized."}
    return {"error": body | ({"innererror": {"code": inner}} if inner else {})}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param({"status": 403, "body": error("Forbidden")}, UnreadableCause.FORBIDDEN, id="403"),
        pytest.param(
            {"status": 403, "body": error("Forbidden", "ForbiddenByRbac")},
            UnreadableCause.FORBIDDEN,
            id="403 without a role",
        ),
        pytest.param(
            {"status": 403, "body": error("Forbidden", "ForbiddenByFirewall")},
            UnreadableCause.FORBIDDEN,
            id="403 by the firewall",
        ),
        pytest.param(
            {"status": 403, "body": error("Forbidden", "CertificateDisabled")},
            UnreadableCause.DISABLED,
            id="403 for a disabled certificate",
        ),
        pytest.param({"status": 403}, UnreadableCause.FORBIDDEN, id="403 without a body"),
        pytest.param(
            {"status": 403, "body": {"error": {"code": "Forbidden", "innererror": "x"}}},
            UnreadableCause.FORBIDDEN,
            id="403 with a string inside",
        ),
        pytest.param(
            {"status": 403, "body": {"error": 5}}, UnreadableCause.FORBIDDEN, id="403 with a number"
        ),
        pytest.param({"status": 401}, UnreadableCause.FORBIDDEN, id="401 without a challenge"),
        pytest.param(
            {"status": 401, "headers": {"WWW-Authenticate": "Basic x"}},
            UnreadableCause.FORBIDDEN,
            id="401 with a challenge of another kind",
        ),
        pytest.param({"status": 429}, UnreadableCause.THROTTLED, id="429"),
        pytest.param(
            {"status": 429, "headers": {"Retry-After": "0"}}, UnreadableCause.THROTTLED, id="429 with a wait"
        ),
        pytest.param({"status": 500}, UnreadableCause.UNREACHABLE, id="500"),
        pytest.param({"status": 503, "body": error("x")}, UnreadableCause.UNREACHABLE, id="503"),
        pytest.param(
            {"status": 502, "body": b"<html>Bad Gateway</html>", "headers": {"Content-Type": "text/html"}},
            UnreadableCause.UNREACHABLE,
            id="502 with a page",
        ),
        pytest.param({"status": 400}, UnreadableCause.UNREACHABLE, id="400"),
        pytest.param({"reset": True}, UnreadableCause.UNREACHABLE, id="a reset connection"),
        pytest.param({"status": 302}, UnreadableCause.UNREACHABLE, id="a redirect to nowhere"),
    ],
)
def test_every_failure_has_a_cause(
    azure: Azure, certificate: Certificate, fault: Mapping[str, Any], expected: UnreadableCause
) -> None:
    """Whatever a vault answers becomes a value, and the versions then are unknown, not none."""
    azure.world.faults.append(Fault(Server.VAULT, times=None, **fault))

    assert certificate.newest.enabled
    assert expected == cause(azure)
    assert None is earlier(azure)


def test_a_challenge_for_a_foreign_resource_gets_no_token(azure: Azure, certificate: Certificate) -> None:
    """A vault may not make the app fetch a token for something else and hand it over."""
    challenge = (
        f'Bearer authorization="https://login.microsoftonline.com/{azure.world.tenant_id}", '
        'resource="https://management.azure.com"'
    )
    azure.world.faults.append(
        Fault(Server.VAULT, status=401, headers={"WWW-Authenticate": challenge}, times=None)
    )

    seen = current(azure)
    versions = earlier(azure)

    assert isinstance(seen, CertificateUnreadable)
    assert None is versions
    assert [] == requests(azure, Server.IDENTITY)
    assert [(PATH, 401), (f"{PATH}versions", 401)] == [
        (r.path, r.status) for r in requests(azure, Server.VAULT)
    ]
    assert certificate.newest.enabled


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(azure: Azure, certificate: Certificate, status: int) -> None:
    """Key Vault does not redirect; whoever does is not to get the token."""
    with farm.Listener(farm.stay_silent) as elsewhere:
        target = f"https://127.0.0.1:{elsewhere.place[1]}{PATH}"
        azure.world.faults.append(
            Fault(Server.VAULT, status=status, headers={"Location": target}, times=None)
        )

        seen = current(azure)

        assert 0 == elsewhere.accepted
    assert isinstance(seen, CertificateUnreadable)
    assert 1 == len(requests(azure, Server.VAULT))
    assert certificate.newest.enabled


MALFORMED = [
    pytest.param(b"<html><body>Sign in to the Wi-Fi</body></html>", id="a captive portal's page"),
    pytest.param(b"", id="nothing"),
    pytest.param(b'{"id": "https://kv-gat', id="truncated"),
    pytest.param(b"[]", id="a list"),
    pytest.param(b"null", id="null"),
    pytest.param(b"{}", id="an empty object"),
    pytest.param({"cer": None}, id="no certificate"),
    pytest.param({"cer": 5}, id="a number for the certificate"),
    pytest.param({"cer": "!!!"}, id="a certificate that is no base64"),
    pytest.param({"cer": "AAAA"}, id="a certificate that is no DER"),
    pytest.param({"id": None}, id="no id"),
    pytest.param({"id": "x"}, id="an id that is no URL"),
    pytest.param({"id": "https://kv-gateways.vault.azure.net/certificates/x"}, id="an id without a version"),
    pytest.param({"attributes": None}, id="no attributes"),
    pytest.param({"attributes": 5}, id="a number for the attributes"),
    pytest.param({"attributes": {"enabled": True, "created": "x"}}, id="a word for a time"),
    pytest.param({"attributes": {"enabled": True, "created": 1e300}}, id="a time beyond any"),
    pytest.param({"policy": 5}, id="a number for the policy"),
]


@pytest.mark.parametrize("body", MALFORMED)
def test_a_body_that_is_no_certificate_is_malformed(
    azure: Azure, certificate: Certificate, body: bytes | dict[str, object]
) -> None:
    """What comes back with 200 and is not Key Vault's is neither a version nor the end of the pass."""
    answer = body if isinstance(body, bytes) else bundle(certificate.newest) | body
    headers = {"Content-Type": "application/json"} if isinstance(body, bytes) else {}
    azure.world.faults.append(Fault(Server.VAULT, status=200, body=answer, headers=headers, times=None))

    assert UnreadableCause.MALFORMED == cause(azure)


def test_all_versions_are_listed(azure: Azure, certificate: Certificate) -> None:
    """Also those on later pages, and the disabled ones: a gateway may serve any of them."""
    versions = [certificate.newest, *(certificate.renew() for _ in range(30))]
    versions[3].enabling.set(value=False)

    assert frozenset(version.thumbprint for version in versions) == earlier(azure)


def test_the_versions_of_what_is_not_there_are_unknown(azure: Azure, certificate: Certificate) -> None:
    """None, not an empty set: nobody may conclude that a served leaf is foreign."""
    certificate.delete()

    assert None is earlier(azure)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>", id="a page"),
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"value": [', id="truncated"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{}", id="no value"),
        pytest.param(b'{"value": null}', id="a value of null"),
        pytest.param(b'{"value": 5}', id="a number for a value"),
        pytest.param(b'{"value": ["x"]}', id="a string for a version"),
        pytest.param(b'{"value": [{"x5t": 5}]}', id="a number for a thumbprint"),
        pytest.param(b'{"value": [{"x5t": "!"}]}', id="a thumbprint that is no base64"),
        pytest.param(b'{"value": [], "nextLink": "https://fabrikam.com/x"}', id="a link to elsewhere"),
        pytest.param(b'{"value": [], "nextLink": 5}', id="a number for a link"),
    ],
)
def test_a_body_that_is_no_listing_leaves_the_versions_unknown(
    azure: Azure, certificate: Certificate, body: bytes
) -> None:
    """A failed query never gives the answer that would be convenient."""
    headers = {"Content-Type": "application/json"}
    azure.world.faults.append(Fault(Server.VAULT, status=200, body=body, headers=headers, times=None))

    assert certificate.newest.enabled
    assert None is earlier(azure)


def test_a_listing_that_breaks_off_leaves_the_versions_unknown(
    azure: Azure, certificate: Certificate
) -> None:
    """Half a list is no list."""
    for _ in range(40):
        certificate.renew()
    listed = Fault(Server.VAULT, "versions", delay_seconds=0, times=2)  # the challenge and the first page
    azure.world.faults += [listed, Fault(Server.VAULT, "versions", status=403, times=None)]

    assert None is earlier(azure)
    assert [401, 200, 403] == [r.status for r in requests(azure, Server.VAULT)]


def test_one_client_and_one_token_do_for_a_vault(azure: Azure, vault: Vault) -> None:
    """Certificates of one vault share a client: one challenge, one token, no second introduction."""
    names = [vault.add_certificate(f"cert-{n}", [f"host-{n}.contoso.com"]).name for n in range(12)]

    async def read(key_vault: KeyVault) -> list[CertificateVersion | CertificateUnreadable]:
        first = await key_vault.current(CertificateId(vault.host, names[0]))
        others = (key_vault.current(CertificateId(vault.host, name)) for name in names[1:])
        return [first, *await asyncio.gather(*others)]

    seen = with_key_vault(azure, read)

    assert [(name,) for name in (f"host-{n}.contoso.com" for n in range(12))] == [
        each.names for each in seen if isinstance(each, CertificateVersion)
    ]
    assert 13 == len(requests(azure, Server.VAULT))
    assert 1 == len(requests(azure, Server.IDENTITY))


def test_two_vaults_are_not_confused(azure: Azure, world: World) -> None:
    """Objects of one name in two vaults are two certificates."""
    ours = {
        name: world.add_vault(name).add_certificate("tls", [f"{name}.contoso.com"])
        for name in ("kv-west", "kv-east")
    }

    async def read(key_vault: KeyVault) -> list[CertificateVersion | CertificateUnreadable]:
        return [await key_vault.current(CertificateId(c.vault.host, "tls")) for c in ours.values()]

    seen = with_key_vault(azure, read)

    assert [c.newest.thumbprint for c in ours.values()] == [
        each.thumbprint for each in seen if isinstance(each, CertificateVersion)
    ]


@pytest.mark.parametrize("answers", [200, 403])
def test_no_private_key_is_ever_asked_for(
    azure: Azure, certificate: Certificate, answers: Literal[200, 403]
) -> None:
    """Whatever happens, /secrets and /keys are not asked: the app works without the right to read them."""
    azure.world.disabled_certificate_answers = answers

    current(azure)
    earlier(azure)
    certificate.disable()
    current(azure)
    certificate.delete()
    current(azure)
    earlier(azure)

    paths = {request.path.split("/")[1] for request in requests(azure, Server.VAULT)}
    assert {"certificates", "deletedcertificates"} == paths
    assert {"GET"} == {request.method for request in requests(azure, Server.VAULT)}
