"""Workspace gateways: resources of their own, whose hostnames read Key Vault each for itself. No sockets.

A hostname binding serves what it last read: when it was made, or when a refresh of it had ended. What it does
by itself is not documented, so here it does nothing.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sandbox.certificates import Leaf

if TYPE_CHECKING:
    from sandbox.world import Certificate, TlsFault, Version, World


class HostnameBinding:
    """A hostname of a workspace gateway."""

    type = "Proxy"

    def __init__(self, gateway: "WorkspaceGateway", name: str, host_name: str, of: "Certificate") -> None:
        self.gateway = gateway
        self.name = name
        self.host_name = host_name
        self.certificate = of
        self.refreshes: list[datetime] = []
        self.created = gateway.world.clock.now()

    @property
    def id(self) -> str:
        """The ARM resource id."""
        return f"{self.gateway.id}/hostnameBindings/{self.name}"

    def refresh(self) -> int:
        """Start to read Key Vault; returns the number of the operation."""
        self.refreshes.append(self.gateway.world.clock.now() + self.gateway.refresh_takes)
        return len(self.refreshes) - 1

    def held_at(self, moment: datetime) -> "Version":
        """What it has at a moment."""
        return self.certificate.newest_at(self._last(moment, succeeded=True))

    def body(self, now: datetime) -> dict[str, Any]:
        """As ARM shows it: GatewayHostnameBindingResource."""
        held, tried = self.held_at(now), self._last(now)
        failed = not self._succeeds(tried)
        status = {"code": "Failed" if failed else "Success", "timeStampUtc": _stamp(tried)}
        if failed:
            status["lastSuccessTimeStampUtc"] = _stamp(self._last(now, succeeded=True))
        busy = any(now < ends for ends in self.refreshes)
        return {
            "id": self.id,
            "type": "Microsoft.ApiManagement/gateways/hostnameBindings",
            "name": self.name,
            "properties": {
                "provisioningState": "Updating" if busy else "Succeeded",
                "hostname": self.host_name,
                "keyVault": {"secretId": self.certificate.secret_id, "lastStatus": status},
                "certificate": {
                    "thumbprint": held.thumbprint,
                    "subject": held.subject,
                    "expiry": _stamp(held.not_after),
                },
            },
        }

    def _last(self, moment: datetime, *, succeeded: bool = False) -> datetime:
        """When it last read Key Vault by a moment, or tried to."""
        reads = (at for at in self.refreshes if at <= moment and (not succeeded or self._succeeds(at)))
        return max(reads, default=self.created)

    def _succeeds(self, at: datetime) -> bool:
        return at == self.created or (self.gateway.can_read_vault and self.certificate.readable_at(at))


class WorkspaceGateway:
    """A workspace gateway with its units, in one location.

    Args:
        world: where it is.
        name: the last part of its id.
        hostnames: certificates by hostname.
        units: scale units.
        tags: of the resource.
    """

    def __init__(
        self,
        world: "World",
        name: str,
        hostnames: "Mapping[str, Certificate]",
        *,
        units: int = 1,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.world = world
        self.name = name
        self.location = "West Europe"
        self.regions = {self.location: units}
        self.tags = dict(tags or {})
        self.refresh_takes = timedelta(minutes=5)
        self.offers_refresh = True
        self.can_read_vault = True
        self.down: set[str] = set()
        self.gateway_disabled: set[str] = set()
        self.tls_faults: dict[str, TlsFault | str] = {}
        self.bindings = [
            HostnameBinding(self, host.replace(".", "-"), host, certificate)
            for host, certificate in hostnames.items()
        ]

    @property
    def id(self) -> str:
        """The ARM resource id."""
        return (
            f"/subscriptions/{self.world.subscription_id}/resourceGroups/rg-apim"
            f"/providers/Microsoft.ApiManagement/gateways/{self.name}"
        )

    @property
    def builtin_host(self) -> str:
        """The name that it has without any of its own."""
        return f"{self.name}-{uuid.uuid5(uuid.NAMESPACE_URL, self.id).hex[:8]}.gateway.invalid"

    @property
    def default_hostname(self) -> HostnameBinding | None:
        """What clients without SNI get."""
        return next(iter(self.bindings), None)

    def hostname(self, name: str) -> HostnameBinding | None:
        """The hostname a server name belongs to."""
        return next((each for each in self.bindings if each.host_name.casefold() == name.casefold()), None)

    def served(self, host_name: str, region: str, unit: int, now: datetime) -> "Version | Leaf":
        """What a unit presents for a server name."""
        del region, unit
        binding = self.hostname(host_name)
        return binding.held_at(now) if binding else self.world.builtin

    def body(self) -> dict[str, Any]:
        """As ARM shows it: ApiManagementGatewayResource."""
        return {
            "id": self.id,
            "type": "Microsoft.ApiManagement/gateways",
            "name": self.name,
            "location": self.location,
            "tags": self.tags,
            "sku": {"name": "WorkspaceGatewayPremium", "capacity": self.regions[self.location]},
            "properties": {
                "provisioningState": "Succeeded",
                "frontend": {"defaultHostname": self.builtin_host},
                "virtualNetworkType": "None",
            },
        }


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
