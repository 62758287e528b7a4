from dataclasses import replace

import pytest

from rotation.inventory import authorities, comes_before, in_front, select
from rotation.model import Authority, CertificateId, Front, Gateway, Scope, Shard
from tests.unit import build

API = build.binding("api.contoso.com")
WWW = build.binding("www.contoso.com", of=build.certificate("www-contoso-com"))
UPLOADED = build.binding("old.contoso.com", of=None)
FIRST = build.gateway(API, UPLOADED, resource_id=build.GATEWAY_ID + "-1")
SECOND = build.gateway(API, WWW, resource_id=build.GATEWAY_ID + "-2")
THIRD = build.gateway(build.binding("out.contoso.com", in_scope=False), resource_id=build.GATEWAY_ID + "-3")
FOURTH = build.gateway(build.binding("SLD.contoso.com", in_scope=False), resource_id=build.GATEWAY_ID + "-4")
ALL = (FIRST, SECOND, THIRD, FOURTH)

SELECTED = {
    "nothing named selects everything": (Scope(), ALL),
    "an id selects its gateway": (Scope(gateway_id=SECOND.id), (SECOND,)),
    "an id in another case selects the same": (Scope(gateway_id=SECOND.id.upper()), (SECOND,)),
    "an unknown id selects nothing": (Scope(gateway_id=build.GATEWAY_ID), ()),
    "a hostname selects every gateway that has it": (Scope(hostname="api.contoso.com"), (FIRST, SECOND)),
    "a hostname in another case selects the same": (Scope(hostname="WWW.Contoso.com"), (SECOND,)),
    "a hostname that ARM writes in another case is the same": (Scope(hostname="sld.contoso.com"), (FOURTH,)),
    "a hostname is found where it is not from Key Vault": (Scope(hostname="old.contoso.com"), (FIRST,)),
    "a part of a hostname selects nothing": (Scope(hostname="contoso.com"), ()),
    "an empty hostname selects nothing": (Scope(hostname=""), ()),
    "an empty id selects nothing": (Scope(gateway_id=""), ()),
    "a certificate selects every gateway that refers to it": (
        Scope(certificate=build.CERTIFICATE),
        (FIRST, SECOND),
    ),
    "a vault selects every gateway that uses one of its certificates": (
        Scope(vault_host=build.CERTIFICATE.vault_host),
        (FIRST, SECOND),
    ),
    "another vault selects nothing": (Scope(vault_host="kv-other.vault.azure.net"), ()),
    "a certificate of the same name in another vault selects nothing": (
        Scope(certificate=CertificateId("kv-other.vault.azure.net", build.CERTIFICATE.name)),
        (),
    ),
}


@pytest.mark.parametrize(("scope", "expected"), SELECTED.values(), ids=SELECTED)
def test_a_scope_selects_whole_gateways(scope: Scope, expected: tuple[object, ...]) -> None:
    """Proves that a gateway is selected with all its hostnames, or not at all."""
    actual = select(ALL, scope)

    assert expected == actual


def test_the_shards_of_a_run_select_every_gateway_once() -> None:
    """Proves that none is left out, and that each has its share."""
    fleet = [build.gateway(API, resource_id=f"{build.GATEWAY_ID}-{n}") for n in range(40)]
    shards = [select(fleet, Scope(shard=Shard(number, 4))) for number in range(1, 5)]

    assert sorted(g.id for g in fleet) == sorted(g.id for shard in shards for g in shard)
    assert all(shards)


def front(target: str) -> Front:
    """An Application Gateway whose backend is at some host."""
    return Front("/agw", "Application Gateway agw", target, "api.contoso.com", ())


def test_what_connects_to_an_address_of_a_gateway_stands_in_front_of_it() -> None:
    """Proves that hosts are compared without regard to case, and that nobody else gets a front."""
    by_name, by_address, elsewhere = front("APIM-Contoso.azure-api.net"), front("10.0.1.5"), front("10.0.1.6")
    behind = replace(build.gateway(), addresses=frozenset({"apim-contoso.azure-api.net", "10.0.1.5"}))
    alone = build.gateway(resource_id=f"{build.GATEWAY_ID}-2")
    actual = in_front([behind, alone], [by_name, by_address, elsewhere])

    assert [replace(behind, fronts=(by_name, by_address)), alone] == actual


def test_where_nothing_stands_in_front_of_anything_the_gateways_stay_as_they_are() -> None:
    """Proves that a fleet without fronts is not copied."""
    actual = in_front([FIRST, SECOND], [])

    assert [FIRST, SECOND] == actual
    assert FIRST is actual[0]


def test_what_is_used_and_not_served_holds_no_later_ring_back() -> None:
    """Proves that what can never be proven is not waited for."""
    earlier, later = build.gateway(API), build.gateway(API, ring=1)
    not_served = replace(earlier, kind=replace(earlier.kind, not_served="It is used towards backends."))

    assert comes_before(earlier, later)
    assert not comes_before(not_served, later)


def authority(service_id: str) -> Authority:
    """One that a self-hosted gateway of a service was given."""
    return Authority(
        service_id,
        "edge",
        "corp-root",
        trusted=True,
        subject="CN=Corp Root",
        thumbprint="AB" * 20,
        not_after=None,
    )


OURS, THEIRS = authority(build.GATEWAY_ID.upper()), authority(f"{build.GATEWAY_ID}-other")
SERVICE = build.gateway()
ENTITY = replace(SERVICE, id=f"{build.GATEWAY_ID}/certificates/edge", service_id=build.GATEWAY_ID.title())


@pytest.mark.parametrize(
    ("gateways", "scope", "expected"),
    [
        ((), Scope(), (OURS, THEIRS)),
        ((SERVICE,), Scope(), (OURS, THEIRS)),
        ((), Scope(hostname="api.contoso.com"), ()),
        ((SERVICE,), Scope(hostname="api.contoso.com"), (OURS,)),
        ((ENTITY,), Scope(hostname="api.contoso.com"), (OURS,)),
    ],
    ids=["everything", "everything, looked at", "a name that nobody has", "a service", "a part of a service"],
)
def test_authorities_are_shown_with_the_services_that_are_looked_at(
    gateways: tuple[Gateway, ...], scope: Scope, expected: tuple[Authority, ...]
) -> None:
    """Proves that a scope shows those of its services only, in whatever case ARM writes their ids."""
    actual = authorities([OURS, THEIRS], gateways, scope)

    assert expected == actual
