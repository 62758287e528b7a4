"""The whole pretend Azure as one context manager: every server on one loop in one thread.

Says which settings lead an app to it, and has a small control server for a human with curl.
"""

import asyncio
import socket
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from sandbox.application_gateway import ApplicationGateway
from sandbox.arm import Arm
from sandbox.event_grid import EventGrid
from sandbox.event_grid_topic import HOST as TOPIC_HOST
from sandbox.event_grid_topic import EventGridTopic
from sandbox.identity import ManagedIdentity
from sandbox.ingestion import Ingestion
from sandbox.key_vault import KeyVault
from sandbox.tls_gateway import Contexts, Listener, Port
from sandbox.witness import INSTRUMENTATION_KEY, canary
from sandbox.workspace_gateway import WorkspaceGateway
from sandbox.world import Service, World

T = TypeVar("T")

_START_WITHIN = 30.0
_STOP_WITHIN = 15.0


class Azure:
    """Azure on 127.0.0.1 for as long as the context lasts.

    Args:
        world: its state; may be filled before and changed while it runs.
    """

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()
        self.event_grid = EventGrid(self.world)
        self._identity_header = canary()
        self._ports: dict[str, int] = {}
        self._connect_to: dict[str, int] = {}
        self._addresses: dict[tuple[str, int], int] = {}
        self._contexts = Contexts()
        self._open: list[Port] = []
        self._runners: list[web.AppRunner] = []

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox-azure", daemon=True)
        self._folder = tempfile.TemporaryDirectory(prefix="sandbox-azure-")
        self.ca_file = Path(self._folder.name) / "ca.pem"
        self.ca_file.write_text(self.world.ca.pem)
        self._thread.start()
        try:
            self._call(self._start(), _START_WITHIN)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._call(self._stop(), _STOP_WITHIN)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_WITHIN)
            self._loop.close()
            self._folder.cleanup()

    @property
    def arm_url(self) -> str:
        """Azure Resource Manager."""
        return f"https://127.0.0.1:{self._ports['arm']}"

    @property
    def identity_url(self) -> str:
        """The managed identity endpoint."""
        return f"http://127.0.0.1:{self._ports['identity']}/msi/token"

    @property
    def ingestion_url(self) -> str:
        """Application Insights."""
        return f"https://127.0.0.1:{self._ports['ingestion']}/"

    @property
    def control_url(self) -> str:
        """For a human: GET /, /clock, /telemetry, /local.settings.json; POST /renew, /advance, /drop-next."""
        return f"http://127.0.0.1:{self._ports['control']}"

    @property
    def connect_to(self) -> dict[str, int]:
        """The loopback port behind every host of the pretend Azure."""
        vaults = {vault.host: self._ports["vault"] for vault in list(self.world.vaults.values())}
        return vaults | {TOPIC_HOST: self._ports["topic"]} | self._connect_to

    @property
    def addresses(self) -> dict[tuple[str, int], int]:
        """The loopback port behind each listener that may have a port of its own, by address and port."""
        return dict(self._addresses)

    def app_settings(self) -> dict[str, str]:
        """The environment in which an app finds this Azure, whole and at once."""
        ingestion = self.ingestion_url
        at_443 = {(host, 443): port for host, port in self.connect_to.items()}
        connect_to = (f"{host}:{p}:127.0.0.1:{q}" for (host, p), q in (at_443 | self._addresses).items())
        return {
            "IDENTITY_ENDPOINT": self.identity_url,
            "IDENTITY_HEADER": self._identity_header,
            "APPLICATIONINSIGHTS_CONNECTION_STRING": (
                f"InstrumentationKey={INSTRUMENTATION_KEY};IngestionEndpoint={ingestion};LiveEndpoint={ingestion}"
            ),
            "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "Authorization=AAD",
            "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
            "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "true",
            "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
            "ROTATION_SUBSCRIPTIONS": ",".join(self.world.subscriptions),
            "ROTATION_ARM_URL": self.arm_url,
            "ROTATION_CA_BUNDLE": str(self.ca_file),
            "ROTATION_CONNECT_TO": ",".join(connect_to),
        }

    def expose(self, service: Service | ApplicationGateway) -> None:
        """Open the listeners of a service or gateway that was added after the start."""
        opened = self._listen(service) if isinstance(service, Service) else self._listen_at(service)
        self._call(opened, _START_WITHIN)

    def _call(self, work: Coroutine[Any, Any, T], within: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within)

    async def _start(self) -> None:
        world = self.world
        await self._serve("arm", Arm(world).app(), ["127.0.0.1", "management.azure.com"])
        await self._serve("vault", KeyVault(world).app(), ["127.0.0.1", "*.vault.azure.net"])
        await self._serve("ingestion", Ingestion(world).app(), ["127.0.0.1"])
        await self._serve("topic", EventGridTopic(world).app(), ["127.0.0.1", TOPIC_HOST])
        await self._serve("identity", ManagedIdentity(world, self._identity_header).app())
        await self._serve("control", _Control(self).app())
        for service in world.services:
            await self._listen(service)
        for gateway in world.application_gateways:
            await self._listen_at(gateway)
        for workspace_gateway in world.workspace_gateways:
            await self._listen_for(workspace_gateway)
        await self.event_grid.start()

    async def _serve(self, name: str, app: web.Application, names: Sequence[str] = ()) -> None:
        context: ssl.SSLContext | None = None
        if names:  # clients check these against the real time, whatever the sandbox's clock says
            context = self.world.ca.issue(names, days=3650).server_context()
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        self._runners.append(runner)
        await runner.setup()
        server = runner.server
        assert server is not None

        async def answer(connection: socket.socket) -> asyncio.Transport:
            transport, _ = await self._loop.connect_accepted_socket(server, connection, ssl=context)
            return transport

        self._ports[name] = self._listen_with(answer)

    async def _listen(self, service: Service) -> None:
        for region in service.regions:
            port = self._listen_with(Listener(service, region, self._contexts).answer)
            self._connect_to[service.regional_host(region)] = port
            if service.virtual_network_type == "Internal":
                self._connect_to[service.private_address(region)] = port
        self._connect_to[service.builtin_host] = self._connect_to[service.regional_host(service.location)]
        for gateway in service.self_hosted:
            for address in gateway.regions:
                self._connect_to[address] = self._listen_with(
                    Listener(gateway, address, self._contexts).answer
                )
        others = [hostname.host_name for hostname in service.hostnames if hostname.type != "Proxy"]
        if others:
            port = self._listen_with(
                Listener(service, service.location, self._contexts, gateway=False).answer
            )
            self._connect_to |= {name: port for name in others if not name.startswith("*")}

    async def _listen_for(self, gateway: WorkspaceGateway) -> None:
        port = self._listen_with(Listener(gateway, gateway.location, self._contexts).answer)
        self._connect_to |= {binding.host_name: port for binding in gateway.bindings}

    async def _listen_at(self, gateway: ApplicationGateway) -> None:
        port = self._listen_with(Listener(gateway, gateway.location, self._contexts).answer)
        self._addresses[gateway.address, gateway.port] = port

    def _listen_with(self, answer: Callable[[socket.socket], Awaitable[asyncio.Transport | None]]) -> int:
        port = Port(answer)
        self._open.append(port)
        return port.number

    async def _stop(self) -> None:
        await self.event_grid.stop()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        await asyncio.gather(*(port.close() for port in self._open))
        await asyncio.sleep(0.01)  # aborted transports close their sockets in the next turns of the loop


class _Control:
    """The knobs, for a human."""

    def __init__(self, azure: Azure) -> None:
        self._azure = azure
        self._world = azure.world
        self._event_grid = azure.event_grid

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._state)
        app.router.add_get("/clock", self._clock)
        app.router.add_get("/telemetry", self._telemetry)
        app.router.add_get("/local.settings.json", self._local_settings)
        app.router.add_post("/renew", self._renew)
        app.router.add_post("/advance", self._advance)
        app.router.add_post("/drop-next", self._drop_next)
        return app

    async def _state(self, _: web.Request) -> web.Response:
        world = self._world
        state = {
            "now": _iso(world.clock.now()),
            "services": {service.name: _service_state(service) for service in world.services},
            "vaults": {
                vault.name: {
                    certificate.name: [
                        {"version": version.id, "thumbprint": version.thumbprint, "enabled": version.enabled}
                        for version in certificate.versions
                    ]
                    for certificate in vault.certificates.values()
                }
                for vault in world.vaults.values()
            },
            "counts": {
                "requests": len(world.requests),
                "deliveries": len(self._event_grid.deliveries),
                "pending_deliveries": self._event_grid.pending,
                "custom_events": len(world.custom_events()),
            },
        }
        return web.json_response(state)

    async def _clock(self, _: web.Request) -> web.Response:
        return web.json_response({"now": _iso(self._world.clock.now())})

    async def _telemetry(self, _: web.Request) -> web.Response:
        return web.json_response([event._asdict() for event in self._world.custom_events()])

    async def _local_settings(self, _: web.Request) -> web.Response:
        """What `func start` reads, so that Microsoft's own host runs the app against this Azure."""
        values = {
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "AzureWebJobsStorage": "UseDevelopmentStorage=true",
            "ROTATION_MODE": "enforce",
            **self._azure.app_settings(),
        }
        return web.json_response({"IsEncrypted": False, "Values": values})

    async def _renew(self, request: web.Request) -> web.Response:
        vault = self._world.vaults.get(request.query.get("vault", "").casefold())
        wanted = request.query.get("certificate", "").casefold()
        certificate = vault.certificates.get(wanted) if vault else None
        if certificate is None:
            return web.json_response({"error": "no such vault and certificate"}, status=404)
        version = certificate.renew()
        return web.json_response({"version": version.id, "thumbprint": version.thumbprint})

    async def _advance(self, request: web.Request) -> web.Response:
        try:
            self._world.clock.advance(timedelta(minutes=float(request.query["minutes"])))
        except (KeyError, ValueError, OverflowError):
            return web.json_response({"error": "minutes must be a number, not negative"}, status=400)
        return await self._clock(request)

    async def _drop_next(self, request: web.Request) -> web.Response:
        count = request.query.get("count", "1")
        if not count.isdecimal():
            return web.json_response({"error": "count must be a whole number"}, status=400)
        self._event_grid.drop_next(int(count))
        return web.json_response({"dropping": int(count)})


def _service_state(service: Service) -> dict[str, Any]:
    now = service.world.clock.now()
    serves = {
        hostname.host_name: {
            region: [
                service.served(hostname.host_name, region, unit, now).thumbprint for unit in range(units)
            ]
            for region, units in service.regions.items()
        }
        for hostname in service.hostnames
    }
    return {
        "provisioningState": service.provisioning_state(now),
        "syncs": [_iso(at) for at in service.syncs],
        "serves": serves,
    }


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
