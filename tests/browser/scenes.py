"""Fleets that people meet: the page is looked at in each of them."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from tests.browser.views import Json, decision, failed, gateway_id, leaf, rotation, seen, verdict, view

EUROPE = ("West Europe", "North Europe")


def fabrikam(at: datetime) -> Iterator[Json]:
    """A gateway in two regions that serves what it should."""
    for number, name in enumerate(("api", "mcp", "partner", "events")):
        hostname = f"{name}.fabrikam.com"
        ends = at + timedelta(days=52 + 9 * number)
        expected = leaf(f"fabrikam-{name}")
        yield verdict(
            hostname,
            gateway="apim-fabrikam-prod",
            group="rg-fabrikam",
            certificate=f"fabrikam-{name}",
            not_after=ends,
            message="serves it on 17 of 17 new connections in West Europe, 7 of 7 in North Europe.",
            served=[
                seen(
                    expected,
                    region,
                    gateway="apim-fabrikam-prod",
                    hostname=hostname,
                    connections=n,
                    not_after=ends,
                )
                for region, n in zip(EUROPE, (17, 7), strict=True)
            ],
        )


def contoso(at: datetime) -> Iterator[Json]:
    """A gateway in the middle of a rotation."""
    new, old, ends = leaf("contoso-com"), leaf("old"), at + timedelta(days=89)
    for hostname, kind, met in (
        ("api.contoso.com", "Proxy", 3),
        ("shop.contoso.com", "Proxy", 7),
        ("developer.contoso.com", "DeveloperPortal", 0),
    ):
        before = at + timedelta(days=21)
        groups = [
            seen(new, hostname=hostname, connections=met, of=7, not_after=ends) if met else None,
            seen(old, hostname=hostname, connections=7 - met, of=7, not_after=before) if met < 7 else None,
            seen(old, "North Europe", hostname=hostname, connections=1, not_after=before),
        ]
        yield verdict(
            hostname,
            "SYNCING",
            "PartlyServed" if met else "ServiceUpdating",
            "has begun to serve version 7e61f080a06d4c4ea9ac23340db4aa94: it serves the new version on"
            f" {met} of 7 new connections in West Europe, an old version on the others."
            if met
            else "the service is Updating; it serves an old version on 7 of 7 new connections in West Europe,"
            " 1 of 1 in North Europe. It is looked at again at the next timer.",
            hostname_type=kind,
            not_after=ends,
            served=[group for group in groups if group],
        )


def woodgrove(at: datetime) -> Iterator[Json]:
    """A gateway that waits for people."""
    soon = at + timedelta(days=12)
    yield verdict(
        "pay.woodgrove.com",
        "BLOCKED",
        "PinnedVersion",
        "keyVaultId has the version 5b1f0c9d, so API Management never takes a renewal. Set it to"
        " https://kv-woodgrove.vault.azure.net/secrets/pay to follow renewals.",
        gateway="apim-woodgrove",
        group="rg-payments",
        certificate="pay",
        not_after=soon,
    )
    yield verdict(
        "login.woodgrove.com",
        "STALE",
        "SyncOverdue",
        f"should serve {leaf('login')[:10]}… (version 3f09…) but it serves an old version on 7 of 7 new"
        " connections in West Europe. 2 sync(s) asked for, the last 02:12 UTC (accepted), have not changed"
        " that. Check the portal's sync logs, and that the gateway's identity (system-assigned) may read the"
        " secret (Key Vault Secrets User).",
        gateway="apim-woodgrove",
        group="rg-payments",
        certificate="login",
        drift=True,
        served=[
            seen(
                leaf("old login"),
                gateway="apim-woodgrove",
                hostname="login.woodgrove.com",
                not_after=at + timedelta(days=4),
            )
        ],
    )
    yield verdict(
        "internal.woodgrove.com",
        "UNKNOWN",
        "ProbeFailed",
        "no certificate could be read: timeout at connect in West Europe. For a private gateway set"
        " ROTATION_CONNECT_TO, or let the app join its network.",
        gateway="apim-woodgrove",
        group="rg-payments",
        certificate="internal",
        not_after=at + timedelta(days=33),
        served=[failed(host="10.0.1.5", connections=7, of=7, sni="internal.woodgrove.com")],
    )
    yield verdict(
        "apim-woodgrove.azure-api.net",
        "UNMANAGED",
        "NotFromKeyVault",
        "is not from Key Vault.",
        gateway="apim-woodgrove",
        group="rg-payments",
        certificate=None,
        not_after=at + timedelta(days=210),
    )


def history(at: datetime) -> Iterator[Json]:
    """Rotations that were proven."""
    for days, name, gateway, minutes, caught_by in (
        (3, "fabrikam-api", "apim-fabrikam-prod", 31, "event"),
        (11, "fabrikam-mcp", "apim-fabrikam-prod", 28, "event"),
        (24, "login", "apim-woodgrove", 47, "timer"),
        (40, "pay", "apim-woodgrove", 26, "event"),
    ):
        group = {"apim-fabrikam-prod": "rg-fabrikam"}.get(gateway, "rg-payments")
        yield rotation(
            0.1,
            0.2,
            minutes - 9,
            minutes,
            gateway=gateway,
            group=group,
            certificate=name,
            version=f"v-{name}",
            created=at - timedelta(days=days),
            caught_by=caught_by,
        )


def three_in_the_morning(at: datetime) -> Json:
    """Everything at once: blocked, drifting, unknown, rotating, well."""
    waits = (
        "apim-woodgrove (login.woodgrove.com): 2 sync(s) asked for, the last answer was accepted; the next is"
        " due 04:12 UTC."
    )
    return view(
        *woodgrove(at),
        *contoso(at),
        *fabrikam(at),
        as_of=at - timedelta(minutes=2),
        rotations=[rotation(0.05, 0.1, 17, created=at - timedelta(minutes=19)), *history(at)],
        decisions=[decision("NotDue", waits, gateway="apim-woodgrove", group="rg-payments")],
    )


def monday(at: datetime) -> Json:
    """All is well."""
    contoso_com = verdict(not_after=at + timedelta(days=71))
    return view(*fabrikam(at), contoso_com, as_of=at - timedelta(minutes=1), rotations=history(at))


def observing(at: datetime) -> Json:
    """A first install, which only looks; one certificate is stale, and a subscription cannot be read."""
    stale = verdict(
        "api.contoso.com",
        "STALE",
        "ServesOldVersion",
        f"should serve {leaf('contoso-com')[:10]}… (version 7e61…) but it serves an old version on 7 of 7 new"
        " connections in West Europe. A sync is needed.",
        served=[seen(leaf("old"), not_after=at + timedelta(days=9))],
    )
    needed = "apim-contoso (api.contoso.com): a sync is needed, but this pass only observes."
    hidden = (
        "Subscription 11111111-2222-3333-4444-555555555555 could not be listed (403 AuthorizationFailed)."
        " Check that the app's identity has the Reader role there."
    )
    return view(
        stale,
        *fabrikam(at),
        mode="observe",
        as_of=at - timedelta(minutes=3),
        decisions=[decision("ObserveOnly", needed)],
        problems=[hidden],
    )


def two_thousand(at: datetime) -> Json:
    """2,000 hostnames on 80 gateways, of which a few wait for people."""
    verdicts = []
    for number in range(2000):
        gateway, hostname = f"apim-{number // 25:03}", f"api-{number:04}.contoso.com"
        state = {
            77: ("BLOCKED", "VersionDisabled"),
            1500: ("STALE", "ServesOldVersion"),
            600: ("UNKNOWN", "ProbeFailed"),
        }
        status, reason = state.get(number, ("IN_SYNC", "Served"))
        served = [failed()] if status == "UNKNOWN" else None
        ends = at + timedelta(days=18 + number * 7 % 97)
        verdicts.append(
            verdict(
                hostname,
                status,
                reason,
                gateway=gateway,
                certificate=f"cert-{number // 5}",
                served=served,
                not_after=ends,
            )
        )
    return view(*verdicts, as_of=at - timedelta(minutes=1))


def nothing_in_scope(at: datetime) -> Json:
    """The app may not read any gateway."""
    return view(as_of=at)


def hostile(at: datetime) -> Json:
    """Names that want to be code, and names that want to be longer than they are."""
    script = "<script>document.title='owned'</script>"
    image = "<img src=x onerror=\"document.title='owned'\">"
    backwards = "\u202egro.osotnoc\u2066\x00\x1b[31m"
    subject = f"CN={script}{image}{backwards}"
    named = verdict(
        "api.contoso.com",
        "BLOCKED",
        "ServedByOther",
        f"serves {subject}",
        gateway=f"apim-\"'><svg onload=alert(1)>{backwards}",
        served=[
            seen(
                leaf("x"),
                f"{image}",
                subject=subject,
                issuer=subject,
                serial="'; drop",
                names=[script, "a" * 4000],
                host="$(reboot)",
                sni="`id`;'\"",
                not_after=at,
            ),
        ],
        key_vault_id=f"https://kv.vault.azure.net/secrets/{script}",
        gateway_id=gateway_id("x\"'><script>alert(1)</script>"),
    )
    return view(
        named,
        as_of=at,
        problems=[f"{script} could not be read {image}"],
        paused={"at": at.isoformat(), "reason": script},
        rotations=[rotation(1, gateway=script, certificate=f"{image}", version=script)],
    )
