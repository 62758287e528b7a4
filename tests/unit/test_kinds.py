"""What differs between kinds of gateway is data: the same rules and holds, with other words and times."""

from dataclasses import replace
from datetime import timedelta

import pytest

from rotation.cli.inventory import pinned
from rotation.gateways import api_management, application_gateway, entities, self_hosted, workspace_gateway
from rotation.history import note, reading_rank, settled
from rotation.inventory import comes_before
from rotation.model import (
    Binding,
    Choice,
    Evidence,
    Gateway,
    Kind,
    LastVerdict,
    LedgerRow,
    Mode,
    Reason,
    Status,
)
from rotation.plan import decide
from rotation.verdict import Limits, judge
from tests.unit import build
from tests.unit.build import NEW, NOW, OLD, evidence, failed, minutes, served

SERVING = (api_management.KIND, self_hosted.KIND, application_gateway.KIND)
KINDS = (*SERVING, entities.CERTIFICATES, entities.NAMED_VALUES, workspace_gateway.KIND)


def hosted(binding: Binding, vault_error: str | None = None) -> Gateway:
    """A certificate entity with one hostname."""
    return replace(build.gateway(binding, kind=self_hosted.KIND), vault_error=vault_error)


def since(seconds: float | None) -> Binding:
    """A hostname whose entity has the new version since so many seconds."""
    read = None if seconds is None else NOW - timedelta(seconds=seconds)
    return replace(build.binding(hostname_type="edge-berlin"), configured_since=read)


def asked(ago: timedelta) -> LedgerRow:
    """A refresh that was asked for."""
    return build.row(asked=-ago, due=minutes(30) - ago)


def said(reason: Reason) -> LedgerRow:
    """A row that remembers why the hostname was blocked."""
    last = LastVerdict(Status.BLOCKED, reason, drift=False, since=NOW, version="v2")
    return replace(build.row(attempts=0), last={since(None).key: last})


FOLLOWS: dict[str, tuple[Evidence, tuple[Status, Reason]]] = {
    "a poll or two are waited for": (
        evidence(served(OLD), at=hosted(since(60))),
        (Status.SYNCING, Reason.SYNC_IN_FLIGHT),
    ),
    "some replicas may be first": (
        evidence(
            served(NEW),
            served(OLD),
            at=hosted(replace(since(60), endpoints=(build.endpoint(connections=2),))),
        ),
        (Status.SYNCING, Reason.PARTLY_SERVED),
    ),
    "then it is not polling": (
        evidence(served(OLD), at=hosted(since(61))),
        (Status.BLOCKED, Reason.GATEWAY_NOT_POLLING),
    ),
    "one replica of two is enough for that": (
        evidence(
            served(NEW),
            served(OLD),
            at=hosted(replace(since(61), endpoints=(build.endpoint(connections=2),))),
        ),
        (Status.BLOCKED, Reason.GATEWAY_NOT_POLLING),
    ),
    "what the entity says of itself counts before what we asked for": (
        evidence(served(OLD), row=asked(minutes(3)), at=hosted(since(5))),
        (Status.SYNCING, Reason.SYNC_IN_FLIGHT),
    ),
    "where it says nothing our own refresh counts": (
        evidence(served(OLD), row=asked(minutes(1)), at=hosted(since(None))),
        (Status.SYNCING, Reason.SYNC_IN_FLIGHT),
    ),
    "a refresh for another version does not count": (
        evidence(
            served(OLD),
            row=build.row(wanted={str(build.CERTIFICATE): "v1"}, asked=-minutes(1), due=minutes(29)),
            at=hosted(since(None)),
        ),
        (Status.BLOCKED, Reason.GATEWAY_NOT_POLLING),
    ),
    "what was said of it for another reason does not name it": (
        evidence(served(OLD), row=said(Reason.SYNC_IN_FLIGHT), at=hosted(since(5))),
        (Status.SYNCING, Reason.SYNC_IN_FLIGHT),
    ),
    "what was named once is not excused by another read of the entity": (
        evidence(served(OLD), row=said(Reason.GATEWAY_NOT_POLLING), at=hosted(since(5))),
        (Status.BLOCKED, Reason.GATEWAY_NOT_POLLING),
    ),
    "where ARM names no time the version's own counts": (
        evidence(served(OLD), at=hosted(since(None))),
        (Status.BLOCKED, Reason.GATEWAY_NOT_POLLING),
    ),
    "an entity with the old version is to be refreshed": (
        evidence(served(OLD), at=hosted(replace(since(600), configured=OLD))),
        (Status.STALE, Reason.SERVES_OLD_VERSION),
    ),
    "a gateway that serves the new version is proven": (
        evidence(served(NEW), at=hosted(since(600))),
        (Status.IN_SYNC, Reason.SERVED),
    ),
    "a gateway that cannot be reached is unknown": (
        evidence(failed(), at=hosted(since(600))),
        (Status.UNKNOWN, Reason.PROBE_FAILED),
    ),
    "a managed gateway fetches nothing by itself": (
        evidence(served(OLD), at=build.gateway(since(600))),
        (Status.STALE, Reason.SERVES_OLD_VERSION),
    ),
}


@pytest.mark.parametrize(("seen", "expected"), FOLLOWS.values(), ids=FOLLOWS)
def test_a_gateway_that_fetches_by_itself_is_waited_for_and_then_named(
    seen: Evidence, expected: tuple[Status, Reason]
) -> None:
    """Proves where waiting ends, and that what is not ours to mend is no drift."""
    verdict = judge(seen, NOW, Limits())

    assert expected == (verdict.status, verdict.reason)
    assert not verdict.drift


def test_a_gateway_that_does_not_poll_is_told_what_to_check() -> None:
    """Proves the sentence."""
    actual = judge(evidence(served(OLD), at=hosted(since(600))), NOW, Limits()).message

    assert (
        "apim-contoso api.contoso.com: ARM has version v2 configured since 2026-03-02 09:50 UTC; it serves an"
        " old version on 1 of 1 new connections in West Europe. The gateway polls every 10 seconds, so it has"
        " lost its connection: check that it runs, that it reaches API Management's configuration endpoint"
        " over outbound TCP 443, and that its access token has not ended. A sync would not help."
    ) == actual


def test_nothing_is_asked_of_arm_where_a_gateway_does_not_poll() -> None:
    """Proves it also where a person forces a sync: what it would do is done."""
    seen = evidence(served(OLD), at=hosted(since(600)))
    verdict = judge(seen, NOW, Limits())
    run = build.run()

    assert Choice.NOTHING_STALE is decide(seen.gateway, [verdict], build.row(attempts=0), run).choice


def test_an_entity_that_could_not_read_the_vault_is_believed() -> None:
    """Proves that the gateway's own account does for an operation that ended with an error."""
    error = "Failed: Failed to access the secret"
    stale = evidence(served(OLD), at=hosted(replace(since(600), configured=OLD), vault_error=error))
    good = evidence(served(NEW), at=hosted(since(600), vault_error=error))
    verdict = judge(stale, NOW, Limits())

    assert (Status.STALE, Reason.GATEWAY_CANNOT_READ_VAULT) == (verdict.status, verdict.reason)
    assert (
        f"({error}). Its gateways keep the certificate that they have, and traffic stops on"
        in verdict.message
    )
    assert Status.IN_SYNC is judge(good, NOW, Limits()).status


def test_only_a_kind_that_goes_down_waits_for_a_window() -> None:
    """Proves that the Developer tier's window is for its service, not for a certificate entity."""
    choices = []
    for kind in SERVING:
        gateway = build.gateway(build.binding(configured=OLD), tier="Developer", kind=kind)
        verdict = judge(evidence(served(OLD), at=gateway), NOW, Limits())
        choices.append(decide(gateway, [verdict], build.row(attempts=0), build.run()).choice)

    assert [Choice.NEEDS_WINDOW, Choice.SYNC, Choice.SYNC] == choices


def test_a_kind_in_preview_is_synced_only_where_a_setting_says_so() -> None:
    """Proves that not even force goes past that."""
    choices = []
    for mode in (Mode.REPAIR, Mode.FORCE):
        for kind in (workspace_gateway.KIND, replace(workspace_gateway.KIND, only_observed="")):
            gateway = build.gateway(build.binding(configured=OLD), kind=kind)
            verdict = judge(evidence(served(OLD), at=gateway), NOW, Limits())
            run = build.run(mode)
            choices.append(decide(gateway, [verdict], build.row(attempts=0), run).choice)

    assert [Choice.OBSERVE_ONLY, Choice.SYNC] * 2 == choices


def test_a_sync_is_in_flight_as_long_as_its_kind_may_take() -> None:
    """Proves that the claim says so, and that the row alone tells it later."""
    until = []
    for kind in SERVING:
        gateway = build.gateway(build.binding(configured=OLD), kind=kind)
        verdict = judge(evidence(served(OLD), at=gateway), NOW, Limits())
        claim = decide(gateway, [verdict], build.row(attempts=0), build.run()).claim
        assert claim
        until.append(next(m for m in range(60) if not claim.in_flight(NOW + minutes(m))))

    assert [30, 2, 20] == until


def test_a_pinned_certificate_entity_is_mended_where_it_is_pinned() -> None:
    """Proves that a person gets the lines of the kind, with nothing left to fill in."""
    entity_id = f"{build.GATEWAY_ID}/certificates/edge"
    gateway = replace(hosted(build.binding(pinned="v1")), id=entity_id, name="apim-contoso/edge")
    [pin] = pinned(build.report([judge(evidence(served(NEW), at=gateway), NOW, Limits())]))
    url = build.CERTIFICATE.secret_url

    assert f"keyVault: {{ secretIdentifier: '{url}' }} // of apim-contoso/edge" == pin.bicep
    assert (
        f'key_vault_secret_id = "{url}" # of azurerm_api_management_certificate apim-contoso/edge'
        == pin.terraform
    )
    assert (
        f"az rest --method put --url {entity_id}?api-version=2024-05-01"
        f""" --body '{{"properties":{{"keyVault":{{"secretIdentifier":"{url}"}}}}}}'"""
    ) == pin.az


def used(
    kind: Kind = entities.NAMED_VALUES,
    configured: str | None = None,
    read: timedelta | None = None,
    vault_error: str | None = None,
) -> Gateway:
    """Something that is used and not served: its thumbprint, or how long after the version it was read."""
    available = build.version().available_since
    since = None if read is None else available + read
    binding = replace(build.binding(configured=configured, endpoints=()), configured_since=since)
    return replace(build.gateway(binding, kind=kind), vault_error=vault_error)


USED: dict[str, tuple[Gateway, tuple[Status, Reason]]] = {
    "an entity with the new thumbprint": (
        used(entities.CERTIFICATES, NEW),
        (Status.UNMANAGED, Reason.CONFIGURED_ONLY),
    ),
    "its thumbprint counts before the time of a read": (
        used(entities.CERTIFICATES, OLD, minutes(5)),
        (Status.STALE, Reason.SERVES_OLD_VERSION),
    ),
    "and before a failed read": (
        used(entities.CERTIFICATES, NEW, vault_error="Failed: no"),
        (Status.UNMANAGED, Reason.CONFIGURED_ONLY),
    ),
    "a named value that was read after the renewal": (
        used(read=timedelta(seconds=1)),
        (Status.UNMANAGED, Reason.CONFIGURED_ONLY),
    ),
    "one that was read within the same second, or before": (
        used(read=timedelta(milliseconds=999)),
        (Status.STALE, Reason.SERVES_OLD_VERSION),
    ),
    "one of which ARM does not say when": (used(), (Status.STALE, Reason.SERVES_OLD_VERSION)),
    "one that could not be read": (
        used(vault_error="Failed: no"),
        (Status.STALE, Reason.GATEWAY_CANNOT_READ_VAULT),
    ),
    "one that is known from a list only, which is no reason to act": (
        replace(used(read=-minutes(5)), listed=True),
        (Status.UNKNOWN, Reason.NOT_OBSERVABLE),
    ),
}


@pytest.mark.parametrize(("gateway", "expected"), USED.values(), ids=USED)
def test_of_what_is_used_and_not_served_arms_word_is_all_there_is(
    gateway: Gateway, expected: tuple[Status, Reason]
) -> None:
    """Proves that it is judged by that, and is never in sync."""
    verdict = judge(evidence(at=gateway), NOW, Limits())

    assert expected == (verdict.status, verdict.reason)


def test_a_named_value_may_hold_what_no_gateway_takes() -> None:
    """Proves that what a policy reads need be no PKCS #12, and what an entity presents has to be."""
    pem = replace(build.version(), content_type="application/x-pem-file")
    reasons = [
        judge(evidence(expected=pem, at=used(kind, NEW)), NOW, Limits()).reason
        for kind in (entities.CERTIFICATES, entities.NAMED_VALUES)
    ]

    assert [Reason.VERSION_UNUSABLE, Reason.CONFIGURED_ONLY] == reasons


def test_what_is_not_served_says_so() -> None:
    """Proves the sentence, with what went wrong after the version was read."""
    actual = judge(evidence(at=used(entities.CERTIFICATES, NEW, vault_error="Failed: no")), NOW, Limits())

    assert (
        f"apim-contoso api.contoso.com: ARM says that it has {NEW[:10]}…, so it has version v2. It is used"
        " towards backends, where no handshake can show it. Its last read of Key Vault failed (Failed: no)."
    ) == actual.message


SAID = {
    "its thumbprint": (used(entities.CERTIFICATES, OLD), f"ARM says that it has {OLD[:10]}…."),
    "its last read of Key Vault": (
        used(read=-minutes(5)),
        "ARM says that it last read Key Vault 2026-03-02 08:55:00 UTC.",
    ),
    "nothing": (used(), "ARM does not say when it last read Key Vault."),
}


@pytest.mark.parametrize(("gateway", "said"), SAID.values(), ids=SAID)
def test_what_is_not_served_and_behind_says_what_arm_says(gateway: Gateway, said: str) -> None:
    """Proves the sentence, which tells ARM's word once."""
    actual = judge(evidence(at=gateway), NOW, Limits()).message

    assert (
        f"apim-contoso api.contoso.com: should have {NEW[:10]}… (version v2) but {said} A sync is needed."
    ) == actual


def test_what_is_not_served_can_be_forced() -> None:
    """Proves that a person can have it read Key Vault again, although ARM says that it has the newest."""
    gateway = used(entities.CERTIFICATES, NEW)
    verdict = judge(evidence(at=gateway), NOW, Limits())
    run = build.run(Mode.FORCE)

    assert Choice.SYNC is decide(gateway, [verdict], build.row(attempts=0), run).choice


def test_what_is_not_served_and_ends_soon_says_so() -> None:
    """Proves that its newest version is watched for its end, on the last day that is early enough too."""
    at, soon = used(entities.CERTIFICATES, NEW), Limits().expires_soon

    def reason(left: timedelta) -> tuple[Status, Reason]:
        verdict = judge(evidence(expected=build.version(not_after=NOW + left), at=at), NOW, Limits())
        return verdict.status, verdict.reason

    assert (Status.UNMANAGED, Reason.EXPIRES_SOON) == reason(soon)
    assert (Status.UNMANAGED, Reason.CONFIGURED_ONLY) == reason(soon + timedelta(seconds=1))


def test_what_is_not_served_holds_no_later_ring_back_and_waits_for_earlier_ones() -> None:
    """Proves that a named value that cannot be refreshed does not keep a hostname from its certificate."""
    entity, hosting = used(entities.CERTIFICATES, OLD), replace(build.gateway(build.binding()), id="/other")

    assert not comes_before(entity, replace(hosting, ring=1))
    assert comes_before(hosting, replace(entity, ring=1))


def test_what_is_not_served_has_no_rotation_and_is_settled_by_arms_word() -> None:
    """Proves that nothing is told as proven, that the attempt is over, and that no read follows."""
    gateway = used(entities.CERTIFICATES, NEW)
    verdict = judge(evidence(at=gateway), NOW, Limits())
    noted = note(asked(minutes(1)), [verdict], build.run())
    expected = {build.CERTIFICATE: build.version()}

    assert ((), NOW) == (noted.rotations, noted.proven_at)
    assert reading_rank(noted, replace(gateway, listed=True), expected) is None
    stale = replace(used(entities.CERTIFICATES, OLD), listed=True)
    assert 0 == reading_rank(noted, stale, expected)


def test_what_is_not_served_and_behind_is_neither_settled_nor_in_a_rotation() -> None:
    """Proves that a renewal which it has not read stays to be read, and begins no rotation."""
    before = used(entities.CERTIFICATES, NEW)
    renewed = build.version(OLD, version="v3", age=minutes(1))
    settled_row = note(asked(minutes(1)), [judge(evidence(at=before), NOW, Limits())], build.run())
    behind = judge(evidence(expected=renewed, at=before), NOW, Limits())
    noted = note(settled_row, [behind], build.run())

    assert Status.STALE is behind.status
    assert not noted.rotations
    assert not settled(noted, before.bindings[0], renewed)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_the_words_of_a_kind_complete_the_messages(kind: Kind) -> None:
    """Proves that none is empty, and that sentences end as sentences."""
    assert all((kind.takes, kind.action, kind.subject, kind.reference, kind.overdue, kind.without_vault))
    assert kind.not_offered.endswith(".")
    assert not kind.not_served or kind.not_served.endswith(".")
    assert bool(kind.fetches_within) == kind.not_fetching.endswith(".") == bool(kind.not_fetching)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_every_kind_says_how_to_take_a_version_out_of_a_reference(kind: Kind) -> None:
    """Proves that the three languages can be filled in, with the versionless URL and no brace left open."""
    url = build.CERTIFICATE.secret_url
    filled = {"url": url, "id": "/x", "subscription": "s", "group": "g", "name": "n", "hostname": "h"}
    for template in (kind.unpin.bicep, kind.unpin.terraform, kind.unpin.az):
        line = template.format(**filled, position=0)
        assert url in line
        assert line.count("{") == line.count("}")
