"""Application Gateways as ARM describes them: what becomes a binding, an endpoint or a front."""

import base64
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest

from rotation.gateways import fronts
from rotation.gateways.application_gateway import KIND, from_arm
from rotation.model import BackendHealth, Front, GatewayKind
from sandbox.certificates import CertificateAuthority
from tests.unit import build

ID = (
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg-network"
    "/providers/Microsoft.Network/applicationGateways/agw"
)
PUBLIC_IP = f"{ID.rpartition('/applicationGateways/')[0]}/publicIPAddresses/agw-ip"
URL = "https://kv-contoso.vault.azure.net/secrets/shop"
ROOT = CertificateAuthority("Contoso", direct=True)


def sub(collection: str, name: str, **properties: object) -> dict[str, Any]:
    """A sub-resource."""
    return {"name": name, "id": f"{ID}/{collection}/{name}", "properties": properties}


def to(collection: str, name: str) -> dict[str, str]:
    """A reference to one; ARM compares ids without regard to case."""
    return {"id": f"{ID}/{collection}/{name}".upper()}


def listener(**properties: object) -> dict[str, Any]:
    """An HTTPS listener on the public frontend."""
    usual: dict[str, object] = {
        "protocol": "Https",
        "hostName": "shop.contoso.com",
        "sslCertificate": to("sslCertificates", "vault"),
        "frontendIPConfiguration": to("frontendIPConfigurations", "public"),
        "frontendPort": to("frontendPorts", "https"),
    }
    return sub("httpListeners", "shop", **{**usual, **properties})


def body(*listeners: dict[str, Any], **properties: object) -> dict[str, Any]:
    """A gateway of two instances with a public and a private frontend."""
    return {
        "id": ID,
        "location": "westeurope",
        "tags": {"Rotation-Pause": "true"},
        "identity": {"userAssignedIdentities": {"/id": {"clientId": "c0ffee"}}},
        "properties": {
            "provisioningState": "Succeeded",
            "operationalState": "Running",
            "sku": {"name": "WAF_v2", "tier": "WAF_v2", "capacity": 2},
            "httpListeners": list(listeners or (listener(),)),
            "sslCertificates": [
                sub("sslCertificates", "vault", keyVaultSecretId=URL),
                sub("sslCertificates", "uploaded", publicCertData="MII"),
            ],
            "frontendIPConfigurations": [
                sub("frontendIPConfigurations", "public", publicIPAddress={"id": PUBLIC_IP}),
                sub("frontendIPConfigurations", "private", privateIPAddress="10.0.0.9"),
            ],
            "frontendPorts": [
                sub("frontendPorts", "https", port=443),
                sub("frontendPorts", "other", port=8443),
            ],
            **properties,
        },
    }


def read(found: Mapping[str, Any]) -> Any:
    """The gateway as discovery would have it."""
    return from_arm(found, {PUBLIC_IP.lower(): "198.51.100.1"}, build.SUFFIX, frozenset())


def test_a_listener_becomes_a_binding_with_the_place_where_it_listens() -> None:
    """Proves what is followed: certificate, frontend, port, identity, tags and instances."""
    gateway = read(body())
    (binding,) = gateway.bindings
    (endpoint,) = binding.endpoints

    assert (GatewayKind.APPLICATION_GATEWAY, "agw", "WAF_v2", True) == (
        gateway.kind.name,
        gateway.name,
        gateway.tier,
        gateway.paused,
    )
    assert ("shop.contoso.com", "shop", URL, None) == (
        binding.hostname,
        binding.hostname_type,
        binding.key_vault_id,
        binding.configured,
    )
    assert "user-assigned c0ffee" == binding.identity
    assert ("198.51.100.1", 443, 7, "westeurope") == (
        endpoint.host,
        endpoint.port,
        endpoint.connections,
        endpoint.region,
    )


SCALES = {
    "two instances": ({}, 7),
    "autoscale counts the most": ({"autoscaleConfiguration": {"minCapacity": 2, "maxCapacity": 10}}, 44),
    "autoscale without a limit": ({"autoscaleConfiguration": {"minCapacity": 2}}, 293),
    "more than we care for": ({"sku": {"tier": "WAF_v2", "capacity": 125}}, 293),
    "one": ({"sku": {"tier": "Standard_v2", "capacity": 1}}, 1),
}


@pytest.mark.parametrize(("properties", "connections"), SCALES.values(), ids=SCALES)
def test_the_number_of_connections_is_that_of_the_instances(
    properties: dict[str, object], connections: int
) -> None:
    """Proves that each instance has to be met, with autoscale the most that there may be."""
    assert connections == read(body(**properties)).bindings[0].endpoints[0].connections


NAMES = {
    "one": ({"hostName": "Shop.Contoso.com"}, {"shop.contoso.com": "shop.contoso.com"}),
    "several": (
        {"hostName": None, "hostNames": ["a.contoso.com", "*.contoso.com"]},
        {"a.contoso.com": "a.contoso.com", "*.contoso.com": "rotation-check.contoso.com"},
    ),
    "a star within": (
        {"hostName": None, "hostNames": ["shop*.contoso.com"]},
        {"shop*.contoso.com": "shopx.contoso.com"},
    ),
    "none": ({"hostName": None}, {"*": "rotation-check.invalid"}),
}


@pytest.mark.parametrize(("properties", "sni"), NAMES.values(), ids=NAMES)
def test_each_hostname_is_asked_for_by_a_name_that_it_answers_to(
    properties: dict[str, object], sni: dict[str, str]
) -> None:
    """Proves that wildcards and nameless listeners are asked for something that a hello may have."""
    bindings = read(body(listener(**properties))).bindings

    assert sni == {binding.hostname: binding.endpoints[0].sni for binding in bindings}


def test_the_same_hostname_on_two_listeners_is_two_bindings() -> None:
    """Proves that a private listener with another certificate is not taken for the public one."""
    private = listener(
        frontendIPConfiguration=to("frontendIPConfigurations", "private"),
        frontendPort=to("frontendPorts", "other"),
        sslCertificate=to("sslCertificates", "uploaded"),
    )
    public, inside = read(body(listener(), {**private, "name": "inside"})).bindings

    assert public.key != inside.key
    assert (URL, None) == (public.key_vault_id, inside.key_vault_id)
    assert ("10.0.0.9", 8443, 1) == (
        inside.endpoints[0].host,
        inside.endpoints[0].port,
        inside.endpoints[0].connections,
    )


NOWHERE = {
    "a stopped gateway": ({"operationalState": "Stopped"}, "the gateway is stopped"),
    "a frontend without an address": (
        {"frontendIPConfigurations": [sub("frontendIPConfigurations", "public")]},
        "its frontend has no known address",
    ),
}


@pytest.mark.parametrize(("properties", "why"), NOWHERE.values(), ids=NOWHERE)
def test_there_is_nowhere_to_connect_to_for(properties: dict[str, object], why: str) -> None:
    """Proves that it is said why, and that nothing is guessed."""
    (binding,) = read(body(**properties)).bindings

    assert ((), why) == (binding.endpoints, binding.no_endpoint)


def test_plain_http_is_no_binding() -> None:
    """Proves that a redirect from port 80 is not probed."""
    assert () == read(body(listener(protocol="Http"))).bindings


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "/subscriptions/x"},
        {"id": f"{ID}/httpListeners/shop"},
        {"properties": None},
        {"properties": {"httpListeners": "many"}},
        {"properties": {"httpListeners": [{"properties": None}]}},
        {"properties": {"sku": "WAF_v2", "httpListeners": []}},
        {"tags": ["a"]},
    ],
    ids=str,
)
def test_a_body_of_another_shape_is_refused(changes: dict[str, object]) -> None:
    """Proves that a surprise is a ValueError, which discovery turns into a problem."""
    with pytest.raises(ValueError, match=r"Application Gateway|its "):
        read({**body(), **changes})


def backend(**settings: object) -> dict[str, Any]:
    """A gateway in front of one backend."""
    usual: dict[str, object] = {"protocol": "Https", "hostName": "api.contoso.com"}
    return body(
        backendAddressPools=[
            sub("backendAddressPools", "apim", backendAddresses=[{"fqdn": "APIM.azure-api.net"}])
        ],
        backendHttpSettingsCollection=[
            sub("backendHttpSettingsCollection", "https", **{**usual, **settings})
        ],
        trustedRootCertificates=[
            sub("trustedRootCertificates", "root", data=base64.b64encode(ROOT.pem.encode()).decode()),
            sub("trustedRootCertificates", "vault", keyVaultSecretId=URL),
            sub("trustedRootCertificates", "broken", data="no base64"),
        ],
        requestRoutingRules=[
            sub(
                "requestRoutingRules",
                "rule",
                httpListener=to("httpListeners", "shop"),
                backendAddressPool=to("backendAddressPools", "apim"),
                backendHttpSettings=to("backendHttpSettingsCollection", "https"),
            )
        ],
    )


def seen(found: dict[str, Any]) -> list[Front]:
    """The fronts of a gateway."""
    return list(fronts.of_gateway(found, read(found)))


def test_a_backend_by_tls_is_a_front_with_the_roots_that_it_trusts() -> None:
    """Proves that the root is read, from PEM in base64 too, and that the target is compared in lower case."""
    roots = [to("trustedRootCertificates", "root")]
    (front,) = seen(backend(trustedRootCertificates=roots))

    assert ("apim.azure-api.net", "api.contoso.com") == (front.target, front.hostname)
    assert ["CN=Contoso Root CA"] == [root.subject for root in front.roots or ()]


ROOTS: dict[str, tuple[dict[str, object], object]] = {
    "none, so public authorities": ({}, ()),
    "one in Key Vault, which is not read": (
        {"trustedRootCertificates": [to("trustedRootCertificates", "vault")]},
        None,
    ),
    "one that is no certificate": (
        {"trustedRootCertificates": [to("trustedRootCertificates", "broken")]},
        None,
    ),
    "one that is gone": ({"trustedRootCertificates": [to("trustedRootCertificates", "gone")]}, None),
}


@pytest.mark.parametrize(("settings", "roots"), ROOTS.values(), ids=ROOTS)
def test_roots_that_are_not_seen_are_not_known(settings: dict[str, object], roots: object) -> None:
    """Proves that a root that cannot be read is never taken for a missing one."""
    assert [roots] == [front.roots for front in seen(backend(**settings))]


HOSTNAMES = {
    "a name of its own": ({}, ["api.contoso.com"]),
    "the backend's name": (
        {"hostName": None, "pickHostNameFromBackendAddress": True},
        ["apim.azure-api.net"],
    ),
    "the name that came in": ({"hostName": None}, ["shop.contoso.com"]),
    "plain HTTP": ({"protocol": "Http"}, []),
    "told not to verify": ({"validateCertChainAndExpiry": False}, []),
}


@pytest.mark.parametrize(("settings", "hostnames"), HOSTNAMES.values(), ids=HOSTNAMES)
def test_what_a_backend_is_asked_for(settings: dict[str, object], hostnames: list[str]) -> None:
    """Proves which hostname of a service a front depends on, and where it depends on none."""
    assert hostnames == [front.hostname for front in seen(backend(**settings))]


def test_paths_lead_to_backends_too() -> None:
    """Proves that path maps are followed, their default included."""
    found = deepcopy(backend())
    target = {
        "backendAddressPool": to("backendAddressPools", "apim"),
        "backendHttpSettings": to("backendHttpSettingsCollection", "https"),
    }
    rule = sub(
        "requestRoutingRules",
        "rule",
        httpListener=to("httpListeners", "shop"),
        urlPathMap=to("urlPathMaps", "paths"),
    )
    found["properties"]["requestRoutingRules"] = [rule]
    found["properties"]["urlPathMaps"] = [
        sub("urlPathMaps", "paths", pathRules=[sub("pathRules", "api", **target)])
    ]
    by_path = seen(found)
    default = {f"default{name[0].upper()}{name[1:]}": value for name, value in target.items()}
    found["properties"]["urlPathMaps"] = [sub("urlPathMaps", "paths", **default)]

    assert ["apim.azure-api.net"] == [front.target for front in by_path] == [f.target for f in seen(found)]


def test_an_origin_of_front_door_is_a_front_that_trusts_public_authorities() -> None:
    """Proves its name, and that one that is disabled is none."""
    origin = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Cdn/profiles/afd/originGroups/o/origins/"
    rows: list[dict[str, str | None]] = [
        {"id": f"{origin}1", "host": "APIM.azure-api.net", "header": "api.contoso.com", "enabled": "Enabled"},
        {"id": f"{origin}2", "host": "apim.azure-api.net", "header": None, "enabled": None},
        {"id": f"{origin}3", "host": "apim.azure-api.net", "header": None, "enabled": "Disabled"},
        {"id": f"{origin}4", "host": None, "header": None, "enabled": "Enabled"},
    ]

    assert [
        Front(f"{origin}1", "Front Door afd", "apim.azure-api.net", "api.contoso.com", ()),
        Front(f"{origin}2", "Front Door afd", "apim.azure-api.net", "apim.azure-api.net", ()),
    ] == list(fronts.of_front_door(rows))


FRONT = Front(ID, "Application Gateway agw", "apim.azure-api.net", "api.contoso.com", ())
LOG = "The root certificate of the server certificate does not match"
HEALTHS = {
    "up": ({"health": "Up"}, False),
    "down because of the certificate": ({"health": "Down", "healthProbeLog": LOG}, True),
    "down for another reason": (
        {"health": "Down", "healthProbeLog": "Received invalid status code: 404"},
        False,
    ),
    "up, whatever the log says": ({"health": "Up", "healthProbeLog": LOG}, False),
    "another backend": ({"address": "10.0.0.1", "health": "Down", "healthProbeLog": LOG}, None),
}


@pytest.mark.parametrize(("server", "distrusts"), HEALTHS.values(), ids=HEALTHS)
def test_backend_health_is_believed_only_of_certificates(
    server: dict[str, str], *, distrusts: bool | None
) -> None:
    """Proves that a backend that is down for its own reasons is not told as one that is distrusted."""
    of = {"address": "apim.azure-api.net", **server}
    health = {"backendAddressPools": [{"backendHttpSettingsCollection": [{"servers": [of]}]}]}

    assert distrusts is fronts.health(FRONT, health).distrusts


def test_a_health_of_another_shape_is_refused() -> None:
    """Proves that nothing is read into it."""
    with pytest.raises(ValueError, match="no list"):
        fronts.health(FRONT, {"backendAddressPools": "all well"})
    assert BackendHealth(FRONT.name, None, "it says nothing of apim.azure-api.net") == fronts.health(
        FRONT, {}
    )


def test_the_kind_says_in_words_what_it_does_not_do() -> None:
    """Proves that a person is told of the step that is theirs."""
    assert "This app does not do that." in KIND.not_looking
