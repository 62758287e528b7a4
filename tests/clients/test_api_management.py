import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rotation.gateways.api_management import KIND, ApiManagement, from_arm
from rotation.model import (
    CertificateId,
    Endpoint,
    Gateway,
    Inventory,
    KeyVaultReference,
)
from sandbox.arm_bodies import service_body
from sandbox.azure import Azure
from sandbox.world import Certificate, Fault, Hostname, Server, Service, World
from tests.clients.cloud import SUFFIX, discover, gateway_of, with_arm

EXAMPLES = Path(__file__).resolve().parents[3] / "shared" / "contracts" / "apim" / "examples"
ID = (
    "/subscriptions/1d0c8a94-5b37-4f62-8e2d-93c6f7ab4e10/resourceGroups/rg-apim"
    "/providers/Microsoft.ApiManagement/service/apim-prod"
)
CERTIFICATE = CertificateId("kv-gateways.vault.azure.net", "api-contoso-com")
WEST = "apim-prod-westeurope-01.regional.azure-api.net"
EAST = "apim-prod-eastus-01.regional.azure-api.net"


def found(azure: Azure) -> Gateway:
    """The one service of a world, as the app sees it."""
    inventory = discover(azure)
    assert () == inventory.problems
    assert 1 == len(inventory.gateways)
    return inventory.gateways[0]


def read(
    hostname: Mapping[str, object],
    vaults: frozenset[str] = frozenset(),
    more: Mapping[str, object] | None = None,
) -> Gateway:
    """A service with one hostname, through the parser alone."""
    body = {
        "id": ID,
        "location": "West Europe",
        "sku": {"name": "Premium", "capacity": 1},
        "properties": {
            "provisioningState": "Succeeded",
            "gatewayUrl": "https://apim-prod.azure-api.net",
            "gatewayRegionalUrl": f"https://{WEST}",
            "hostnameConfigurations": [{"type": "Proxy", "hostName": "api.contoso.com", **hostname}],
            "virtualNetworkType": "None",
            **(more or {}),
        },
    }
    return from_arm(body, SUFFIX, vaults)


def endpoints(gateway: Gateway, hostname: str = "api.contoso.com") -> list[tuple[str, str, int]]:
    """Region, host and number of connections of one hostname."""
    return [
        (endpoint.region, endpoint.host, endpoint.connections)
        for binding in gateway.bindings
        if binding.hostname == hostname
        for endpoint in binding.endpoints
    ]


def service(world: World, certificate: Certificate, **options: Any) -> Service:
    """A service with one hostname that follows a certificate."""
    return world.add_service("apim-prod", hostnames=[Hostname("api.contoso.com", certificate)], **options)


def test_a_service_is_read_whole(world: World, azure: Azure, certificate: Certificate) -> None:
    """Identity, state and both hostnames, the built-in one too."""
    ours = service(world, certificate)

    gateway = found(azure)

    assert (ours.id, "apim-prod", KIND, "West Europe", "Succeeded") == (
        gateway.id,
        gateway.name,
        gateway.kind,
        gateway.location,
        gateway.state,
    )
    assert not gateway.busy
    builtin, custom = gateway.bindings
    assert ("apim-prod.azure-api.net", "Proxy", None, None, None) == (
        builtin.hostname,
        builtin.hostname_type,
        builtin.key_vault_id,
        builtin.reference,
        builtin.configured,
    )
    assert ("api.contoso.com", "Proxy", certificate.secret_id, certificate.newest.thumbprint) == (
        custom.hostname,
        custom.hostname_type,
        custom.key_vault_id,
        custom.configured,
    )
    assert KeyVaultReference(CERTIFICATE, None) == custom.reference
    assert frozenset({CERTIFICATE}) == gateway.certificates


def test_a_service_being_changed_is_busy(world: World, azure: Azure, certificate: Certificate) -> None:
    """ProvisioningState tells that an operation is under way."""
    service(world, certificate).begin_sync()

    gateway = found(azure)

    assert ("Updating", True) == (gateway.state, gateway.busy)


def test_where_each_certificate_comes_from(world: World, azure: Azure, certificate: Certificate) -> None:
    """KeyVaultId alone decides: pinned, followed or none, whatever certificateSource says."""
    pinned = certificate.newest
    world.add_service(
        "apim-prod",
        hostnames=[
            Hostname("followed.contoso.com", certificate),
            Hostname("custom.contoso.com", certificate),  # the second is shown as Custom by the sandbox
            Hostname("pinned.contoso.com", pinned_version=pinned),
            Hostname("uploaded.contoso.com", uploaded=world.ca.issue(["uploaded.contoso.com"])),
            Hostname("managed.contoso.com", managed=True),
        ],
    )

    bindings = found(azure).bindings

    assert {
        "apim-prod.azure-api.net": None,
        "followed.contoso.com": KeyVaultReference(CERTIFICATE, None),
        "custom.contoso.com": KeyVaultReference(CERTIFICATE, None),
        "pinned.contoso.com": KeyVaultReference(CERTIFICATE, pinned.id),
        "uploaded.contoso.com": None,
        "managed.contoso.com": None,
    } == {binding.hostname: binding.reference for binding in bindings}
    assert [True, False, False, False, False, False] == [b.configured is None for b in bindings]


def test_each_type_of_hostname_is_dialled_where_it_lives(
    world: World, azure: Azure, certificate: Certificate
) -> None:
    """The gateway's in every region by its regional host, the others once by their own name."""
    kinds = ["Proxy", "DeveloperPortal", "Portal", "Management", "Scm", "ConfigurationApi", "Unheard"]
    world.add_service(
        "apim-prod",
        regions={"West Europe": 1, "East US": 1},
        hostnames=[Hostname(f"{kind.lower()}.contoso.com", certificate, type=kind) for kind in kinds],
    )

    gateway = found(azure)

    regional = [("West Europe", WEST, 1), ("East US", EAST, 1)]
    assert [regional, *([("West Europe", f"{kind.lower()}.contoso.com", 1)] for kind in kinds[1:])] == [
        endpoints(gateway, f"{kind.lower()}.contoso.com") for kind in kinds
    ]
    assert ["Proxy", *kinds] == [binding.hostname_type for binding in gateway.bindings]


def test_a_wildcard_is_dialled_under_a_label_of_its_own(
    world: World, azure: Azure, certificate: Certificate
) -> None:
    """A star can neither be asked for nor resolved."""
    world.add_service(
        "apim-prod",
        hostnames=[
            Hostname("*.contoso.com", certificate),
            Hostname("*.portal.contoso.com", certificate, type="DeveloperPortal"),
        ],
    )

    gateway = found(azure)

    assert [("West Europe", WEST, 7)] == endpoints(gateway, "*.contoso.com")
    assert [("West Europe", "rotation-check.portal.contoso.com", 7)] == endpoints(
        gateway, "*.portal.contoso.com"
    )


@pytest.mark.parametrize(
    ("units", "connections"), [(0, 1), (1, 1), (2, 7), (3, 12), (4, 17), (10, 44), (31, 141)]
)
def test_connections_prove_every_scale_unit(
    world: World, azure: Azure, certificate: Certificate, units: int, connections: int
) -> None:
    """As many fresh connections as meet each of the units with a certainty of 99 percent."""
    service(world, certificate, regions={"West Europe": units, "East US": 1})

    gateway = found(azure)

    assert [("West Europe", WEST, connections), ("East US", EAST, 1)] == endpoints(gateway)


def test_what_cannot_be_synced_is_read_once(world: World, azure: Azure) -> None:
    """An uploaded certificate is watched for its expiry, for which one connection a region is enough."""
    uploaded = Hostname("api.contoso.com", uploaded=world.ca.issue(["api.contoso.com"]))
    world.add_service("apim-prod", regions={"West Europe": 4, "East US": 2}, hostnames=[uploaded])

    assert [("West Europe", WEST, 1), ("East US", EAST, 1)] == endpoints(found(azure))


@pytest.mark.parametrize(
    ("disabled", "expected"),
    [
        pytest.param({"East US"}, [("West Europe", WEST, 1)], id="in an additional location"),
        pytest.param({"West Europe"}, [("East US", EAST, 1)], id="in the main location"),
        pytest.param({"West Europe", "East US"}, [], id="everywhere"),
    ],
)
def test_a_disabled_gateway_is_not_dialled(
    world: World,
    azure: Azure,
    certificate: Certificate,
    disabled: set[str],
    expected: list[tuple[str, str, int]],
) -> None:
    """A region taken out of service has nothing to prove."""
    ours = service(world, certificate, regions={"West Europe": 1, "East US": 1})
    ours.gateway_disabled = disabled

    assert expected == endpoints(found(azure))


def test_a_portal_is_looked_at_although_the_main_gateway_is_disabled(
    world: World, azure: Azure, certificate: Certificate
) -> None:
    """DisableGateway takes the gateway out of a region, not the service's other endpoints."""
    portal = Hostname("portal.contoso.com", certificate, type="DeveloperPortal")
    ours = world.add_service("apim-prod", regions={"West Europe": 1}, hostnames=[portal])
    ours.gateway_disabled = {"West Europe"}

    assert [("West Europe", "portal.contoso.com", 1)] == endpoints(found(azure), "portal.contoso.com")


def test_an_internal_service_is_dialled_at_its_regional_host(
    world: World, azure: Azure, certificate: Certificate
) -> None:
    """In an internal network too the regional host is the place, if ARM names it."""
    service(world, certificate, virtual_network_type="Internal", regions={"West Europe": 1, "East US": 1})

    assert [("West Europe", WEST, 1), ("East US", EAST, 1)] == endpoints(found(azure))


@pytest.mark.parametrize(
    ("properties", "host"),
    [
        pytest.param({}, WEST, id="the regional host"),
        pytest.param(
            {"gatewayRegionalUrl": None, "publicIPAddresses": ["203.0.113.7", "203.0.113.8"]},
            "203.0.113.7",
            id="the first public address without it",
        ),
        pytest.param(
            {
                "gatewayRegionalUrl": None,
                "virtualNetworkType": "Internal",
                "publicIPAddresses": ["203.0.113.7"],
                "privateIPAddresses": ["10.1.2.3"],
            },
            "10.1.2.3",
            id="the private address in an internal network",
        ),
        pytest.param(
            {
                "gatewayRegionalUrl": None,
                "virtualNetworkType": "External",
                "publicIPAddresses": ["203.0.113.7"],
                "privateIPAddresses": ["10.1.2.3"],
            },
            "203.0.113.7",
            id="the public address in an external network",
        ),
        pytest.param(
            {"gatewayRegionalUrl": "", "publicIPAddresses": []},
            "apim-prod.azure-api.net",
            id="the gateway's own host when all else is missing, as in Consumption",
        ),
    ],
)
def test_where_the_main_region_is(properties: dict[str, object], host: str) -> None:
    """The most specific place that ARM names."""
    gateway = read({}, more=properties)

    assert [("West Europe", host, 1)] == endpoints(gateway)


def test_a_region_without_any_address_is_left_out() -> None:
    """An additional location being built has no place yet; the main host would answer for another region."""
    being_built = {"location": "East US", "sku": {"name": "Premium", "capacity": 2}}

    gateway = read({}, more={"additionalLocations": [being_built]})

    assert [("West Europe", WEST, 1)] == endpoints(gateway)


@pytest.mark.parametrize(
    ("key_vault_id", "expected"),
    [
        pytest.param(
            "https://kv-gateways.vault.azure.net/secrets/api-contoso-com",
            KeyVaultReference(CERTIFICATE, None),
            id="versionless",
        ),
        pytest.param(
            "https://kv-gateways.vault.azure.net/secrets/api-contoso-com/",
            KeyVaultReference(CERTIFICATE, None),
            id="a slash at the end",
        ),
        pytest.param(
            "https://KV-Gateways.Vault.Azure.NET/Secrets/API-Contoso-Com",
            KeyVaultReference(CERTIFICATE, None),
            id="upper case",
        ),
        pytest.param(
            "https://kv-gateways.vault.azure.net/certificates/api-contoso-com",
            KeyVaultReference(CERTIFICATE, None),
            id="the certificate instead of the secret",
        ),
        pytest.param(
            "https://kv-gateways.vault.azure.net/secrets/api-contoso-com/0123456789abcdef0123456789abcdef",
            KeyVaultReference(CERTIFICATE, "0123456789abcdef0123456789abcdef"),
            id="with a version",
        ),
        pytest.param(
            "https://kv-gateways.vault.azure.net/secrets/api-contoso-com/0123/4", None, id="too many parts"
        ),
        pytest.param("https://kv-gateways.vault.azure.net/keys/api-contoso-com", None, id="a key"),
        pytest.param("https://kv-gateways.vault.azure.cn/secrets/api-contoso-com", None, id="another cloud"),
        pytest.param("https://evil.com/secrets/api-contoso-com", None, id="another host"),
        pytest.param(
            "https://kv-gateways.vault.azure.net@evil.com/secrets/api-contoso-com", None, id="a user name"
        ),
        pytest.param(
            "https://evil.com/@kv-gateways.vault.azure.net/secrets/api-contoso-com",
            None,
            id="an at in the path",
        ),
        pytest.param(
            "https://kv-gateways.vault.azure.net.evil.com/secrets/x",
            None,
            id="a host that begins like a vault",
        ),
        pytest.param("https://kv-gateways.vault.azure.net:8443/secrets/x", None, id="a port"),
        pytest.param("https://a.b.vault.azure.net/secrets/x", None, id="a label too many"),
        pytest.param("https://vault.azure.net/secrets/x", None, id="no vault"),
        pytest.param("https://.vault.azure.net/secrets/x", None, id="an empty vault"),
        pytest.param("http://kv-gateways.vault.azure.net/secrets/x", None, id="without TLS"),
        pytest.param("https://kv-gateways.vault.azure.net/secrets/x?y=z", None, id="a query"),
        pytest.param("https://kv-gateways.vault.azure.net/secrets/x#y", None, id="a fragment"),
        pytest.param("https://kv-gateways.vault.azure.net/secrets/../keys/x", None, id="a path that climbs"),
        pytest.param("https://kv-gateways.vault.azure.net/secrets/x%2fy", None, id="an escaped slash"),
        pytest.param("https://kv-gateways.vault.azure.net/secrets/", None, id="no name"),
        pytest.param("https://kv-gäteways.vault.azure.net/secrets/x", None, id="an umlaut"),
        pytest.param("https://kv-gateways.vault.azure.net/secrets/x\r\nHost: y", None, id="a line break"),
        pytest.param("https://[::1/secrets/x", None, id="half an address"),
        pytest.param("api-contoso-com", None, id="a name"),
    ],
)
def test_a_key_vault_id_is_read_strictly(key_vault_id: str, expected: KeyVaultReference | None) -> None:
    """A request to Key Vault goes where this says: what is not surely a vault of this cloud means nothing."""
    [binding] = read({"keyVaultId": key_vault_id}).bindings

    assert expected == binding.reference
    assert binding.key_vault_id is not None


def test_a_vault_that_is_not_allowed_means_nothing() -> None:
    """With an allow list of vaults, a keyVaultId elsewhere is out of scope: present, without meaning."""
    vault = "https://kv-gateways.vault.azure.net/secrets/api-contoso-com"

    [allowed] = read({"keyVaultId": vault}, frozenset({"kv-gateways.vault.azure.net"})).bindings
    [other] = read({"keyVaultId": vault}, frozenset({"kv-other.vault.azure.net"})).bindings

    assert (KeyVaultReference(CERTIFICATE, None), None) == (allowed.reference, other.reference)
    assert vault == other.key_vault_id


def test_the_allow_list_holds_on_the_wire(world: World, azure: Azure, certificate: Certificate) -> None:
    """The setting reaches the parser."""
    service(world, certificate)

    inventory = with_arm(azure, lambda kind: kind.discover(), vaults=["kv-other.vault.azure.net"])

    assert [None, None] == [b.reference for gateway in inventory.gateways for b in gateway.bindings]


@pytest.mark.parametrize(
    ("certificate", "configured"),
    [
        pytest.param({"thumbprint": "ab" * 20}, "AB" * 20, id="lower case is raised"),
        pytest.param({"thumbprint": "AB" * 19}, None, id="too short"),
        pytest.param({"thumbprint": "XY" * 20}, None, id="not hexadecimal"),
        pytest.param({"thumbprint": None}, None, id="null"),
        pytest.param({"thumbprint": ["AB" * 20]}, None, id="a list"),
        pytest.param({}, None, id="none"),
        pytest.param(None, None, id="no certificate"),
        pytest.param("AB" * 20, None, id="a string for the certificate"),
    ],
)
def test_the_configured_thumbprint_is_a_thumbprint_or_nothing(
    certificate: object, configured: str | None
) -> None:
    """What ARM shows is compared with what Key Vault has, so it must be of its kind."""
    [binding] = read({"certificate": certificate}).bindings

    assert configured == binding.configured


@pytest.mark.parametrize(
    ("hostname", "expected"),
    [
        pytest.param({"hostName": "API.Contoso.com"}, "api.contoso.com", id="upper case"),
        pytest.param({"hostName": "api.contoso.com\r\nx\u202e"}, "api.contoso.com  x ", id="unprintable"),
        pytest.param({"hostName": "x" * 9999}, "x" * 256, id="far too long"),
    ],
)
def test_a_hostname_is_made_safe_to_show(hostname: dict[str, object], expected: str) -> None:
    """It goes to logs and pages; what cannot be a name is found out by the probe."""
    [binding] = read(hostname).bindings

    assert expected == binding.hostname


@pytest.mark.parametrize(
    "capacity",
    [
        pytest.param(10**6, id="a million"),
        pytest.param(10**30, id="beyond counting"),
        pytest.param(-3, id="negative"),
        pytest.param("4", id="a string"),
        pytest.param(None, id="null"),
    ],
)
def test_an_impossible_capacity_costs_no_flood(capacity: object) -> None:
    """A number out of ARM's hands decides how often a gateway is dialled: it needs a bound."""
    body = {
        "id": ID,
        "location": "West Europe",
        "sku": {"name": "Premium", "capacity": capacity},
        "properties": {
            "gatewayRegionalUrl": f"https://{WEST}",
            "hostnameConfigurations": [
                {
                    "type": "Proxy",
                    "hostName": "api.contoso.com",
                    "keyVaultId": "https://kv-gateways.vault.azure.net/secrets/api-contoso-com",
                }
            ],
        },
    }

    [(_, _, connections)] = endpoints(from_arm(body, SUFFIX, frozenset()))

    assert 1 <= connections < 1000


@pytest.mark.parametrize(
    "resource_id",
    [
        pytest.param("", id="empty"),
        pytest.param(ID + "/", id="a slash at the end"),
        pytest.param(ID + "/apis/x", id="something inside a service"),
        pytest.param(ID.replace("service/", "gateways/"), id="another type"),
        pytest.param(ID.replace("Microsoft.ApiManagement", "Microsoft.Web"), id="another provider"),
        pytest.param(ID.replace("rg-apim", "../rg"), id="a path that climbs"),
        pytest.param(ID.replace("rg-apim", "rg%2fapim"), id="an escape"),
        pytest.param(ID.replace("rg-apim", "rg?x"), id="a query"),
        pytest.param(ID + "\n", id="a line break at the end"),
        pytest.param(ID.replace("1d0c8a94", "zzzzzzzz"), id="a subscription that is no GUID"),
        pytest.param("https://management.azure.com" + ID, id="a URL"),
    ],
)
def test_an_id_that_is_no_service_is_refused(resource_id: str) -> None:
    """A POST is sent to what the id says, so it is one of a service or nothing."""
    with pytest.raises(ValueError, match="is no service of API Management"):
        from_arm({"id": resource_id, "properties": {}}, SUFFIX, frozenset())


def example(name: str) -> dict[str, Any]:
    """The body of an official example."""
    if not EXAMPLES.is_dir():
        pytest.skip(f"the official examples are not at {EXAMPLES}")
    body: dict[str, Any] = json.loads((EXAMPLES / name).read_text())["responses"]["200"]["body"]
    return body


def test_the_official_example_of_get_is_understood() -> None:
    """Hosts from Key Vault are shown there with certificateSource Custom: they count as its own."""
    gateway = from_arm(example("ApiManagementServiceGetService.json"), SUFFIX, frozenset())

    follows = KeyVaultReference(CertificateId("ogf-testing.vault.azure.net", "current-ssl"), None)
    assert [
        ("ogf-z3-06162021-premium.azure-api.net", "Proxy", None),
        ("gateway.current.int-azure-api.net", "Proxy", follows),
        ("developer.current.int-azure-api.net", "DeveloperPortal", follows),
        ("mgmt.current.int-azure-api.net", "Management", follows),
        ("configuration-api.current.int-azure-api.net", "ConfigurationApi", follows),
    ] == [(b.hostname, b.hostname_type, b.reference) for b in gateway.bindings]
    assert (
        Endpoint(
            "gateway.current.int-azure-api.net",
            "East US",
            "ogf-z3-06162021-premium-eastus-01.regional.azure-api.net",
        ),
        Endpoint(
            "gateway.current.int-azure-api.net",
            "East US 2",
            "ogf-z3-06162021-premium-eastus2-01.regional.azure-api.net",
        ),
    ) == gateway.bindings[1].endpoints
    assert ("OGF-Z3-06162021-Premium", "East US", False) == (gateway.name, gateway.location, gateway.busy)


def test_the_official_example_of_refresh_is_understood() -> None:
    """What ARM answers to a sync, here with certificateSource KeyVault."""
    gateway = from_arm(example("ApiManagementServiceRefreshKeyVaultHostnames.json"), SUFFIX, frozenset())

    follows = KeyVaultReference(CertificateId("apim-msi-keyvault.vault.azure.net", "sslcertificate"), None)
    assert [("apimservice1.azure-api.net", None), ("proxy.msitesting.net", follows)] == [
        (b.hostname, b.reference) for b in gateway.bindings
    ]
    assert [
        ("West Europe", "apimservice1-westeurope-01.regional.azure-api.net", 1),
        ("North Europe", "apimservice1-northeurope-01.regional.azure-api.net", 1),
    ] == endpoints(gateway, "proxy.msitesting.net")


@pytest.mark.parametrize("denied", [False, True], ids=["from Resource Graph", "from ARM's list"])
def test_the_wire_and_the_body_say_the_same(
    world: World, azure: Azure, certificate: Certificate, *, denied: bool
) -> None:
    """Nothing is lost or renamed on either way between ARM's JSON and the parser."""
    ours = service(world, certificate, regions={"West Europe": 2, "East US": 1}, tags={"team": "x"})
    world.graph.denied = denied

    body = service_body(ours, world.clock.now())

    assert replace(from_arm(body, SUFFIX, frozenset()), listed=not denied) == found(azure)


def fresh(azure: Azure, ours: Service) -> Gateway | str:
    """The service itself, read as before a sync."""
    return with_arm(azure, lambda kind: kind.read(gateway_of(ours)))


def test_a_service_is_read_fresh(world: World, azure: Azure, certificate: Certificate) -> None:
    """ARM tells at once what Resource Graph will tell later: its state, what is configured, and the time."""
    ours = service(world, certificate)
    world.graph.lag = timedelta(minutes=5)
    world.clock.advance(timedelta(minutes=6))
    ours.configured_when = "at_once"
    renewed = certificate.renew()
    ours.begin_sync()

    async def both(kind: ApiManagement) -> tuple[Inventory, Gateway | str]:
        inventory = await kind.discover()
        return inventory, await kind.read(inventory.gateways[0])

    inventory, read = with_arm(azure, both)

    [stale] = inventory.gateways
    assert isinstance(read, Gateway)
    assert (True, "Succeeded", None) == (stale.listed, stale.state, stale.as_of)
    assert certificate.versions[0].thumbprint == stale.bindings[1].configured
    assert (False, "Updating", renewed.thumbprint) == (
        read.listed,
        read.state,
        read.bindings[1].configured,
    )
    assert read.as_of is not None
    assert abs(world.clock.now() - read.as_of) < timedelta(seconds=30)


def test_a_service_that_is_gone_says_so(world: World, azure: Azure, certificate: Certificate) -> None:
    """Resource Graph may show for minutes what was deleted."""
    ours = service(world, certificate)
    world.remove_service(ours)

    assert "apim-prod: there is no such service (any more)." == fresh(azure, ours)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(Server.ARM, status=500, times=None), "Internal Server Error"),
        (
            Fault(Server.ARM, status=403, body={"error": {"code": "AuthorizationFailed"}}),
            "AuthorizationFailed",
        ),
        (Fault(Server.ARM, reset=True, times=None), "Connection reset"),
        (Fault(Server.ARM, status=200, body=b"<html>"), "could not be read"),
        (Fault(Server.ARM, status=200, body=[]), "could not be read"),
        (Fault(Server.ARM, status=200, body={"id": ID}), "is no service of API Management with properties"),
        (Fault(Server.ARM, status=200, body={"id": f"{ID}-2", "properties": {}}), "another service"),
    ],
)
def test_a_service_that_cannot_be_read_says_why(
    world: World, azure: Azure, certificate: Certificate, fault: Fault, reason: str
) -> None:
    """A read that failed is a sentence with the service's name, never an old answer."""
    ours = service(world, certificate)
    world.faults.append(fault)

    said = fresh(azure, ours)

    assert isinstance(said, str)
    assert said.startswith("apim-prod: ")
    assert reason in said
