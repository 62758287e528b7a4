"""What the app says, and that it keeps its hands off, where a sync would not help or not be right."""

import re
from datetime import timedelta
from typing import Any

import pytest

from sandbox.stage import Stage
from sandbox.world import Certificate, Fault, Hostname, Server, Service, TlsFault, World

HOST = "api.contoso.com"


def contoso(hostname: Hostname | None = None) -> tuple[World, Certificate, Service]:
    """A world with one certificate and one service of one region."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    hostnames = (hostname or Hostname(HOST, certificate=certificate),)
    return world, certificate, world.add_service("apim-contoso", hostnames=hostnames)


def judged(stage: Stage, hostname: str = HOST) -> tuple[str, str, str]:
    """Status, reason and message of a fresh look."""
    verdict = stage.tick()[hostname]
    return verdict["status"], verdict["reason"], verdict["message"]


def test_a_pinned_version_is_blocked_and_told_the_exact_versionless_uri() -> None:
    """API Management never updates a keyVaultId with a version, by sync neither."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", [HOST])
    pinned = Hostname(HOST, certificate=certificate, pinned_version=certificate.newest)
    service = world.add_service("apim-contoso", hostnames=(pinned,))
    with Stage(world) as stage:
        certificate.renew()
        stage.settle()
        status, reason, message = judged(stage)

        assert ("BLOCKED", "PinnedVersion") == (status, reason)
        assert "https://kv-contoso.vault.azure.net/secrets/contoso-com" in message.split()
        assert [] == service.syncs


def test_an_uploaded_certificate_is_unmanaged_but_watched_for_its_expiry() -> None:
    """Nothing to sync, and still no surprise on the day that it ends."""
    world = World()
    fresh, ending = world.ca.issue([HOST], days=200), world.ca.issue(["old.contoso.com"], days=5)
    hostnames = (Hostname(HOST, uploaded=fresh), Hostname("old.contoso.com", uploaded=ending))
    service = world.add_service("apim-contoso", hostnames=hostnames)
    with Stage(world) as stage:
        verdicts = stage.tick()

        assert ("UNMANAGED", "NotFromKeyVault") == (verdicts[HOST]["status"], verdicts[HOST]["reason"])
        soon = verdicts["old.contoso.com"]
        assert ("UNMANAGED", "ExpiresSoon") == (soon["status"], soon["reason"])
        assert [] == service.syncs


@pytest.mark.parametrize("answer", [403, 200])
def test_a_disabled_newest_version_blocks_until_it_is_enabled(answer: int) -> None:
    """There is no fallback to an older version; both ways in which Key Vault may say it are understood."""
    world, certificate, service = contoso()
    world.disabled_certificate_answers = 403 if answer == 403 else 200
    with Stage(world) as stage:
        certificate.renew(announce=False)
        certificate.disable()
        status, reason, message = judged(stage)
        assert ("BLOCKED", "VersionDisabled") == (status, reason)
        assert "Enable it" in message
        assert [] == service.syncs

        certificate.enable()
        stage.tick()

        assert len(service.syncs) == 1


def test_a_deleted_certificate_blocks_with_recover_it_first() -> None:
    """Azure cannot update the service until the certificate is back."""
    world, certificate, service = contoso()
    with Stage(world) as stage:
        certificate.delete()
        status, reason, message = judged(stage)
        assert ("BLOCKED", "CertificateDeleted") == (status, reason)
        assert "Recover it first" in message
        assert [] == service.syncs

        certificate.recover()

        assert ("IN_SYNC", "Served") == judged(stage)[:2]


def test_a_secret_without_a_certificate_is_named_and_asked_for_by_nobody() -> None:
    """An App Service Certificate: no version is seen, so nothing is synced, and no secret is read."""
    world, certificate, service = contoso()
    missing = {"error": {"code": "CertificateNotFound", "message": "A certificate was not found"}}
    with Stage(world) as stage:
        certificate.renew(announce=False)
        world.faults.append(Fault(Server.VAULT, "certificates/", status=404, body=missing, times=None))
        status, reason, message = judged(stage)
        assert ("BLOCKED", "CertificateNotFound") == (status, reason)
        assert "App Service Certificates" in message
        assert "import it as a certificate" in message
        assert 400 == stage.resync(hostname=HOST, override=["CertificateNotFound"]).status
        stage.resync(hostname=HOST, force=True)
        assert [] == service.syncs
        assert not [r.path for r in world.requests if r.server is Server.VAULT and "/secrets" in r.path]


def test_a_vault_that_cannot_be_read_is_unknown_and_never_acted_upon() -> None:
    """A failed query never defaults to the wanted value."""
    world, certificate, service = contoso()
    denied = {"error": {"code": "Forbidden", "message": "denied", "innererror": {"code": "ForbiddenByRbac"}}}
    with Stage(world) as stage:
        certificate.renew(announce=False)
        fault = Fault(Server.VAULT, status=403, body=denied, times=None)
        world.faults.append(fault)
        status, reason, message = judged(stage)
        assert ("UNKNOWN", "VaultUnreadable") == (status, reason)
        assert "Key Vault Reader" in message
        assert [] == service.syncs

        world.faults.remove(fault)
        stage.tick()

        assert len(service.syncs) == 1


@pytest.mark.parametrize("fault", ["refused", *TlsFault])
def test_a_gateway_that_cannot_be_read_is_unknown_and_one_that_wants_a_client_certificate_is_read(
    fault: str,
) -> None:
    """Unreachable is not stale and not in sync; a demand for a client certificate hides nothing."""
    world, _, service = contoso()
    if fault == "refused":
        service.down.add("West Europe")
    else:
        service.tls_faults["West Europe"] = fault
    with Stage(world, {"ROTATION_PROBE_TIMEOUT_SECONDS": "1"}) as stage:
        status, reason, _ = judged(stage)

        wanted = ("IN_SYNC", "Served") if fault == TlsFault.CLIENT_CERTIFICATE else ("UNKNOWN", "ProbeFailed")
        assert wanted == (status, reason)
        assert [] == service.syncs


def test_a_gateway_that_is_down_is_still_synced_where_arm_shows_the_old_thumbprint() -> None:
    """STALE from ARM's configured thumbprint is a positive observation too."""
    world, certificate, service = contoso()
    service.down.add("West Europe")
    with Stage(world, {"ROTATION_PROBE_TIMEOUT_SECONDS": "1"}) as stage:
        certificate.renew()
        stage.settle()

        assert len(service.syncs) == 1


def test_a_gateway_disabled_in_every_region_is_not_observable() -> None:
    """No endpoint is never in sync."""
    world, _, service = contoso()
    service.gateway_disabled.add("West Europe")
    with Stage(world) as stage:
        assert ("UNKNOWN", "NotObservable") == judged(stage)[:2]


def test_a_hostname_that_something_else_serves_is_blocked_and_not_synced() -> None:
    """No version of the certificate is served: no sync can mend that."""
    world, _, service = contoso()
    service.instead[HOST] = world.ca.issue([HOST], days=30)
    with Stage(world) as stage:
        status, reason, message = judged(stage)

        assert ("BLOCKED", "ServedByOther") == (status, reason)
        assert service.instead[HOST].thumbprint[:10] in message
        assert [] == service.syncs


def test_an_old_version_of_two_renewals_ago_is_stale_and_not_foreign() -> None:
    """Key Vault's list of versions tells an old leaf from a stranger's."""
    world, certificate, service = contoso()
    service.instead[HOST] = certificate.newest.leaf
    certificate.renew(announce=False)
    with Stage(world) as stage:
        certificate.renew()
        stage.settle()

        assert len(service.syncs) == 1


@pytest.mark.parametrize(
    ("renewal", "reason"),
    [
        ({"names": ["other.fabrikam.com"]}, "NameNotCovered"),
        ({"not_before": timedelta(days=2)}, "VersionNotYetValid"),
        ({"not_before": timedelta(days=-40), "days": 30}, "VersionExpired"),
    ],
)
def test_a_version_that_would_break_clients_is_blocked(renewal: dict[str, Any], reason: str) -> None:
    """Harmless: what a sync would make worse is not synced."""
    world, certificate, service = contoso()
    with Stage(world) as stage:
        options = dict(renewal)
        if "not_before" in options:
            options["not_before"] = world.clock.now() + options["not_before"]
        certificate.renew(**options)
        stage.settle()

        assert ("BLOCKED", reason) == judged(stage)[:2]
        assert [] == service.syncs


def test_one_hostname_that_must_not_be_touched_holds_the_whole_service_back() -> None:
    """A sync covers all hostnames, so the stale one waits for the blocked one, and the log says so."""
    world = World()
    vault = world.add_vault("kv-contoso")
    good = vault.add_certificate("good", [HOST])
    bad = vault.add_certificate("bad", ["bad.contoso.com"])
    hostnames = (Hostname(HOST, certificate=good), Hostname("bad.contoso.com", certificate=bad))
    service = world.add_service("apim-contoso", hostnames=hostnames)
    with Stage(world) as stage:
        bad.renew(names=["elsewhere.contoso.com"], announce=False)
        good.renew()
        stage.settle()

        assert [] == service.syncs
        assert re.search(r"Vetoed \([^)]*\): apim-contoso", stage.host.log())
        assert "bad.contoso.com" in stage.host.log()


def test_a_keyvaultid_outside_the_allowed_vaults_is_out_of_scope_and_not_read() -> None:
    """ROTATION_VAULTS is an allowlist."""
    world, certificate, service = contoso()
    with Stage(world, {"ROTATION_VAULTS": "kv-other"}) as stage:
        certificate.renew()
        stage.settle()

        assert ("UNKNOWN", "OutOfScope") == judged(stage)[:2]
        assert [] == [r for r in world.requests if r.server == Server.VAULT]
        assert [] == service.syncs
        assert "is not in ROTATION_VAULTS" in stage.host.log()


def test_every_type_of_hostname_is_looked_at_in_its_own_place() -> None:
    """Gateway hostnames in every region, the others by their own name."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    types = ("Proxy", "DeveloperPortal", "Management", "Scm", "ConfigurationApi")
    hostnames = tuple(Hostname(f"{t.lower()}.contoso.com", certificate=certificate, type=t) for t in types)
    world.add_service("apim-contoso", regions={"West Europe": 1, "East US": 1}, hostnames=hostnames)
    with Stage(world) as stage:
        verdicts = stage.tick()

        for hostname in hostnames:
            verdict = verdicts[hostname.host_name]
            assert ("IN_SYNC", "Served") == (verdict["status"], verdict["reason"])
            regions = [group["region"] for group in verdict["served"]]
            assert (["West Europe", "East US"] if hostname.type == "Proxy" else ["West Europe"]) == regions
