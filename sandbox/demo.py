"""The main job, told step by step: `make demo`.

Every line is observed: read by handshake, from ARM, from Application Insights or from the app's own answers.
A step that is not true is said so, and ends the demo with exit code 1.
"""

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sandbox.application_gateway import ApplicationGateway, Backend
from sandbox.certificates import CertificateAuthority
from sandbox.stage import Stage, read_leaf
from sandbox.world import CustomEvent, Hostname, Service, World

GATEWAY, PORTAL, EDGE = "api.contoso.com", "developer.contoso.com", "edge.contoso.net"
SHOP = "shop.contoso.org"
REPLICAS = ("edge-berlin-1.contoso.net", "edge-berlin-2.contoso.net")
KINDS = {
    "ROTATION_KINDS": "SelfHostedGateway,ApplicationGateway",
    "ROTATION_SELF_HOSTED": ",".join(f"edge-berlin={address}" for address in REPLICAS),
}
MANAGEMENT_BY_ITSELF = "1-2 days"


class UntrueError(Exception):
    """Something the demo was about to say is not so."""


class Teller:
    """Prints the story; colours only on a terminal."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._step = 0

    def step(self, title: str) -> None:
        """Begin a step."""
        self._step += 1
        print(self._paint(f"\n{self._step:>2}  {title}", "1"), flush=True)

    def line(self, text: str) -> None:
        """Say something."""
        self._print("    ", text)

    def true(self, text: str, *, observed: object) -> None:
        """Say something that was observed; anything empty or false ends the story."""
        if not observed:
            self._print(self._paint("  ✗ ", "31"), text)
            raise UntrueError(text)
        self._print(self._paint("  ✓ ", "32"), text)

    def _print(self, margin: str, text: str) -> None:
        width = min(shutil.get_terminal_size((110, 24)).columns, 110) - len("  ✓ ")
        wrapped = textwrap.wrap(text, max(width, 40), break_long_words=False, break_on_hyphens=False)
        lines = wrapped or [""]
        print(margin + "\n    ".join(lines), flush=True)

    def _paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text


def contoso(private: CertificateAuthority | None = None) -> Service:
    """A service of two regions and three scale units, with one wildcard certificate from Key Vault.

    Beside it a self-hosted gateway of two replicas, with a certificate of its own, and in front of it an
    Application Gateway with another one, which trusts the private authority that has issued the first, where
    one has.

    Its clock begins half-way between two timers, so that none comes by itself within the next two minutes.
    """
    world = World()
    past_five_minutes = timedelta(seconds=world.clock.now().timestamp() % 300)
    world.clock.advance(timedelta(minutes=7, seconds=45) - past_five_minutes)
    vault = world.add_vault("kv-contoso")
    certificate = vault.add_certificate("contoso-com", ["*.contoso.com"], issuer=private)
    service = world.add_service(
        "apim-contoso",
        regions={"West Europe": 2, "North Europe": 1},
        hostnames=(
            Hostname(GATEWAY, certificate=certificate),
            Hostname(PORTAL, certificate=certificate, type="DeveloperPortal"),
        ),
    )
    service.update_duration = timedelta(minutes=17)
    service.unit_lag = timedelta(minutes=5)
    service.lag = {"North Europe": timedelta(minutes=9)}
    entity = service.add_entity("edge", vault.add_certificate("edge-contoso-net", [EDGE]))
    service.add_self_hosted("edge-berlin", {EDGE: entity}, REPLICAS)
    shop = Hostname(SHOP, certificate=vault.add_certificate("shop-contoso-org", [SHOP]))
    backend = Backend(service, service.builtin_host, GATEWAY, (private.pem,) if private else ())
    ApplicationGateway(world, "agw-contoso", hostnames=[shop], backends=[backend])
    return service


class Demo:
    """The story of one service, with the app in front of it."""

    def __init__(self, tell: Teller, settings: Mapping[str, str]) -> None:
        self.tell = tell
        self.settings = {**KINDS, **settings}
        self.private = CertificateAuthority("Contoso Private 1", direct=True)
        self.service = contoso(self.private)
        self.world = self.service.world
        self.certificate = self.world.vaults["kv-contoso"].certificates["contoso-com"]

    def run(self) -> None:
        """The whole story."""
        with Stage(self.world, self.settings, timers=True) as self.stage:
            self.tell.line(f"function_app.py runs at {self.stage.host.url}, Azure is on 127.0.0.1 beside it.")
            self.tell.line("The clock is the sandbox's: it is moved, not waited for. Timers follow it.")
            self.before()
            self.rotation()
            self.drift()
            self.by_hand()
            self.self_hosted()
            self.application_gateway()
            self.in_front()

    def before(self) -> None:
        """What is so at the start."""
        self.tell.step("What each hostname serves, read by TLS handshake")
        self.stage.pass_time(5)
        old = self.certificate.newest.thumbprint
        self.show_served()
        verdicts = self.stage.verdicts()
        for hostname in (GATEWAY, PORTAL):
            self.tell.true(
                verdict_line(verdicts[hostname]), observed=verdicts[hostname]["status"] == "IN_SYNC"
            )
        self.tell.true("Key Vault's newest version is the one served", observed=self.serves_only(old))

    def rotation(self) -> None:
        """A renewal, from event to proof."""
        self.tell.step("Key Vault renews the certificate, and Event Grid delivers the event")
        old, created = self.certificate.newest.thumbprint, self.world.clock.now()
        new = self.certificate.renew(issuer=self.private).thumbprint
        self.tell.line(f"new version of {self.certificate.name}: {short(old)} -> {short(new)}")
        self.stage.settle()
        delivery = self.stage.azure.event_grid.deliveries[-1]
        self.tell.true(
            f"on_certificate_event answered {delivery.status} at {delivery.at:%H:%M:%S}",
            observed=delivery.status == 202,
        )

        self.tell.step("The sync call is accepted")
        for sync in self.world.custom_events("SyncRequested"):
            self.tell.line(sync.properties["message"])
        self.tell.true(
            f"API Management is {self.service.provisioning_state(self.world.clock.now())}, one sync counted",
            observed=len(self.service.syncs) == 1,
        )

        self.tell.step("The service is updating: the old certificate is still served, and that is no success")
        self.until("SYNCING", "ServiceUpdating", 5)
        self.tell.true("every unit still serves the old one", observed=self.serves_only(old))

        self.tell.step("Scale units and regions switch one after the other")
        self.until("SYNCING", "PartlyServed", 40)
        self.show_served()

        self.tell.step("The timer proves the new certificate on every hostname and region")
        events = self.until("IN_SYNC", "Served", 40)
        self.show_served()
        self.tell.true("no handshake meets the old one any more", observed=self.serves_only(new))

        self.tell.step("The result is in Application Insights")
        self.show_result(events, created, "event")

    def drift(self) -> None:
        """An event that never comes."""
        self.tell.step("Drift: a renewal whose event never comes")
        self.stage.azure.event_grid.drop_next()
        created = self.world.clock.now()
        new = self.certificate.renew(issuer=self.private).thumbprint
        self.stage.settle()
        self.tell.true(
            "Event Grid delivered nothing", observed=len(self.stage.azure.event_grid.deliveries) == 1
        )
        self.until("STALE", "ServesOldVersion", 10)
        self.tell.true(
            f"the timer asked for sync number {len(self.service.syncs)}",
            observed=len(self.service.syncs) == 2,
        )
        events = self.until("IN_SYNC", "Served", 60)
        self.tell.true("every unit serves the new one", observed=self.serves_only(new))
        self.show_result(events, created, "timer")

    def by_hand(self) -> None:
        """A resync over HTTP."""
        self.tell.step("Manual resync over HTTP")
        dry = self.stage.resync(hostname=GATEWAY, dry_run=True)
        self.tell.true(
            f"POST /api/resync dry_run: {dry.status}, {dry.json()['decisions'][0]['choice']}",
            observed=dry.status == 202 and len(self.service.syncs) == 2,
        )
        forced = self.stage.resync(hostname=GATEWAY, force=True)
        answer = forced.json()["decisions"][0]
        self.tell.true(
            f"POST /api/resync force: {forced.status}, {answer['choice']} {answer['outcome']}",
            observed=forced.status == 202
            and answer["outcome"] == "accepted"
            and len(self.service.syncs) == 3,
        )
        again = self.stage.resync(hostname=GATEWAY, force=True).json()["decisions"][0]
        self.tell.true(f"again at once: {again['message']}", observed=len(self.service.syncs) == 3)

    def self_hosted(self) -> None:
        """The same path for a gateway in one's own cluster."""
        (gateway,), (entity,) = self.service.self_hosted, self.service.entities
        certificate = entity.certificate
        assert certificate
        self.tell.step("A self-hosted gateway: its certificate entity is told, and it fetches that by itself")
        new = certificate.renew().thumbprint
        self.stage.settle()
        asked = self.world.custom_events("SyncRequested")[-1].properties
        self.tell.line(asked["message"])
        answer = self.world.custom_events("SyncAnswered")[-1].properties
        self.tell.true(
            f"refreshSecret {answer['outcome']}: {answer['detail']}",
            observed=len(entity.refreshes) == 1 and asked["gateway_kind"] == "SelfHostedGateway",
        )
        self.world.clock.advance(timedelta(seconds=15))
        self.tell.true("15 seconds later both replicas serve it", observed=self.replicas() == [new, new])
        self.until("IN_SYNC", "Served", 5, EDGE)

        self.tell.step("One of its replicas loses its connection, and that is no drift of ours")
        gateway.cut_off(REPLICAS[1])
        new = certificate.renew().thumbprint
        self.stage.settle()
        self.until("BLOCKED", "GatewayNotPolling", 5, EDGE)
        self.tell.true("no further sync was asked for", observed=len(entity.refreshes) == 2)
        gateway.connect()
        self.until("IN_SYNC", "Served", 5, EDGE)
        self.tell.true("both replicas serve the new one", observed=self.replicas() == [new, new])

    def application_gateway(self) -> None:
        """The same path for an Application Gateway's own listener."""
        (gateway,) = self.world.application_gateways
        certificate = gateway.hostnames[0].certificate
        assert certificate
        self.tell.step(
            "An Application Gateway: it looks every 4 hours, or when it is changed, so a tag is set"
        )
        new = certificate.renew().thumbprint
        self.stage.settle()
        answer = self.world.custom_events("SyncAnswered")[-1].properties
        self.tell.true(
            f"the tag rotation-asked is set: {answer['outcome']}, {answer['detail']}",
            observed="rotation-asked" in gateway.tags and answer["gateway_kind"] == "ApplicationGateway",
        )
        self.until("IN_SYNC", "Served", 5, SHOP)
        port = self.stage.azure.addresses[gateway.address, gateway.port]
        served = {read_leaf(port, SHOP) for _ in range(2)}
        self.tell.true("both instances serve the new one", observed=served == {new})

    def in_front(self) -> None:
        """The renewal that would have been an outage."""
        (gateway,) = self.world.application_gateways
        self.tell.step("It also stands in front of API Management, and trusts the root of that certificate")
        other = CertificateAuthority("Contoso Private 2", direct=True)
        (backend,) = gateway.backends
        syncs = len(self.service.syncs)
        self.certificate.renew(issuer=other)
        self.stage.settle()
        self.until("BLOCKED", "FrontDistrusts", 5)
        self.tell.true("nothing was synced, and nobody got 502", observed=len(self.service.syncs) == syncs)
        gateway.backends = (Backend(backend.service, backend.target, GATEWAY, (self.private.pem, other.pem)),)
        self.stage.pass_time(5)
        self.tell.true(
            "with the new root added to its backend settings, the timer asks for the sync",
            observed=len(self.service.syncs) == syncs + 1,
        )

    def replicas(self) -> list[str]:
        """What a plain TLS client meets at each replica."""
        return [self.stage.handshake(address, EDGE) for address in REPLICAS]

    def until(self, status: str, reason: str, minutes: int, hostname: str = GATEWAY) -> list[CustomEvent]:
        """Let five minutes after five minutes pass, until a hostname has this verdict."""
        said = ""
        for _ in range(0, minutes, 5):
            events = self.stage.pass_time(5)
            verdict = self.stage.verdicts()[hostname]
            line = verdict_line(verdict)
            self.tell.line(f"{self.world.clock.now():%H:%M}  {line if line != said else 'the same'}")
            said = line
            if (verdict["status"], verdict["reason"]) == (status, reason):
                self.tell.true(f"{status} {reason}", observed=True)
                return events
        self.tell.true(f"{status} {reason} within {minutes} minutes", observed=False)
        return []

    def show_served(self) -> None:
        """Which thumbprints a plain TLS client meets."""
        for region, units in self.service.regions.items():
            seen = self.stage.handshakes(self.service, region, GATEWAY)
            unit_word = "unit" if units == 1 else "units"
            self.tell.line(
                f"{GATEWAY}  {region:<12} {units} {unit_word:<5}  {' and '.join(map(short, sorted(seen)))}"
            )

    def serves_only(self, thumbprint: str) -> bool:
        """Whether every unit of every region serves this leaf."""
        regions = self.service.regions
        return all(self.stage.handshakes(self.service, r, GATEWAY) == {thumbprint} for r in regions)

    def show_result(self, events: list[CustomEvent], created: datetime, caught_by: str) -> None:
        """The proof as it was written, and the time that it took."""
        verified = [
            e
            for e in events
            if e.name == "CertificateVerified"
            and (e.properties["status"], e.properties["gateway"]) == ("IN_SYNC", self.service.name)
        ]
        for event in verified:
            matching, connections = (
                event.measurements["connections_matching"],
                event.measurements["connections"],
            )
            self.tell.true(
                f"CertificateVerified {event.properties['hostname']}: {matching:.0f} of {connections:.0f}"
                f" connections, {event.measurements['days_to_expiry']:.0f} days left",
                observed=matching == connections > 0,
            )
        proven = [e for e in events if e.name == "RotationProven"]
        seconds = proven[0].measurements["seconds_to_served"] if proven else 0.0
        elapsed = (self.world.clock.now() - created).total_seconds()
        self.tell.true(
            f"RotationProven: time to served {seconds / 60:.0f} minutes, caught by {caught_by}"
            f" (API Management by itself: {MANAGEMENT_BY_ITSELF})",
            observed=0 < seconds <= elapsed + 1 and proven[0].properties["caught_by"] == caught_by,
        )


def verdict_line(verdict: dict[str, Any]) -> str:
    """Status, reason and the sentence."""
    return f"{verdict['status']} {verdict['reason']}: {verdict['message']}"


def short(thumbprint: str) -> str:
    """Enough of a thumbprint to compare by eye."""
    return f"{thumbprint[:10]}…"


@contextmanager
def timed() -> Iterator[None]:
    """Say at the end how long it took."""
    began = time.monotonic()
    yield
    print(f"\nEvery step was true ({time.monotonic() - began:.0f} s).", flush=True)


def main(settings: Mapping[str, str]) -> int:
    """Tell the story of an app with these settings; 0 if every step was true."""
    tell = Teller()
    print("One rotation, from the renewal in Key Vault to its proof, on a pretend Azure.", flush=True)
    try:
        with timed():
            Demo(tell, settings).run()
    except (UntrueError, TimeoutError) as error:
        print(f"\nNot true: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main({}))
