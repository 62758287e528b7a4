"""Self-hosted gateways in the simulator: a certificate entity and the replicas that serve it.

It has the face of a service, so that everything that watches services watches it too: its regions are the
replicas of its gateway, and a sync is a refresh of its entity, done at once.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from rotation.gateways import self_hosted
from rotation.model import Gateway
from sandbox import world as sandbox
from sandbox.certificates import Leaf
from sandbox.self_hosted import POLL, SelfHostedGateway

AT_ONCE = timedelta()


class Hosted(sandbox.Service):
    """An entity that all of its hostnames share; whoever is cut off goes on with what it has."""

    def __init__(self, world: sandbox.World, name: str, **options: Any) -> None:
        super().__init__(world, name, **options)
        self.gateway = SelfHostedGateway(self, name, (), list(self.regions))
        self.update_duration = AT_ONCE
        self.sets_updating = False
        self.accepts_with = 200

    def begin_foreign_update(self, duration: timedelta) -> sandbox.Update:
        """What happens to its service is nothing to an entity."""
        began = self.world.clock.now()
        return sandbox.Update("foreign", began, began + duration, reads_vault=False, locks=False)

    def served(self, host_name: str, region: str, unit: int, now: datetime) -> sandbox.Version | Leaf:
        """What a replica presents: the entity as of its last poll that got through."""
        del unit
        hostname = self.hostname(host_name)
        if hostname is None:
            return self.world.builtin
        return self.instead.get(hostname.host_name) or self._held(
            hostname, self.gateway._last_poll(region, now)
        )

    def next_change(self, now: datetime) -> datetime:
        """The next beat at which a replica may fetch something."""
        return now + POLL - (now - self.gateway.created) % POLL

    def last_read(self, now: datetime) -> datetime:
        """When the entity last read Key Vault, as far as that succeeded."""
        certificate = next(h.followed for h in self.hostnames if h.followed)
        reads = (at for at in self._reads(certificate, early=False) if at <= now)
        return max(reads, default=self.created)

    def has_had(self, version: sandbox.Version, since: datetime) -> bool:
        """Whether the entity had a version at a moment already, or, before a roll back, its leaf."""
        certificate = version.certificate
        return any(
            at <= since and certificate.newest_at(at).thumbprint == version.thumbprint
            for at in self._reads(certificate, early=False)
        )

    def vault_error(self, now: datetime) -> str | None:
        """Its own account of the last refresh, where that failed."""
        last = max((u.ends for u in self.updates if u.ends <= now), default=None)
        return self.failure(last) if last and last > self.last_read(now) else None


def as_entity(service: Hosted, gateway: Gateway, now: datetime) -> Gateway:
    """What `rotation.gateways.self_hosted` makes of an entity."""
    since = service.last_read(now)
    return replace(
        gateway,
        kind=self_hosted.KIND,
        vault_error=service.vault_error(now),
        bindings=tuple(
            replace(binding, configured_since=since) if binding.reference else binding
            for binding in gateway.bindings
        ),
    )
