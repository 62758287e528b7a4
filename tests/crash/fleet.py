"""Thousands of services: too many for a port and a setting each, so a few load balancers serve them all.

Which service a connection is for, its server name says, as in Azure; only the addresses are shared.
"""

from sandbox.azure import Azure
from sandbox.certificates import Leaf
from sandbox.tls_gateway import Contexts, Listener
from sandbox.world import Certificate, Hostname, Service, TlsFault, Version, World
from tests.crash.scene import Scene

ADDRESSES = 64
REGION = "West Europe"


class FleetService(Service):
    """A service that shares its address with every sixty-fourth."""

    def regional_host(self, region: str) -> str:  # noqa: ARG002 - there is but one
        """The address of its load balancer."""
        return f"fleet-{self.number % ADDRESSES}-01.regional.azure-api.net"


class Fleet:
    """Services that all use one wildcard certificate, in a world of their own.

    Args:
        world: an empty one.
        services: how many.
    """

    def __init__(self, world: World, services: int) -> None:
        self.world = world
        self.certificate: Certificate = world.add_vault("kv-contoso").add_certificate(
            "wild", ["*.contoso.com"]
        )
        self.silent = False
        self._by_name: dict[str, FleetService] = {}
        for number in range(services):
            hostname = Hostname(f"api{number}.contoso.com", certificate=self.certificate)
            service = FleetService(
                world,
                f"apim-{number:05}",
                number=number,
                regions={REGION: 1},
                sku="Premium",
                hostnames=[hostname],
                subscription_id=world.subscription_id,
                resource_group="rg-apim",
                virtual_network_type="None",
                tags={},
            )
            world.services.append(service)
            self._by_name[hostname.host_name] = service

    @property
    def addresses(self) -> list[Service]:
        """One service of each address."""
        return self.world.services[:ADDRESSES]

    def silence(self, *, silent: bool) -> None:
        """Have every gateway take connections and say nothing, or speak again."""
        for service in self.addresses:
            service.tls_faults = {REGION: TlsFault.SILENT} if silent else {}

    def served(self, name: str | None) -> Version | Leaf:
        """What is presented for a server name; a built-in one, or none, gets the built-in certificate."""
        service = self._by_name.get(name or "")
        now = self.world.clock.now()
        return service.served(name or "", REGION, 0, now) if service else self.world.builtin


class FleetScene(Scene):
    """A scene with a fleet in it."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet.world)
        self.fleet = fleet

    def _azure(self) -> Azure:
        return _FleetAzure(self.fleet)


class _FleetAzure(Azure):
    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet.world)
        self._fleet = fleet

    async def _listen(self, service: Service) -> None:
        host = service.regional_host(REGION)
        if host not in self._connect_to:
            self._connect_to[host] = self._listen_with(_Balancer(service, self._contexts, self._fleet).answer)


class _Balancer(Listener):
    def __init__(self, service: Service, contexts: Contexts, fleet: Fleet) -> None:
        super().__init__(service, REGION, contexts)
        self._fleet = fleet

    def _served(self, name: str | None, _: int) -> Version | Leaf:
        return self._fleet.served(name)
