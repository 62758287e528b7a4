"""Certificate entities and named values of an API Management service, and self-hosted gateways. No sockets.

An entity holds what it last read of Key Vault: when it was told to, or by itself within four hours. A named
value is one that takes a while to read, and does not show what it holds. A gateway
holds what it last fetched of its service's configuration, every ten seconds while it can reach it; cut off,
it goes on with what it has. Both are computed when somebody asks, as everything in the world is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sandbox.certificates import Leaf

if TYPE_CHECKING:
    from sandbox.world import Certificate, Service, TlsFault, Version

POLL = timedelta(seconds=10)
READS_VAULT_EVERY = timedelta(hours=4)
TIERS = frozenset({"Developer", "Premium"})


@dataclass(frozen=True, slots=True)
class VaultRead:
    """One attempt of an entity to read Key Vault: `error` is None where it succeeded."""

    at: datetime
    error: str | None


class Entity:
    """A certificate entity: from Key Vault, or uploaded.

    Args:
        service: whose it is; its identity reads the vault.
        name: the last part of its id.
        certificate: the Key Vault certificate that it follows.
        pinned: whether it refers to the version that is the newest now.
        uploaded: what it holds where it follows none.
        workspace: the workspace of the service in which it is, if it is in one.
    """

    collection = "certificates"
    takes = timedelta(0)

    def __init__(
        self,
        service: "Service",
        name: str,
        certificate: "Certificate | None" = None,
        *,
        pinned: bool = False,
        uploaded: Leaf | None = None,
        workspace: str | None = None,
    ) -> None:
        self.service = service
        self.name = name
        self.workspace = workspace
        self.certificate = certificate
        self.pinned = certificate.newest if certificate and pinned else None
        self.uploaded = uploaded
        self.refreshes: list[datetime] = []
        self.reads_by_itself = True
        self.created = service.world.clock.now()

    @property
    def id(self) -> str:
        """The ARM resource id."""
        parent = f"{self.service.id}/workspaces/{self.workspace}" if self.workspace else self.service.id
        return f"{parent}/{self.collection}/{self.name}"

    @property
    def secret_identifier(self) -> str | None:
        """What ARM shows of Key Vault: versionless unless it is pinned."""
        source = self.pinned or self.certificate
        return source.secret_id if source else None

    def refresh(self) -> None:
        """Read Key Vault now, or when that is due."""
        self.refreshes.append(self.service.world.clock.now() + self.takes)

    def last_read(self, moment: datetime) -> VaultRead | None:
        """The last attempt by a moment."""
        if self.certificate is None:
            return None
        return self._attempt(max(self._reads(moment)))

    def held_at(self, moment: datetime) -> "Version | Leaf":
        """The certificate that the entity has at a moment."""
        if self.certificate is None or self.pinned:
            held = self.pinned or self.uploaded
            assert held
            return held
        read = max((at for at in self._reads(moment) if not self._attempt(at).error), default=self.created)
        return self.certificate.newest_at(read)

    def _reads(self, moment: datetime) -> list[datetime]:
        own = [at for at in self.refreshes if at <= moment]
        if not self.reads_by_itself:
            return [self.created, *own]
        rounds = max(0, (moment - self.created) // READS_VAULT_EVERY)
        return [*(self.created + n * READS_VAULT_EVERY for n in range(rounds + 1)), *own]

    def _attempt(self, at: datetime) -> VaultRead:
        assert self.certificate
        allowed = self.service.can_read_vault(at) and self.certificate.readable_at(at)
        return VaultRead(at, None if allowed else self.service.vault_refusal(self.certificate))


class VaultValue(Entity):
    """A named value from Key Vault.

    Args:
        service: whose it is; its identity reads the vault.
        name: the last part of its id.
        certificate: the Key Vault certificate whose secret it holds, or
        secret: the URL of a secret that is no certificate's.
        pinned: whether it refers to the version that is the newest now.
        workspace: the workspace of the service in which it is, if it is in one.
    """

    collection = "namedValues"
    takes = timedelta(seconds=20)

    def __init__(
        self,
        service: "Service",
        name: str,
        certificate: "Certificate | None" = None,
        *,
        secret: str | None = None,
        pinned: bool = False,
        workspace: str | None = None,
    ) -> None:
        super().__init__(service, name, certificate, pinned=pinned, workspace=workspace)
        self.secret = secret

    @property
    def secret_identifier(self) -> str | None:
        """What ARM shows of Key Vault."""
        return self.secret or super().secret_identifier

    def last_read(self, moment: datetime) -> VaultRead | None:
        """The last attempt by a moment, also of a secret that is no certificate's."""
        if self.certificate:
            return super().last_read(moment)
        at = max(self._reads(moment))
        refusal = f"Failed to access KeyVault Secret {self.secret}."
        return VaultRead(at, None if self.service.can_read_vault(at) else refusal)


@dataclass(frozen=True, slots=True)
class HostnameConfiguration:
    """A hostname of a self-hosted gateway, tied to an entity."""

    host_name: str
    entity: Entity
    type: str = "Proxy"


class SelfHostedGateway:
    """A gateway in somebody's cluster.

    Args:
        service: whose configuration it fetches.
        name: the last part of its id.
        hostnames: what it serves.
        addresses: the host of each replica.
        authorities: entities that it was given as certificate authorities.
    """

    def __init__(
        self,
        service: "Service",
        name: str,
        hostnames: Sequence[HostnameConfiguration],
        addresses: Sequence[str],
        authorities: Sequence[Entity] = (),
    ) -> None:
        self.service = service
        self.world = service.world
        self.name = name
        self.hostnames = tuple(hostnames)
        self.authorities = tuple(authorities)
        self.regions = dict.fromkeys(addresses, 1)
        self.down: set[str] = set()
        self.gateway_disabled: set[str] = set()
        self.tls_faults: dict[str, TlsFault | str] = {}
        self._cut_off: dict[str, list[tuple[datetime, bool]]] = {}
        self.created = service.world.clock.now()

    @property
    def id(self) -> str:
        """The ARM resource id."""
        return f"{self.service.id}/gateways/{self.name}"

    @property
    def builtin_host(self) -> str:
        """A name that is none of its own: it then serves what it was made with."""
        return f"{self.name}.self-hosted.invalid"

    @property
    def default_hostname(self) -> HostnameConfiguration | None:
        """What clients without SNI get."""
        return next(iter(self.hostnames), None)

    def cut_off(self, *addresses: str, connected: bool = False) -> None:
        """Take the way to its service from some replicas, or from all; or give it back."""
        for address in addresses or self.regions:
            self._cut_off.setdefault(address, []).append((self.world.clock.now(), not connected))

    def connect(self, *addresses: str) -> None:
        """Give the way to its service back."""
        self.cut_off(*addresses, connected=True)

    def hostname(self, name: str) -> HostnameConfiguration | None:
        """The hostname a server name belongs to."""
        return next((h for h in self.hostnames if h.host_name.casefold() == name.casefold()), None)

    def served(self, host_name: str, region: str, unit: int, now: datetime) -> "Version | Leaf":
        """What one replica presents for a server name: as of its last poll that got through."""
        del unit  # a replica is one
        configuration = self.hostname(host_name)
        if configuration is None:
            return self.world.builtin
        return configuration.entity.held_at(self._last_poll(region, now))

    def _last_poll(self, address: str, now: datetime) -> datetime:
        """The newest moment of its ten-second beat at which it was connected."""
        until, cut = now, False
        for at, cut_off in self._cut_off.get(address, []):
            if at > now:
                break
            if cut_off and not cut:
                until = at
            elif not cut_off:
                until = now
            cut = cut_off
        return self.created + (until - self.created) // POLL * POLL
