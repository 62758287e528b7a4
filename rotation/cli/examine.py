"""`doctor`: a pass that only looks, further reads of Azure, and what `rotation.doctor` makes of both."""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack

from rotation import doctor
from rotation.app import App, build
from rotation.clients import doctor as reads
from rotation.doctor import Line
from rotation.model import Binding, Event, Gateway, Mode, Report, Scope, Trigger
from rotation.reconcile import LedgerUnavailableError, reconcile
from rotation.settings import Settings, site


async def examine(settings: Settings) -> list[Line]:
    """Every check, in the order in which to mend what is wrong."""
    app = build(settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.opened)
        arm = await stack.enter_async_context(reads.ArmReads(settings))
        lines = doctor.settings_are_right((), enforce=settings.enforce)
        claims, problem = await arm.identity()
        who = claims.get("upn") or claims.get("unique_name") or claims.get("appid") or "an unnamed identity"
        tenant = f" of tenant {claims['tid']}" if "tid" in claims else ""
        lines.append(doctor.identity_is_known(f"{who}{tenant}", problem))
        lines += [await _ledger(app), doctor.host_id_is_own(*site())]
        lines.append(await _insights(app))
        if problem:
            return lines
        report, vaults = await asyncio.gather(
            reconcile(app.world, Scope(), Mode.OBSERVE, Trigger.HAND), arm.vaults()
        )
        gateways = {v.evidence.gateway.key: v.evidence.gateway for v in report.verdicts}.values()
        parts = await asyncio.gather(
            *(_subscription(arm, each, gateways, report) for each in settings.subscriptions),
            _registered(arm),
            *(_gateway(arm, each, report, settings) for each in gateways),
            *(_vault(arm, host, vaults, report, claims.get("oid", "")) for host in _vault_hosts(report)),
            *(_identities(arm, each, vaults) for each in gateways),
        )
        return [*lines, *(line for part in parts for line in part)]


async def _ledger(app: App) -> Line:
    place, problem = app.settings.ledger, ""
    try:
        await app.world.ledger.paused()
    except LedgerUnavailableError as error:
        problem = f"cannot be read: {error}"
    return doctor.ledger_works(place, problem, local=not place.startswith("https://"))


async def _insights(app: App) -> Line:
    accepted = None
    if app.insights:
        accepted = await app.insights.write([Event("DoctorRan", {}, {})], None)
    return doctor.insights_accept(accepted=accepted)


async def _subscription(
    arm: reads.ArmReads, subscription: str, gateways: Iterable[Gateway], report: Report
) -> list[Line]:
    began = reads.now()
    answer = await arm.get(f"/subscriptions/{subscription}", reads.SUBSCRIPTIONS)
    number = sum(f"/subscriptions/{subscription}/" in gateway.key for gateway in gateways)
    line = doctor.arm_is_readable(subscription, answer, number, report.problems)
    first = subscription == arm.first_subscription
    return [doctor.clock_is_right(began, answer), line] if first else [line]


async def _registered(arm: reads.ArmReads) -> list[Line]:
    return [doctor.sync_is_registered(await arm.provider_operations())]


async def _gateway(arm: reads.ArmReads, gateway: Gateway, report: Report, settings: Settings) -> list[Line]:
    permissions = await arm.permissions(gateway.id)
    network: list[Line] = []
    if "/microsoft.apimanagement/service/" in gateway.key:  # which has an account of its own network
        hosts = {certificate.vault_host for certificate in gateway.certificates}
        answer = await arm.network_status(gateway.service_id or gateway.id)
        network = [doctor.gateway_reaches_vault(gateway, hosts, answer)]
    followed = gateway.certificates & settings.named_values.keys()
    return [
        doctor.sync_is_granted(
            gateway, permissions, enforce=settings.enforce and not gateway.kind.only_observed
        ),
        *(
            [doctor.named_value_is_granted(gateway, permissions)]
            if followed and not gateway.service_id
            else []
        ),
        *([] if gateway.kind.not_served else [doctor.gateway_is_reached(gateway, report.verdicts)]),
        *network,
    ]


async def _vault(
    arm: reads.ArmReads, host: str, vaults: reads.Vaults, report: Report, our_id: str
) -> list[Line]:
    vault = vaults.get(host)
    lines = [doctor.vault_is_readable(host, report.verdicts), doctor.vault_is_found(host, vault)]
    if vault is None:
        return lines
    vault_id = str(vault.get("id"))
    permissions, subscriptions = await asyncio.gather(
        arm.permissions(vault_id), arm.event_subscriptions(vault_id)
    )
    return [
        *lines,
        doctor.secrets_are_out_of_reach(host, permissions, vault, our_id),
        doctor.events_arrive(host, subscriptions),
    ]


async def _identities(arm: reads.ArmReads, gateway: Gateway, vaults: reads.Vaults) -> list[Line]:
    """One line for each vault and identity of a gateway."""
    chosen: dict[tuple[str, str], Binding] = {}
    for binding in gateway.bindings:
        if binding.reference and binding.reference.certificate.vault_host in vaults:
            chosen.setdefault((binding.reference.certificate.vault_host, binding.identity), binding)
    if not chosen or "/microsoft.apimanagement/gateways/" in gateway.key:
        return []  # whose identity a workspace gateway reads the vault with is not documented
    service = await arm.service(gateway.service_id or gateway.id, gateway.kind.api_version)
    if service.status != 200:
        return [doctor.gateway_unread(gateway, service)]
    lines: list[Line] = []
    for (host, _), binding in sorted(chosen.items(), key=lambda pair: pair[0]):
        principal = doctor.principal_of(binding, service.body)
        assignments = doctor.Answer(None)
        if principal:
            assignments = await arm.role_assignments(str(vaults[host].get("id")), principal)
        lines.append(doctor.gateway_may_read(gateway, binding, principal, vaults[host], assignments))
    return lines


def _vault_hosts(report: Report) -> list[str]:
    return sorted({c.vault_host for v in report.verdicts for c in v.evidence.gateway.certificates})
