"""Application Gateways in the simulator: listeners that serve a certificate, and backends that they believe.

One has the face of a service, so that everything that watches services watches it too: its instances are
scale units, a sync is a tag, and what a listener out of service presents is `NOTHING`. The truth is that of
the sandbox: it looks every four hours and when it is changed, which a tag may be or not.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from rotation.gateways import fronts
from rotation.gateways.application_gateway import TAG_ASKED, from_arm
from rotation.model import BackendHealth, Front, Gateway
from sandbox import world as sandbox
from sandbox.application_gateway import POLLS_EVERY, ApplicationGateway, Backend
from sandbox.certificates import Leaf
from tests.simulation.issuers import PUBLIC, LeanLeaf
from tests.simulation.loop import EPOCH
from tests.simulation.managed import ALLOWED_VAULTS, SUFFIX

NOTHING = Leaf(b"", "", "", (), EPOCH, EPOCH)
NO_LEAF = NOTHING.thumbprint
ADVICE = "Resolve Azure Key Vault issue for your Application Gateway"
_BAD_ROOT = "The root certificate of the server certificate used by the backend does not match."


class _Probing(ApplicationGateway):
    """What is believed goes by the root that a leaf names: there is no chain to be verified."""

    def _probed(self, backend: Backend, now: datetime) -> dict[str, str]:
        if believes(backend.roots, presented(backend, now)):
            return {"health": "Up", "healthProbeLog": "Success. Received 200 status code"}
        return {"health": "Down", "healthProbeLog": _BAD_ROOT}


def believes(roots: Sequence[str], leaf: Leaf) -> bool:
    """Whether who trusts these roots, or public ones where there are none, believes a leaf."""
    return isinstance(leaf, LeanLeaf) and leaf.root in (roots or (PUBLIC,))


def presented(backend: Backend, now: datetime) -> Leaf:
    """What a backend shows to whom stands in front: its first unit."""
    served = backend.service.served(backend.hostname, backend.service.location, 0, now)
    return served.leaf if isinstance(served, sandbox.Version) else served


class Listening(sandbox.Service):
    """An Application Gateway with the face of a service.

    Args:
        world: where it lives.
        name: its name.
        instances: how many there are.
        hostnames: what its listeners serve.
        subscription_id: where it lives.
        backends: what it stands in front of.
    """

    def __init__(
        self,
        world: sandbox.World,
        name: str,
        *,
        instances: int,
        hostnames: Sequence[sandbox.Hostname],
        subscription_id: str,
        backends: Sequence[Backend],
    ) -> None:
        self.gateway = _Probing(
            world,
            name,
            hostnames=hostnames,
            instances=instances,
            subscription_id=subscription_id,
            backends=backends,
        )
        super().__init__(
            world,
            name,
            number=len(world.services),
            regions=self.gateway.regions,
            sku="WAF_v2",
            hostnames=hostnames,
            subscription_id=subscription_id,
            resource_group=self.gateway.resource_group,
            virtual_network_type="None",
            tags={},
        )
        self.advised = True
        self.accepts_with = 200
        self.update_duration = self.gateway.switches.change_takes
        self._bodies: dict[tuple[object, ...], tuple[Gateway, tuple[Front, ...]]] = {}

    @property
    def id(self) -> str:
        """The ARM resource id."""
        return self.gateway.id

    @property
    def identity_can_read_vault(self) -> bool:
        """Whether its identity may get secrets."""
        return self.gateway.identity_can_read_vault

    @identity_can_read_vault.setter
    def identity_can_read_vault(self, allowed: bool) -> None:
        self.gateway.identity_can_read_vault = allowed

    def provisioning_state(self, now: datetime) -> str:
        """What ARM says that it is up to."""
        return self.gateway.provisioning_state(now)

    def begin_sync(self) -> sandbox.Update:
        """Set the tag; a gateway that is being changed refuses that."""
        now = self.world.clock.now()
        if self.provisioning_state(now) != "Succeeded":
            raise sandbox.ServiceLockedError(self.name)
        self.gateway.merge_tags({TAG_ASKED: now.isoformat()})
        looks = self.gateway.switches.looks_when_tagged
        update = sandbox.Update("tag", now, now + self.update_duration, reads_vault=looks, locks=looks)
        self.updates.append(update)
        return update

    def begin_foreign_update(self, duration: timedelta) -> sandbox.Update:
        """A change by hand: it looks when that is done, and takes as long as it always does."""
        self.gateway.save()
        now = self.world.clock.now()
        return sandbox.Update("saved", now, now + duration, reads_vault=True, locks=True)

    def served(self, host_name: str, region: str, unit: int, now: datetime) -> sandbox.Version | Leaf:
        """What one instance presents."""
        del region
        return self.instead.get(host_name) or self.gateway.served(host_name, unit, now) or NOTHING

    def next_change(self, now: datetime) -> datetime:
        """When a look, or the end of a change, may next show at some instance."""
        gateway, moment = self.gateway, now + POLLS_EVERY + timedelta(minutes=5)
        ended = (change.began + gateway.switches.change_takes for change in gateway.changes)
        lags = [unit * gateway.switches.unit_lag for unit in range(self.regions[self.location])]
        due = (at + lag for at in (*gateway.looks(moment), *ended) for lag in lags)
        return min((at for at in due if at > now), default=moment)

    def vault_error(self, now: datetime) -> str | None:
        """What Azure Advisor says of a gateway with a listener out of service, where it has noticed."""
        gateway = self.gateway
        disabled = self.advised and any(gateway.disabled(host, now) for host in self.hostnames)
        return ADVICE if disabled else None

    def describe(self, now: datetime) -> tuple[Gateway, tuple[Front, ...]]:
        """The gateway as the product reads it, and what it stands in front of."""
        state, error, backends = self.provisioning_state(now), self.vault_error(now), self.gateway.backends
        key = (state, error, backends)
        if key not in self._bodies:
            body = self.gateway.body(now)
            addresses = {self.gateway.public_address_id.lower(): self.gateway.public_address}
            found = from_arm(body, addresses, SUFFIX, ALLOWED_VAULTS)
            found = replace(found, vault_error=error)
            self._bodies[key] = found, tuple(fronts.of_gateway(body, found))
        return self._bodies[key]

    def health(self, front: Front, now: datetime) -> BackendHealth:
        """What it says of its backend, as the product reads it."""
        return fronts.health(front, self.gateway.backend_health(now))

    def distrusts(self, front: Front) -> bool:
        """Whether it truly does not believe what its backend shows now."""
        now = self.world.clock.now()
        return any(
            not believes(backend.roots, presented(backend, now))
            for backend in self.gateway.backends
            if (backend.target, backend.hostname) == (front.target, front.hostname)
        )

    def leads_to(self, certificate: sandbox.Certificate) -> bool:
        """Whether one of its backends serves a certificate."""
        found = (backend.service.hostname(backend.hostname) for backend in self.gateway.backends)
        return any(hostname and hostname.certificate is certificate for hostname in found)

    def trust(self, root: str) -> None:
        """Have its backend settings believe what is under a root: by hand, after which it looks.

        Where that is a public one, there must be none of its own.
        """
        self.gateway.backends = tuple(
            replace(it, roots=() if root == PUBLIC else (*it.roots, root)) for it in self.gateway.backends
        )
        self.gateway.save()


def backends(world: sandbox.World) -> list[tuple[tuple[str, str], Backend]]:
    """All backends in a world, each with the key of its service and the hostname that it is asked for."""
    return [
        ((backend.service.id.lower(), backend.hostname), backend)
        for gateway in world.application_gateways
        for backend in gateway.backends
    ]
