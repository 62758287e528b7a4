"""An Application Gateway v2: listeners that serve what was read from Key Vault when it looked last.

It looks every four hours of the world's clock, and when it is changed. Whether a tag is a change is a switch,
because Azure's documents say so of resource tags without saying how they are set. A look that fails puts the
listeners of that certificate out of service until one succeeds.
"""

import base64
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sandbox.certificates import Leaf, chains_to, der_of
from sandbox.world import Hostname, Service, TlsFault, Version, World

POLLS_EVERY = timedelta(hours=4)
NETWORK = "providers/Microsoft.Network"
KEY_VAULT_ISSUE = "3467464b-955a-4caf-95e5-547344ba0281"

_MISMATCH = (
    "The root certificate of the server certificate used by the backend does not match the trusted root"
    " certificate added to the application gateway. Ensure that you add the correct root certificate to"
    " allowlist the backend."
)


@dataclass(frozen=True, slots=True)
class Backend:
    """A service behind a gateway: `target` is its address there, `roots` (PEM) are trusted for it."""

    service: Service
    target: str
    hostname: str
    roots: tuple[str, ...] = ()
    protocol: str = "Https"


@dataclass(slots=True)
class FrontDoor:
    """An origin of a Front Door profile, as Resource Graph shows it."""

    name: str
    host: str
    header: str
    subscription_id: str = ""


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of the gateway: it looks when that is done."""

    began: datetime
    looks: bool


@dataclass(slots=True)
class _Switches:
    """What differs from gateway to gateway."""

    looks_when_tagged: bool = True
    polls: bool = True
    change_takes: timedelta = timedelta(minutes=2)
    unit_lag: timedelta = timedelta(seconds=20)
    stopped: bool = False


class ApplicationGateway:
    """A gateway with one HTTPS listener for each hostname; an empty one is a listener for any name.

    Args:
        world: where it lives.
        name: its name, and that of its public IP resource.
        hostnames: what its listeners serve.
        instances: how many there are.
        most_instances: with autoscale, the most there may be.
        private: whether its frontend is a private address.
        port: of all listeners.
        backends: what it leads to.
        tier: of its SKU.
        subscription_id: the main one unless given.
        tags: as ARM shows them.
    """

    location = "West Europe"
    resource_group = "rg-network"

    def __init__(
        self,
        world: World,
        name: str,
        *,
        hostnames: Sequence[Hostname] = (),
        instances: int = 2,
        most_instances: int | None = None,
        private: bool = False,
        port: int = 443,
        backends: Sequence[Backend] = (),
        tier: str = "WAF_v2",
        subscription_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.world = world
        self.name = name
        self.number = len(world.application_gateways)
        self.hostnames = tuple(hostnames)
        self.regions = {self.location: instances}
        self.most_instances = most_instances
        self.private = private
        self.port = port
        self.backends = tuple(backends)
        self.tier = tier
        self.subscription_id = subscription_id or world.subscription_id
        self.tags = dict(tags or {})
        self.created = world.clock.now()
        self.switches = _Switches()
        self.changes: list[_Change] = []
        self.down: set[str] = set()
        self.gateway_disabled: set[str] = set()
        self.tls_faults: dict[str, TlsFault | str] = {}
        self._can_read_vault = world.timeline(value=True)
        self._first: dict[Hostname, Version | Leaf] = {host: _begin_with(host) for host in self.hostnames}
        world.application_gateways.append(self)

    @property
    def id(self) -> str:
        """The ARM resource id."""
        group = f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
        return f"{group}/{NETWORK}/applicationGateways/{self.name}"

    @property
    def public_address_id(self) -> str:
        """The ARM resource id of its public IP."""
        return self.id.replace("applicationGateways", "publicIPAddresses")

    @property
    def address(self) -> str:
        """Where its listeners are: an address reserved for documentation, or a private one."""
        return f"10.250.{self.number // 250}.{self.number % 250 + 4}" if self.private else self.public_address

    @property
    def public_address(self) -> str:
        """That of its public IP."""
        return f"198.51.100.{self.number % 254 + 1}"

    @property
    def identity_can_read_vault(self) -> bool:
        """Whether its user-assigned identity may get secrets."""
        return self._can_read_vault.now

    @identity_can_read_vault.setter
    def identity_can_read_vault(self, allowed: bool) -> None:
        self._can_read_vault.set(allowed)

    @property
    def asked(self) -> list[datetime]:
        """When its tags were changed through the tags operation."""
        return [change.began for change in self.changes]

    def guid(self, purpose: str) -> str:
        """A GUID of this gateway, always the same for the same purpose."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.id}#{purpose}"))

    def merge_tags(self, tags: Mapping[str, str]) -> None:
        """Microsoft.Resources/tags with Merge; what is the same as before is no change."""
        before = dict(self.tags)
        self.tags |= tags
        if self.tags != before:
            self.changes.append(_Change(self.world.clock.now(), self.switches.looks_when_tagged))

    def save(self) -> None:
        """A change by hand: select the certificate again, and save."""
        self.changes.append(_Change(self.world.clock.now(), looks=True))

    def provisioning_state(self, now: datetime) -> str:
        """What ARM says the gateway is up to."""
        takes = self.switches.change_takes
        busy = any(change.looks and change.began <= now < change.began + takes for change in self.changes)
        return "Updating" if busy else "Succeeded"

    def looks(self, until: datetime) -> list[datetime]:
        """When it has looked into the vault, by its clock or because it was changed."""
        number = (until - self.created) // POLLS_EVERY if self.switches.polls else 0
        polls = [self.created + POLLS_EVERY * (n + 1) for n in range(number)]
        changed = [change.began + self.switches.change_takes for change in self.changes if change.looks]
        return sorted(at for at in (*polls, *changed) if at <= until)

    def _reads(self, hostname: Hostname, at: datetime) -> bool:
        """Whether a look at a moment finds the certificate of a hostname."""
        certificate = hostname.certificate
        if certificate is None:
            return True
        exists = hostname.pinned_version is not None or certificate.readable_at(at)
        return self._can_read_vault.at(at) and exists

    def disabled(self, hostname: Hostname, now: datetime) -> bool:
        """Whether the last look has put its listener out of service."""
        looks = self.looks(now)
        return bool(looks) and not self._reads(hostname, looks[-1])

    def hostname(self, name: str) -> Hostname | None:
        """The listener for a server name: an exact one, a wildcard, or the one for any name."""
        exact = [h for h in self.hostnames if h.host_name and h.matches(name)]
        best = min(exact, key=lambda hostname: hostname.host_name.startswith("*."), default=None)
        return best or next((h for h in self.hostnames if not h.host_name), None)

    def served(self, name: str | None, unit: int, now: datetime) -> Version | Leaf | None:
        """What one instance presents for a server name; None where no listener is there for it."""
        hostname = self.hostname(name or "")
        if hostname is None or self.switches.stopped or self.disabled(hostname, now):
            return None
        moment = now - unit * self.switches.unit_lag
        certificate = hostname.certificate
        if certificate is None or hostname.pinned_version:
            return self._first[hostname]
        read = [at for at in self.looks(moment) if self._reads(hostname, at)]
        return certificate.newest_at(read[-1]) if read else self._first[hostname]

    def body(self, now: datetime) -> dict[str, Any]:
        """The gateway as ARM shows it."""
        identity = f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
        identity += f"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{self.name}-identity"
        return {
            "name": self.name,
            "id": self.id,
            "etag": f'W/"{self.guid(f"etag {len(self.changes)}")}"',
            "type": "Microsoft.Network/applicationGateways",
            "location": self.location.replace(" ", "").casefold(),
            "tags": dict(self.tags),
            "identity": {
                "type": "UserAssigned",
                "userAssignedIdentities": {
                    identity: {"principalId": self.guid("principal"), "clientId": self.guid("client")}
                },
            },
            "properties": self._properties(now),
        }

    def _sub(self, collection: str, name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
        shown = {"provisioningState": "Succeeded", **properties}
        kind = f"Microsoft.Network/applicationGateways/{collection}"
        return {"name": name, "id": f"{self.id}/{collection}/{name}", "type": kind, "properties": shown}

    def _to(self, collection: str, name: str) -> dict[str, str]:
        return {"id": f"{self.id}/{collection}/{name}"}

    def _properties(self, now: datetime) -> dict[str, Any]:
        sku: dict[str, Any] = {"name": self.tier, "tier": self.tier, "family": "Generation_1"}
        scale: dict[str, Any] = {}
        if self.most_instances is None:
            sku["capacity"] = self.regions[self.location]
        else:
            scale = {"autoscaleConfiguration": {"minCapacity": 0, "maxCapacity": self.most_instances}}
        frontend: dict[str, Any] = {"privateIPAllocationMethod": "Dynamic"}
        if self.private:
            frontend = {"privateIPAllocationMethod": "Static", "privateIPAddress": self.address}
        else:
            frontend["publicIPAddress"] = {"id": self.public_address_id}
        return {
            "provisioningState": self.provisioning_state(now),
            "operationalState": "Stopped" if self.switches.stopped else "Running",
            "sku": sku,
            **scale,
            "frontendIPConfigurations": [self._sub("frontendIPConfigurations", "frontend", frontend)],
            "frontendPorts": [self._sub("frontendPorts", "https", {"port": self.port})],
            "sslCertificates": list(self._certificates()),
            "httpListeners": list(self._listeners()),
            "backendAddressPools": [
                self._sub(
                    "backendAddressPools", f"pool-{n}", {"backendAddresses": [_address(backend.target)]}
                )
                for n, backend in enumerate(self.backends)
            ],
            "backendHttpSettingsCollection": [
                self._sub("backendHttpSettingsCollection", f"settings-{n}", self._settings(n, backend))
                for n, backend in enumerate(self.backends)
            ],
            "trustedRootCertificates": [
                self._sub(
                    "trustedRootCertificates",
                    f"root-{n}-{m}",
                    {"data": base64.b64encode(der_of(pem)).decode()},
                )
                for n, backend in enumerate(self.backends)
                for m, pem in enumerate(backend.roots)
            ],
            "requestRoutingRules": [
                self._sub("requestRoutingRules", f"rule-{n}", self._rule(n))
                for n in range(len(self.backends))
            ],
            "urlPathMaps": [],
        }

    def _certificates(self) -> Iterator[dict[str, Any]]:
        for n, hostname in enumerate(self.hostnames):
            source: dict[str, Any] = {"publicCertData": base64.b64encode(self._first[hostname].der).decode()}
            if hostname.key_vault_id:
                source = {"keyVaultSecretId": hostname.key_vault_id}
            yield self._sub("sslCertificates", f"certificate-{n}", source)

    def _listeners(self) -> Iterator[dict[str, Any]]:
        for n, hostname in enumerate(self.hostnames):
            name = hostname.host_name
            asked: dict[str, Any] = {"hostNames": [name] if name.startswith("*") else []}
            if name and not name.startswith("*"):
                asked["hostName"] = name
            yield self._sub(
                "httpListeners",
                f"listener-{n}",
                {
                    "frontendIPConfiguration": self._to("frontendIPConfigurations", "frontend"),
                    "frontendPort": self._to("frontendPorts", "https"),
                    "protocol": "Https",
                    "sslCertificate": self._to("sslCertificates", f"certificate-{n}"),
                    "requireServerNameIndication": bool(name),
                    **asked,
                },
            )

    def _settings(self, number: int, backend: Backend) -> dict[str, Any]:
        roots = [self._to("trustedRootCertificates", f"root-{number}-{m}") for m in range(len(backend.roots))]
        return {
            "port": 443 if backend.protocol == "Https" else 80,
            "protocol": backend.protocol,
            "cookieBasedAffinity": "Disabled",
            "hostName": backend.hostname,
            "pickHostNameFromBackendAddress": False,
            "requestTimeout": 20,
            **({"trustedRootCertificates": roots} if roots else {}),
        }

    def _rule(self, number: int) -> dict[str, Any]:
        listener = min(number, max(len(self.hostnames) - 1, 0))
        return {
            "ruleType": "Basic",
            "priority": 10 + number,
            "httpListener": self._to("httpListeners", f"listener-{listener}"),
            "backendAddressPool": self._to("backendAddressPools", f"pool-{number}"),
            "backendHttpSettings": self._to("backendHttpSettingsCollection", f"settings-{number}"),
        }

    def backend_health(self, now: datetime) -> dict[str, Any]:
        """What its probes find: ApplicationGatewayBackendHealth."""
        return {
            "backendAddressPools": [
                {
                    "backendAddressPool": self._to("backendAddressPools", f"pool-{n}"),
                    "backendHttpSettingsCollection": [
                        {
                            "backendHttpSettings": self._to("backendHttpSettingsCollection", f"settings-{n}"),
                            "servers": [{"address": backend.target, **self._probed(backend, now)}],
                        }
                    ],
                }
                for n, backend in enumerate(self.backends)
            ]
        }

    def _probed(self, backend: Backend, now: datetime) -> dict[str, str]:
        service = backend.service
        served = service.served(backend.hostname, service.location, 0, now)
        leaf = served.leaf if isinstance(served, Version) else served
        trusted = backend.roots or (self.world.ca.pem,)
        if backend.protocol == "Https" and not chains_to(leaf, trusted):
            return {"health": "Down", "healthProbeLog": _MISMATCH}
        return {"health": "Up", "healthProbeLog": "Success. Received 200 status code"}


def _begin_with(hostname: Hostname) -> Version | Leaf:
    if hostname.pinned_version:
        return hostname.pinned_version
    if hostname.certificate:
        return hostname.certificate.newest
    assert hostname.uploaded
    return hostname.uploaded


def _address(target: str) -> dict[str, str]:
    return {"ipAddress" if target.replace(".", "").isdecimal() else "fqdn": target}
