"""API Management in the simulator: a service of the sandbox, as the product reads it from ARM."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from rotation.gateways.api_management import from_arm
from rotation.model import Gateway
from sandbox import world as sandbox
from sandbox.certificates import Leaf

SUFFIX = "vault.azure.net"
ALLOWED_VAULTS = frozenset({f"kv-mine.{SUFFIX}", f"kv-other.{SUFFIX}"})


def next_change(service: sandbox.Service, lags: Sequence[timedelta], now: datetime) -> datetime:
    """When an update, or a read of the service's own, may next show."""
    moments = [update.ends for update in service.updates]
    if service.self_sync_after is not None:
        followed = [hostname.certificate for hostname in service.hostnames if hostname.certificate]
        moments += [at + service.self_sync_after for it in followed for at in it.changed]
    due = (moment + lag for moment in moments for lag in lags)
    return min((moment for moment in due if moment > now), default=now + timedelta(days=1))


def describe(
    service: sandbox.Service, state: str, configured: Sequence[sandbox.Version | Leaf | None]
) -> Gateway:
    """What the product makes of ARM's body."""
    return from_arm(_body(service, state, configured), SUFFIX, ALLOWED_VAULTS)


def hostname_type(service: sandbox.Service, hostname: str) -> str:
    """Proxy, Portal, Management, ..."""
    found = service.hostname(hostname)
    return found.type if found else "Proxy"


def _body(
    service: sandbox.Service, state: str, configured: Sequence[sandbox.Version | Leaf | None]
) -> dict[str, Any]:
    """The part of ARM's body that anybody reads; `sandbox.arm` has the whole."""

    def place(region: str) -> dict[str, Any]:
        return {
            "location": region,
            "gatewayRegionalUrl": f"https://{service.regional_host(region)}",
            "sku": {"name": service.sku, "capacity": service.regions[region]},
            "disableGateway": region in service.gateway_disabled,
        }

    main, *others = service.regions
    hostnames = [
        {
            "type": hostname.type,
            "hostName": hostname.host_name,
            "certificate": {"thumbprint": shown.thumbprint} if shown else None,
            "keyVaultId": hostname.key_vault_id,
        }
        for hostname, shown in zip(service.hostnames, configured, strict=True)
    ]
    return {
        "id": service.id,
        "location": main,
        "sku": place(main)["sku"],
        "tags": service.tags,
        "properties": {
            **place(main),
            "provisioningState": state,
            "gatewayUrl": f"https://{service.builtin_host}",
            "additionalLocations": [place(region) for region in others],
            "hostnameConfigurations": hostnames,
        },
    }
