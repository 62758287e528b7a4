"""What stands in front of a gateway: the backends of Application Gateways and of Front Door profiles.

An Application Gateway v2 believes a backend whose certificate ends in one of the trusted root certificates of
its backend settings, or, where there are none, in a public authority; else its clients get 502:
https://learn.microsoft.com/azure/application-gateway/application-gateway-backend-health-troubleshooting
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rotation.gateways.bodies import mapping, sequence
from rotation.model import BackendHealth, Front, Gateway, TrustedRoot, clean

Named = Mapping[str, Mapping[str, Any]]
"""The properties of sub-resources, by id in lower case."""

_PROFILE = re.compile(r"/profiles/([^/]+)/origingroups/", re.IGNORECASE)
_UNHEALTHY = {"down", "unhealthy", "partial"}


def referred(properties: Mapping[str, Any], name: str) -> Named:
    """A list of sub-resources, to be followed by their ids.

    Raises:
        ValueError: it is of another shape.
    """
    bodies = [mapping(body, name) for body in sequence(properties, name)]
    return {str(body.get("id", "")).lower(): mapping(body.get("properties"), name) for body in bodies}


def follow(properties: Mapping[str, Any], name: str, to: Named) -> Mapping[str, Any]:
    """The properties of the sub-resource that a field refers to; empty where it does to none."""
    target = mapping(properties.get(name) or {}, name)
    return to.get(str(target.get("id", "")).lower(), {})


def listener_names(listener: Mapping[str, Any]) -> tuple[str, ...]:
    """The hostnames of a listener: one, several, or none at all."""
    names = [*sequence(listener, "hostNames"), listener.get("hostName")]
    return tuple(dict.fromkeys(clean(name).lower() for name in names if name))


def of_gateway(body: Mapping[str, Any], gateway: Gateway) -> Iterator[Front]:
    """The backends to which an Application Gateway connects by TLS.

    Raises:
        ValueError: the body is of another shape.
    """
    properties = mapping(body.get("properties"), "properties")
    pools = referred(properties, "backendAddressPools")
    roots = referred(properties, "trustedRootCertificates")
    found: dict[tuple[str, str], Front] = {}
    for names, pool, settings in _routes(properties):
        if str(settings.get("protocol", "")).lower() != "https" or not _verifies(settings):
            continue
        trusted = _roots(settings, roots)
        for target in _targets(follow({"pool": pool}, "pool", pools)):
            for hostname in _hostnames(settings, target, names):
                front = Front(gateway.id, f"Application Gateway {gateway.name}", target, hostname, trusted)
                found[target, hostname] = front
    yield from found.values()


def of_front_door(rows: Iterable[Mapping[str, Any]]) -> Iterator[Front]:
    """The origins of Front Door profiles, which believe public authorities only."""
    for row in rows:
        host, enabled = clean(row.get("host") or "").lower(), str(row.get("enabled") or "Enabled")
        profile = _PROFILE.search(str(row["id"]))
        if host and profile and enabled.lower() == "enabled":
            name = f"Front Door {clean(profile[1])}"
            yield Front(str(row["id"]), name, host, clean(row.get("header") or host).lower(), ())


def health(front: Front, body: Mapping[str, Any]) -> BackendHealth:
    """Whether a gateway in front takes its backend for unhealthy because of its certificate.

    A backend may be down for other reasons, of which nothing is said here: `healthProbeLog` has it in words.

    Raises:
        ValueError: the body is of another shape.
    """
    servers = [
        mapping(server, "server")
        for pool in sequence(body, "backendAddressPools")
        for settings in sequence(mapping(pool, "pool"), "backendHttpSettingsCollection")
        for server in sequence(mapping(settings, "settings"), "servers")
    ]
    mine = [server for server in servers if str(server.get("address", "")).lower() == front.target]
    if not mine:
        return BackendHealth(front.name, None, f"it says nothing of {front.target}")
    for server in mine:
        state, log = str(server.get("health", "")).lower(), clean(server.get("healthProbeLog") or "")
        if state in _UNHEALTHY and "certificate" in log.lower():
            return BackendHealth(front.name, distrusts=True, detail=log.rstrip("."))
    return BackendHealth(front.name, distrusts=False, detail="no fault of its certificate")


def _routes(
    properties: Mapping[str, Any],
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any], Mapping[str, Any]]]:
    """For each rule and path: the names of its listener, the pool it refers to, and its backend settings."""
    listeners = referred(properties, "httpListeners")
    settings = referred(properties, "backendHttpSettingsCollection")
    maps = referred(properties, "urlPathMaps")
    for rule in referred(properties, "requestRoutingRules").values():
        names = listener_names(follow(rule, "httpListener", listeners))
        yield names, _to(rule, "backendAddressPool"), follow(rule, "backendHttpSettings", settings)
        paths = follow(rule, "urlPathMap", maps)
        yield (
            names,
            _to(paths, "defaultBackendAddressPool"),
            follow(paths, "defaultBackendHttpSettings", settings),
        )
        for path in referred(paths, "pathRules").values():
            yield names, _to(path, "backendAddressPool"), follow(path, "backendHttpSettings", settings)


def _to(properties: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return mapping(properties.get(name) or {}, name)


def _verifies(settings: Mapping[str, Any]) -> bool:
    """Whether it verifies its backend: newer gateways can be told not to."""
    return settings.get("validateCertChainAndExpiry") is not False


def _targets(pool: Mapping[str, Any]) -> Iterator[str]:
    for address in sequence(pool, "backendAddresses"):
        found = mapping(address, "backend address")
        if target := found.get("fqdn") or found.get("ipAddress"):
            yield clean(target).lower()


def _hostnames(settings: Mapping[str, Any], target: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """What a backend is asked for: a name of its own, that of the backend, or the one that came in."""
    if settings.get("hostName"):
        return (clean(settings["hostName"]).lower(),)
    return (target,) if settings.get("pickHostNameFromBackendAddress") else names


def _roots(settings: Mapping[str, Any], roots: Named) -> tuple[TrustedRoot, ...] | None:
    """The trusted roots of backend settings; None where one of them is not to be seen."""
    references = [mapping(each, "trusted root") for each in sequence(settings, "trustedRootCertificates")]
    found = [_root(roots.get(str(each.get("id", "")).lower(), {}).get("data")) for each in references]
    known = tuple(root for root in found if root)
    return known if len(known) == len(references) else None


def _root(data: object) -> TrustedRoot | None:
    """A certificate as ARM has it: base64 of DER, or of PEM."""
    from rotation.clients.x509 import describe

    try:
        der = base64.b64decode(str(data or ""), validate=True)
        if der.startswith(b"-----BEGIN"):
            der = base64.b64decode(b"".join(der.strip().splitlines()[1:-1]), validate=True)
    except binascii.Error:
        return None
    root = describe(der)
    return TrustedRoot(root.subject, root.thumbprint) if root.not_after else None
