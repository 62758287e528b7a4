"""The composition root: settings in, the bound path out; built by the first trigger, once per process."""

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.resources import files
from itertools import chain
from typing import TYPE_CHECKING

from rotation import named_values, telemetry
from rotation import report as reports
from rotation.clients.app_insights import AppInsights
from rotation.clients.calls import counted
from rotation.clients.reach import Reach
from rotation.clients.sqlite_ledger import SqliteLedger
from rotation.model import Calls, Census, Choice, Event, GatewayKind, Mode, Reason, Report, Scope, Trigger
from rotation.named_values import Kept
from rotation.reconcile import Gateways, Ledger, LedgerUnavailableError, World, deliver, reconcile
from rotation.settings import Mistakes, Settings, load
from rotation.shards import Part, how_many, to_messages
from rotation.turns import ANSWERED_WITHIN, Turns

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.core.pipeline.transport import AioHttpTransport as Transport

    from rotation.clients.arm import Arm
    from rotation.clients.key_vault import KeyVault
    from rotation.clients.notices import Notices
    from rotation.clients.resource_graph import ResourceGraph
    from rotation.gateways.application_gateway import ApplicationGateways

MOST_SHARDS_BY_HAND = 8
"""That a pass over everything may have the size of."""

_log = logging.getLogger(__name__)


NAMED_VALUES_WITHIN = timedelta(seconds=5)
"""For all named values of a pass; what is not reached then waits for the next full proof."""

NAMED_VALUES_AT_ONCE = 8

KeepNamedValue = Callable[[str, str, str], Awaitable[Kept]]
"""Gateway id, name and value in, what became of it out."""


@dataclass(frozen=True, slots=True)
class App:
    """The one path, with everything that it needs; `opened` is for those who end before their process."""

    settings: Settings
    world: World
    insights: AppInsights | None
    notices: "Notices | None" = None
    keep_named_value: KeepNamedValue | None = None
    opened: AsyncExitStack = field(default_factory=AsyncExitStack)
    turns: Turns = field(default_factory=Turns)

    def mode(self, wanted: Mode) -> Mode:
        """What the pass may do: while ROTATION_MODE is observe, nothing but look."""
        return wanted if self.settings.enforce else Mode.OBSERVE

    async def run(  # noqa: PLR0913 - what a pass is made of
        self,
        scope: Scope,
        mode: Mode,
        trigger: Trigger,
        trace_parent: str | None,
        overrides: frozenset[Reason] = frozenset(),
        *,
        asked_by: str = "",
    ) -> Report:
        """Reconcile, then tell: to the ledger, to Application Insights, to the log, to the topic.

        Raises:
            TimeoutError: the budget of the trigger is spent; what was not told is told by the timer.
        """
        async with asyncio.timeout(self.world.budget(trigger).total_seconds()):
            with counted() as counter:
                report = await reconcile(
                    self.world, scope, self.mode(mode), trigger, overrides, asked_by=asked_by
                )
            report = replace(report, calls=Calls(**counter))
            _tell_log(report)
            await self._keep(report)
            tell = partial(self._tell_app_insights, report, trace_parent)
            await deliver(self.world.ledger, report, tell)
        await asyncio.gather(self._publish(report), self._keep_named_values(report, trace_parent))
        return report

    async def heed(self, scope: Scope, trace_parent: str | None) -> Report | None:
        """A pass because of an event; None where one that has yet to begin will see what it is about.

        Raises:
            TimeoutError: there was no turn, or the budget is spent; the timer does it.
        """
        within = ANSWERED_WITHIN - self.world.event_budget.total_seconds()
        async with self.turns.turn(scope, within) as mine:
            return await self.run(scope, Mode.REPAIR, Trigger.EVENT, trace_parent) if mine else None

    async def shards(self, *, fresh: bool = False) -> tuple[int, datetime | None]:
        """How many shards the fleet is split into now, 1 for none, and ARM's clock where it is known.

        Where Resource Graph does not count the services, the rows of the ledger are counted.
        """
        large = self.world.large
        census = await large.census(fresh=fresh) if large else "no kind of gateway is counted"
        if isinstance(census, Census):
            return how_many(census.services, self.settings.shard_size), census.as_of
        _log.warning("The services could not be counted, so the ledger's rows are: %s", census)
        try:
            known = len(await self.world.ledger.known())
        except LedgerUnavailableError as error:
            _log.warning("Nor could they: %s", error)
            known = 0
        return how_many(known, self.settings.shard_size), None

    async def too_many(self) -> str | None:
        """Why everything cannot be asked for by hand: what a pass has no time for it would call UNKNOWN."""
        if self.settings.shard_queue is None or (await self.shards())[0] <= MOST_SHARDS_BY_HAND:
            return None
        return (
            "The fleet is too large for one pass by hand, and the timer looks at all of it anyway: name a"
            " vault, a certificate, a hostname or a gateway."
        )

    async def split(self) -> list[str]:
        """The messages that ask for every shard once; none where one pass is enough."""
        of, as_of = await self.shards(fresh=True)
        if of == 1:
            return []
        run_id = str(uuid.uuid4())
        _log.info("Run %s is split into %d shards", run_id, of)
        return to_messages(run_id, of, as_of)

    async def run_part(self, part: Part, trace_parent: str | None) -> Report | str:
        """Look at a shard as the timer would, or say why not."""
        if part.shard.of < (await self.shards())[0]:
            return f"the fleet is split into more than {part.shard.of} shards; the next tick looks at all"
        try:
            looked_at = await self.world.ledger.looked_at(part.shard)
        except LedgerUnavailableError:
            looked_at = None
        if part.is_done(looked_at):
            return f"{part.shard} was looked at since"
        scope = Scope(shard=part.shard, run_id=part.run_id)
        return await self.run(scope, Mode.REPAIR, Trigger.TIMER, trace_parent)

    async def last_report(self) -> Mapping[str, object] | None:
        """The last report over everything, of one pass or of all shards.

        Raises:
            LedgerUnavailableError: it cannot be read.
        """
        return reports.whole(await self.world.ledger.last_reports())

    async def _keep(self, report: Report) -> None:
        """The last report over everything, which a dry run is not, and what became of a run by hand."""
        everything, shard = report.run.scope.everything, report.run.scope.shard
        by_hand = report.run.trigger is Trigger.HAND and (everything or report.gateways > 0)
        try:
            if everything and not report.run.dry:
                await self.world.ledger.save_report(reports.to_json(report), shard)
            if by_hand:
                await self.world.ledger.save_operation(report.run.run_id, reports.to_json(report))
        except LedgerUnavailableError as error:
            _log.warning("The report could not be kept for the HTTP API: %s", error)

    async def _publish(self, report: Report) -> None:
        """After the work, and bounded: a topic that fails or hangs is only a line in the log."""
        told = telemetry.notices(report)
        if self.notices is None or not told:
            return
        if failure := await self.notices.publish(told):
            _log.warning("%d notice(s) were not taken: %s", len(told), failure)

    async def _keep_named_values(self, report: Report, trace_parent: str | None) -> None:
        """After the work, and bounded: what fails is told, and tried again at the next full proof."""
        keep = self.keep_named_value
        if keep is None:
            return
        told: list[Event] = []
        turns = asyncio.Semaphore(NAMED_VALUES_AT_ONCE)

        async def one(due: named_values.Due) -> None:
            async with turns:
                kept = await keep(due.gateway.id, due.name, due.thumbprint)
            if event := named_values.event(report, due, kept):
                told.append(event)
                level = logging.ERROR if kept.problem else logging.WARNING
                _log.log(
                    level, "%s: named value %s: %s", due.gateway.name, due.name, json.dumps(asdict(kept))
                )

        try:
            async with asyncio.timeout(NAMED_VALUES_WITHIN.total_seconds()):
                await asyncio.gather(*map(one, named_values.due(report, self.settings.named_values)))
        except TimeoutError:
            _log.error("Not all named values were looked at within %s", NAMED_VALUES_WITHIN)
        if told and self.insights:
            await self.insights.write(told, trace_parent)

    async def _tell_app_insights(
        self, report: Report, trace_parent: str | None, waiting: Sequence[Event]
    ) -> bool:
        """The results of this pass go to the host's log where they are refused; what waits, waits on."""
        if self.insights is None:
            return True
        accepted = await self.insights.write(chain(waiting, telemetry.results(report)), trace_parent)
        if not accepted:
            for result in telemetry.results(report):
                _log.error("Application Insights did not accept %s", json.dumps(asdict(result)))
        return accepted


def _tell_log(report: Report) -> None:
    """The summary, and each decision that acts or refuses, with its run, its claim and who asked."""
    run = report.run
    by = f"{run.trigger} by {run.asked_by}" if run.asked_by else run.trigger
    _log.info("%s", reports.summary(report))
    if run.overrides:
        _log.warning("Run %s (%s) overrides %s", run.run_id, by, ", ".join(sorted(run.overrides)))
    for problem in report.problems:
        _log.error("%s", problem)
    for decision in report.decisions:
        if decision.choice is not Choice.NOTHING_STALE:
            claim = f", claim {decision.claim.claim_id}" if decision.claim else ""
            audit = f"run {run.run_id}, {run.mode}, {by}{claim}"
            _log.info("%s (%s): %s", decision.choice, audit, decision.message)


def build(settings: Settings) -> App:
    """Put the clients together; to be called inside the event loop that uses them."""
    from azure.identity.aio import DefaultAzureCredential

    from rotation.clients.arm import Arm
    from rotation.clients.http import open_session, tls_context, transport
    from rotation.clients.key_vault import KeyVault
    from rotation.clients.resource_graph import ResourceGraph
    from rotation.clients.tls import TlsProbe
    from rotation.gateways.api_management import ApiManagement

    _quieten_sdks()
    context = tls_context(settings.ca_bundle)
    session = open_session(context, settings.connect_to)
    shared = transport(session)
    credential = DefaultAzureCredential(authority=settings.cloud.authority)
    opened = AsyncExitStack()
    opened.push_async_callback(session.close)
    opened.push_async_callback(credential.close)
    arm = Arm(
        credential,
        shared,
        url=settings.arm_url,
        scope=settings.cloud.arm_scope,
        api_version=settings.api_version,
        subscriptions=settings.subscriptions,
    )
    graph = ResourceGraph(
        credential,
        shared,
        url=settings.arm_url,
        scope=settings.cloud.arm_scope,
        subscriptions=settings.subscriptions,
    )
    services = ApiManagement(arm, graph, settings.cloud.vault_suffix, settings.vaults)
    kinds: dict[GatewayKind, Gateways] = {GatewayKind.API_MANAGEMENT: services}
    certificates = KeyVault(credential, shared)
    kinds |= _kinds_of_parts(settings, arm, graph, certificates)
    health = None
    if GatewayKind.APPLICATION_GATEWAY in settings.kinds:
        application_gateways = _application_gateways(settings, credential, shared, graph)
        kinds[GatewayKind.APPLICATION_GATEWAY] = application_gateways
        health = application_gateways.health
    world = World(
        kinds=kinds,
        large=services,
        certificates=certificates,
        ledger=_ledger(settings, credential, shared),
        probe=TlsProbe(context, settings.connect_to, settings.probe_timeout, reach(settings)),
        now=now,
        limits=settings.limits,
        brakes=replace(settings.brakes, urgent=settings.limits.expires_soon),
        event_budget=settings.event_budget,
        health=health,
    )
    insights = None
    if settings.connection_string:
        insights = AppInsights(settings.connection_string, settings.ca_bundle, settings.insights_identity)
        opened.callback(insights.close)
    notices = None
    if settings.notices:
        from rotation.clients.notices import Notices

        notices = Notices(credential, shared, url=settings.notices)
        opened.push_async_callback(notices.close)
    keep = arm.keep_named_value if settings.named_values else None
    return App(settings, world, insights, notices, keep, opened)


def _quieten_sdks() -> None:
    """Each call would otherwise add three lines to the host's log, and with them to its bill.

    A body that is no JSON would add the traceback of a parser, whose failure is a value to us.
    """
    logging.getLogger("azure").setLevel(logging.WARNING)
    for parsers in ("azure.keyvault", "azure.mgmt"):
        logging.getLogger(parsers).setLevel(logging.ERROR)


def _ledger(settings: Settings, credential: "AsyncTokenCredential", shared: "Transport") -> Ledger:
    """A table where its URL is set, else a file."""
    if not settings.ledger.startswith("https://"):
        return SqliteLedger(settings.ledger)
    from rotation.clients.table_ledger import TableLedger

    return TableLedger(credential, shared, url=settings.ledger)


def _application_gateways(
    settings: Settings, credential: "AsyncTokenCredential", shared: "Transport", graph: "ResourceGraph"
) -> "ApplicationGateways":
    from rotation.clients.network import Network
    from rotation.gateways.application_gateway import KIND, ApplicationGateways, Scoped

    network = Network(
        credential,
        shared,
        url=settings.arm_url,
        scope=settings.cloud.arm_scope,
        api_version=KIND.api_version,
    )
    scoped = Scoped(settings.subscriptions, settings.cloud.vault_suffix, settings.vaults)
    return ApplicationGateways(network, graph, scoped, now)


def _kinds_of_parts(
    settings: Settings, arm: "Arm", graph: "ResourceGraph", certificates: "KeyVault"
) -> Mapping[GatewayKind, Gateways]:
    """The kinds that are parts of API Management, those of them that are turned on."""
    wanted = settings.kinds - {GatewayKind.API_MANAGEMENT, GatewayKind.APPLICATION_GATEWAY}
    if not wanted:
        return {}
    from rotation.clients.arm_entities import ArmEntities
    from rotation.clients.arm_workspace_gateways import ArmWorkspaceGateways
    from rotation.gateways import entities
    from rotation.gateways.self_hosted import SelfHosted
    from rotation.gateways.workspace_gateway import WorkspaceGateways

    clients, suffix, vaults = (arm, ArmEntities(arm), graph), settings.cloud.vault_suffix, settings.vaults
    found: dict[GatewayKind, Gateways] = {
        kind.name: entities.Entities(*clients, certificates, kind=kind, vault_suffix=suffix, vaults=vaults)
        for kind in (entities.CERTIFICATES, entities.NAMED_VALUES)
    }
    found[GatewayKind.SELF_HOSTED] = SelfHosted(
        *clients,
        vault_suffix=suffix,
        vaults=vaults,
        addresses=settings.self_hosted,
        expires_soon=settings.limits.expires_soon,
    )
    found[GatewayKind.WORKSPACE_GATEWAY] = WorkspaceGateways(
        arm,
        ArmWorkspaceGateways(arm),
        vault_suffix=suffix,
        vaults=vaults,
        synced=settings.sync_workspace_gateways,
    )
    return {name: kind for name, kind in found.items() if name in wanted}


def reach(settings: Settings) -> Reach:
    """Where the probe may connect to; whoever wrote down a self-hosted gateway's address meant it."""
    named = {(at.host, at.port) for addresses in settings.self_hosted.values() for at in addresses}
    return Reach(settings.private_networks, frozenset(named))


def now() -> datetime:
    """This machine's clock, in UTC."""
    return datetime.now(UTC)


def openapi() -> str:
    """The description of the HTTP API (OpenAPI 3.1), as it is deployed."""
    return files("rotation").joinpath("openapi.json").read_text(encoding="utf-8")


class _Process:
    """What lives as long as the worker: nothing until the first trigger."""

    app: App | Mistakes | None = None


def current() -> App | Mistakes:
    """The app of this process, or what is wrong with its settings."""
    if _Process.app is None:
        settings = load()
        _Process.app = settings if isinstance(settings, Mistakes) else build(settings)
    return _Process.app
