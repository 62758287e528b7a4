"""Which gateways a scope selects, and what stands in front of them. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from rotation.model import Authority, Front, Gateway, Scope


def select(gateways: Iterable[Gateway], scope: Scope) -> tuple[Gateway, ...]:
    """The gateways in scope, each whole: a sync covers all hostnames, so all of them are judged.

    Those of earlier rings with the same certificates are selected too, because the later ones wait for them.
    """
    included = [gateway for gateway in gateways if not gateway.excluded]
    chosen = {gateway.key: gateway for gateway in included if _selects(scope, gateway)}
    later = [gateway for gateway in chosen.values() if gateway.ring]
    return tuple(g for g in included if g.key in chosen or any(comes_before(g, one) for one in later))


def comes_before(gateway: Gateway, later: Gateway) -> bool:
    """Whether the one has to be proven before the other is synced; what is not served proves nothing."""
    earlier = gateway.ring < later.ring and not gateway.kind.not_served
    return earlier and not gateway.certificates.isdisjoint(later.certificates)


def _selects(scope: Scope, gateway: Gateway) -> bool:
    if scope.gateway_id is not None:
        return gateway.key == scope.gateway_id.lower()
    if scope.hostname is not None:
        return any(b.hostname.lower() == scope.hostname.lower() for b in gateway.bindings)
    if scope.certificate is not None:
        return scope.certificate in gateway.certificates
    if scope.vault_host is not None:
        return any(certificate.vault_host == scope.vault_host for certificate in gateway.certificates)
    return scope.shard is None or scope.shard.holds(gateway.key)


def authorities(
    found: Iterable[Authority], gateways: Iterable[Gateway], scope: Scope
) -> tuple[Authority, ...]:
    """Those of the services whose gateways are selected; all of them where nothing is named."""
    services = {(gateway.service_id or gateway.id).lower() for gateway in gateways}
    return tuple(each for each in found if scope.everything or each.service_id.lower() in services)


def in_front(gateways: Iterable[Gateway], fronts: Iterable[Front]) -> list[Gateway]:
    """The gateways, each with the fronts whose backend it is."""
    targets = [(front.target.lower(), front) for front in fronts]
    if not targets:
        return list(gateways)
    return [
        replace(gateway, fronts=tuple(front for target, front in targets if target in gateway.addresses))
        for gateway in gateways
    ]
