"""The commands: options in, the one reconcile, its report out. docs/cli.md describes them."""

import asyncio
import json
import logging
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer

from rotation import api
from rotation import report as reports
from rotation.brakes import Brakes
from rotation.cli import inventory
from rotation.cli.outcome import Exit, of_report, of_resync, planned
from rotation.cli.passes import act, handshakes, look, survey
from rotation.cli.screen import Screen
from rotation.cli.watching import follow
from rotation.model import (
    CertificateId,
    CertificateVersion,
    Decision,
    Endpoint,
    ProbeFailure,
    Reason,
    Report,
    Scope,
    ServedCertificate,
    Status,
    Verdict,
)
from rotation.registration import PREFIX
from rotation.settings import NO_SCOPE, Mistakes, Settings, load

T = TypeVar("T")

app = typer.Typer(
    name="apim-rotation",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Certificates of API Management gateways: what is served, what should be, and what to do.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON (docs/cli.schema.json).")]
GatewayOption = Annotated[str | None, typer.Option("--gateway", help="Only the service with this ARM id.")]
HostnameOption = Annotated[str | None, typer.Option("--hostname", help="Only gateways with this hostname.")]
CertificateOption = Annotated[
    str | None, typer.Option("--certificate", help="Only gateways that use this Key Vault certificate (URL).")
]
VaultOption = Annotated[
    str | None, typer.Option("--vault", help="Only gateways that use a certificate of this vault.")
]
Force = Annotated[bool, typer.Option("--force", help="Also what is not stale, and what is not due yet.")]
Override = Annotated[
    list[str] | None, typer.Option("--override", help="A block to go past, such as NamesLost; repeatable.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it. Without this nothing is changed.")]


@dataclass(frozen=True, slots=True)
class _Common:
    """The options before the command."""

    options: Mapping[str, str]


@app.callback()
def common(
    context: typer.Context,
    subscription: Annotated[
        list[str] | None,
        typer.Option("--subscription", help="Instead of ROTATION_SUBSCRIPTIONS; repeatable."),
    ] = None,
    ledger: Annotated[str | None, typer.Option("--ledger", help="Instead of ROTATION_LEDGER.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the log on stderr.")] = False,
) -> None:
    """Settings come from the environment, as for the app; the sign-in from az login."""
    options = {}
    if subscription:
        options[f"{PREFIX}SUBSCRIPTIONS"] = ",".join(subscription)
    if ledger:
        options[f"{PREFIX}LEDGER"] = ledger
    context.obj = _Common(options)
    logging.basicConfig(
        level=logging.INFO if verbose else logging.CRITICAL, format="%(levelname)s %(message)s"
    )


@app.command()
def check(
    context: typer.Context,
    gateway: GatewayOption = None,
    hostname: HostnameOption = None,
    certificate: CertificateOption = None,
    vault: VaultOption = None,
    as_json: AsJson = False,
) -> None:
    """What each hostname serves, against what it should: the exit code follows."""
    screen = Screen("check", as_json=as_json)
    settings = _settings(context, screen)
    asked = _asked(screen, settings, gateway, hostname, certificate, vault, everything=True)
    report = _look(screen, settings, asked.scope)
    _show_verdicts(screen, report)
    _show_authorities(screen, report)
    screen.end(of_report(report), reports.to_json(report))


@app.command()
def plan(
    context: typer.Context,
    gateway: GatewayOption = None,
    hostname: HostnameOption = None,
    certificate: CertificateOption = None,
    vault: VaultOption = None,
    force: Force = False,
    override: Override = None,
    as_json: AsJson = False,
) -> None:
    """What would be synced now, and why not the rest."""
    screen = Screen("plan", as_json=as_json)
    settings = _settings(context, screen)
    asked = _asked(
        screen,
        settings,
        gateway,
        hostname,
        certificate,
        vault,
        everything=True,
        force=force,
        override=override,
    )
    report = _look(screen, settings, asked.scope, asked)
    decisions = planned(report, asked.mode, _brakes(settings))
    _show_decisions(screen, decisions)
    screen.end(of_report(report), _result(report, decisions))


@app.command()
def resync(
    context: typer.Context,
    gateway: GatewayOption = None,
    hostname: HostnameOption = None,
    certificate: CertificateOption = None,
    vault: VaultOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything in scope.")] = False,
    force: Force = False,
    override: Override = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Ask for the syncs that are needed: a dry run unless --yes is given."""
    screen = Screen("resync", as_json=as_json)
    settings = _settings(context, screen, acting=yes)
    asked = _asked(
        screen,
        settings,
        gateway,
        hostname,
        certificate,
        vault,
        everything=everything,
        force=force,
        override=override,
    )
    _resync(screen, settings, asked, yes=yes)


@app.command()
def emergency(
    context: typer.Context,
    using_certificate: Annotated[
        str, typer.Option("--using-certificate", help="The Key Vault certificate (URL) that is revoked.")
    ],
    max_syncs: Annotated[
        int | None,
        typer.Option("--max-syncs", min=1, max=1000, help="Instead of ROTATION_MAX_SYNCS, for this pass."),
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Mass revocation: sync everything that uses a certificate, now. A dry run unless --yes is given."""
    screen = Screen("emergency", as_json=as_json)
    options = {f"{PREFIX}MAX_SYNCS": str(max_syncs)} if max_syncs else {}
    settings = _settings(context, screen, acting=yes, options=options)
    asked = _asked(screen, settings, None, None, using_certificate, None, force=True)
    before = _look(screen, settings, asked.scope)
    using = [v for v in before.verdicts if _uses(v, asked.scope.certificate)]
    versions = {e for v in using if isinstance(e := v.evidence.expected, CertificateVersion)}
    for version in versions:
        screen.note(
            f"The newest version of {version.certificate} is {version.version} ({version.thumbprint}) of"
            f" {version.created:%Y-%m-%d %H:%M} UTC. If that is the revoked one, renew it in Key Vault first."
        )
    for verdict in using:
        if verdict.status is Status.BLOCKED:
            screen.note(f"No sync mends {verdict.message}")
    if using and all(verdict.status in {Status.IN_SYNC, Status.UNMANAGED} for verdict in using):
        screen.line(f"All {len(using)} hostname(s) have the newest version already; nothing is to be done.")
        screen.end(Exit.DONE, _result(before, ()))
    screen.note(
        "Goes past rings, the schedule of attempts and the Developer tier's window. Still held back: busy"
        " services, blocked hostnames, rotation-pause and POST /api/pause, the breaker after five syncs"
        f" without an answer, {settings.brakes.most_syncs} syncs in five minutes per subscription"
        " (--max-syncs), and what was forced within ten minutes. Run again until nothing is held."
    )
    _resync(screen, settings, asked, yes=yes, before=before)


@app.command()
def watch(
    context: typer.Context,
    gateway: GatewayOption = None,
    hostname: HostnameOption = None,
    certificate: CertificateOption = None,
    vault: VaultOption = None,
    every: Annotated[int, typer.Option("--every", min=1, max=3600, help="Seconds between two looks.")] = 30,
    minutes: Annotated[
        int, typer.Option("--for", min=0, max=1440, help="Minutes after which to give up.")
    ] = 90,
    as_json: AsJson = False,
) -> None:
    """Look again and again until every hostname is proven."""
    screen = Screen("watch", as_json=as_json)
    settings = _settings(context, screen)
    asked = _asked(screen, settings, gateway, hostname, certificate, vault, everything=True)
    screen.end(*_run(screen, follow(screen, settings, asked.scope, every, timedelta(minutes=minutes))))


@app.command()
def report(
    context: typer.Context,
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="How far the calendar looks.")] = 90,
    vaults: Annotated[
        bool, typer.Option("--vaults/--no-vaults", help="Read all certificates of the vaults in use.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Ends within 90 days, pinned bindings and their mending, what nobody renews, look-alikes, orphans."""
    screen = Screen("report", as_json=as_json)
    settings = _settings(context, screen)
    seen = _look(screen, settings, Scope())
    hosts = {c.vault_host for v in seen.verdicts for c in v.evidence.gateway.certificates}
    listed: list[CertificateId] | None = None
    versions = _expected(seen)
    if vaults and hosts:
        listed, versions = _run(screen, survey(screen, settings, hosts, versions))
    endings = inventory.endings(seen, timedelta(days=days))
    pins = inventory.pinned(seen)
    unrenewed = inventory.unrenewed(seen, settings.limits.expires_soon)
    alike = inventory.look_alikes(seen.verdicts, versions)
    orphans = None if listed is None else inventory.orphans(listed, seen.verdicts)
    screen.part("end", f"Ends within {days} days")
    screen.table(
        ("ends", "days", "gateway", "hostname", "thumbprint"),
        ((f"{e.not_after:%Y-%m-%d}", e.days, e.gateway, e.hostname, e.thumbprint) for e in endings),
    )
    screen.part("pinned", "Pinned to a version: they follow no renewal")
    if not pins:
        screen.table((), ())
    for pin in pins:
        screen.line(f"{pin.gateway} {pin.hostname}: {pin.key_vault_id}")
        screen.line(f"  Bicep      {pin.bicep}")
        screen.line(f"  Terraform  {pin.terraform}")
        screen.line(f"  az         {pin.az}")
    screen.part("unrenewed", "Nobody renews: the newest version ends soon")
    screen.table(
        ("ends", "days", "certificate", "hostnames"),
        ((f"{u.not_after:%Y-%m-%d}", u.days, u.certificate, ", ".join(u.hostnames)) for u in unrenewed),
    )
    screen.part("look-alike", "Look-alikes: other certificates cover the hostname too")
    screen.table(("hostname", "used", "others"), ((a.hostname, a.used, ", ".join(a.others)) for a in alike))
    screen.part("orphan", "Orphans: in a vault in use, but used by no gateway in scope")
    if orphans is None and screen.lively:
        screen.line("not known")
    screen.table(("certificate",), ((orphan,) for orphan in orphans or ()))
    result = {
        "as_of": seen.run.now.isoformat(),
        "days": days,
        "endings": [_plain(asdict(each)) for each in endings],
        "pinned": [asdict(each) for each in pins],
        "unrenewed": [_plain(asdict(each)) for each in unrenewed],
        "look_alikes": [asdict(each) for each in alike],
        "orphans": orphans,
    }
    screen.end(Exit.NOT_SEEN if seen.problems or not seen.verdicts else Exit.DONE, result)


@app.command()
def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Check the installation: a line for each thing, with cause and next step."""
    from rotation import doctor as judge
    from rotation.cli.examine import examine

    screen = Screen("doctor", as_json=as_json)
    found = load(options=_common(context).options)
    if isinstance(found, Mistakes):
        lines = judge.settings_are_right(found.sentences, enforce=False)
    else:
        with screen.working("Asking Azure …"):
            lines = _run(screen, examine(found))
    if screen.lively:
        rows = [(n.level, n.check, n.subject, f"{n.cause} -> {n.step}" if n.step else n.cause) for n in lines]
        screen.table(("level", "check", "subject", "cause -> next step"), rows)
    else:
        screen.table((), ((n.level, n.check, n.subject, n.cause, n.step) for n in lines))
    failed = any(line.level is judge.Level.FAILURE for line in lines)
    code = Exit.NEEDS_A_PERSON if failed else Exit.DONE
    code = Exit.MISCONFIGURED if isinstance(found, Mistakes) else code
    screen.end(code, {"lines": [line.to_json() for line in lines]})


@app.command()
def probe(
    context: typer.Context,
    host: Annotated[str, typer.Argument(help="The hostname to ask for; with :PORT where it is not 443.")],
    connect: Annotated[
        str | None, typer.Option("--connect", help="HOST[:PORT] to dial instead, as for one region.")
    ] = None,
    connections: Annotated[int, typer.Option("--connections", min=1, max=100, help="How many to make.")] = 1,
    as_json: AsJson = False,
) -> None:
    """What any hostname serves: leaf, chain, and the record to prove it with. Needs no sign-in."""
    screen = Screen("probe", as_json=as_json)
    name, port = _host_and_port(screen, host, 443)
    dialled, dialled_port = _host_and_port(screen, connect, port) if connect else (name, port)
    settings = _settings(context, screen, scoped=False)
    endpoint = Endpoint(name, "", dialled, dialled_port, connections)
    with screen.working(f"Connecting to {dialled}:{dialled_port} …"):
        seen = _run(screen, handshakes(settings, endpoint))
    served = [each for each in seen if isinstance(each, ServedCertificate)]
    chain = served[0].chain if served else ()
    now = datetime.now(UTC)
    screen.table(
        ("name", "value"),
        (pair for each in _distinct(served) for pair in _record(each).items() if pair[1] is not None),
    )
    for failure in (each for each in seen if isinstance(each, ProbeFailure)):
        screen.line(f"{failure.endpoint.host}:{failure.endpoint.port}: {failure.fault} ({failure.detail})")
    screen.part("chain", "Chain as it is sent")
    screen.table(
        ("subject", "issuer", "ends", "thumbprint"),
        (
            (link.subject, link.issuer, f"{link.not_after:%Y-%m-%d}", link.thumbprint)
            for link in chain
            if link.not_after
        ),
    )
    code = Exit.DONE
    if any(each.distrust for each in served):
        code = Exit.NEEDS_A_PERSON
    if len(served) < len(seen):
        code = Exit.NOT_SEEN
    result = {
        "as_of": now.isoformat(),
        "host": name,
        "connected_to": f"{dialled}:{dialled_port}",
        "served": [{**_record(each), "names": list(each.names)} for each in served],
        "failures": [{"fault": f.fault, "detail": f.detail} for f in seen if isinstance(f, ProbeFailure)],
        "chain": [
            {
                "subject": link.subject,
                "issuer": link.issuer,
                "thumbprint": link.thumbprint,
                "not_after": link.not_after.isoformat() if link.not_after else None,
            }
            for link in chain
        ],
    }
    screen.end(code, result)


def run() -> None:
    """The program."""
    app()


def _common(context: typer.Context) -> _Common:
    found = context.obj
    assert isinstance(found, _Common)
    return found


def _settings(
    context: typer.Context,
    screen: Screen,
    *,
    acting: bool = False,
    scoped: bool = True,
    options: Mapping[str, str] | None = None,
) -> Settings:
    """Those of the environment and the options; only --yes may act, whatever ROTATION_MODE says."""
    found = load(options={**_common(context).options, **(options or {})})
    if isinstance(found, Mistakes) and not scoped:
        sentences = tuple(each for each in found.sentences if NO_SCOPE not in each)
        if not sentences:
            found = load(options={f"{PREFIX}SUBSCRIPTIONS": "00000000-0000-0000-0000-000000000000"})
    if isinstance(found, Mistakes):
        for sentence in found.sentences:
            screen.note(sentence)
        screen.end(Exit.MISCONFIGURED)
    return replace(found, enforce=acting)


def _asked(
    screen: Screen,
    settings: Settings,
    gateway: str | None,
    hostname: str | None,
    certificate: str | None,
    vault: str | None,
    *,
    everything: bool = False,
    force: bool = False,
    override: Iterable[str] | None = None,
) -> api.Resync:
    """The same reading, and the same refusals, as POST /api/resync."""
    named = {"gateway": gateway, "hostname": hostname, "certificate": certificate, "vault": vault}
    fields: dict[str, object] = {name: value for name, value in named.items() if value is not None}
    if everything and not fields:
        fields["all"] = True
    fields |= {"force": force, "override": list(override or ())}
    asked = api.read_resync("application/json", json.dumps(fields).encode(), settings.cloud.vault_suffix)
    if isinstance(asked, api.Problem):
        screen.note(asked.detail.partition(". Send for example")[0])
        screen.end(Exit.USAGE)
    return asked


def _run(screen: Screen, work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        screen.note("Interrupted. A sync that was asked for goes on by itself.")
        screen.end(Exit.INTERRUPTED)
    except TimeoutError:
        screen.note("Not done in time; run again.")
        screen.end(Exit.NOT_SEEN)


def _look(screen: Screen, settings: Settings, scope: Scope, asked: api.Resync | None = None) -> Report:
    """A pass that leaves no trace: not in the ledger, and not in Application Insights."""
    overrides = asked.overrides if asked else frozenset()
    with screen.working(f"Looking at {scope} …"):
        report = _run(screen, look(settings, scope, overrides))
    screen.problems(report)
    return report


def _resync(
    screen: Screen, settings: Settings, asked: api.Resync, *, yes: bool, before: Report | None = None
) -> None:
    if not settings.ledger.startswith("https://"):
        screen.note(
            f"The ledger is the local file {settings.ledger}: limits hold for this machine only. Set"
            " ROTATION_LEDGER to the app's table to share them with the app."
        )
    if yes:
        with screen.working("Asking for syncs …"):
            report = _run(screen, act(settings, asked))
        screen.problems(report)
        decisions = report.decisions
        code = of_resync(report)
    else:
        report = before or _look(screen, settings, asked.scope, asked)
        decisions = planned(report, asked.mode, _brakes(settings))
        code = of_report(report)
        screen.note("A dry run: nothing was changed. --yes does it.")
    _show_decisions(screen, decisions)
    screen.end(code, {**_result(report, decisions), "dry_run": not yes})


def _record(seen: ServedCertificate) -> dict[str, object]:
    """The proof of one connection, and the command that makes the same one."""
    return {
        "thumbprint": seen.thumbprint,
        "sha256": seen.sha256,
        "subject": seen.subject,
        "issuer": seen.issuer,
        "serial": seen.serial,
        "not_after": seen.not_after.isoformat() if seen.not_after else None,
        "distrust": seen.distrust,
        "tls_version": seen.tls_version,
        "address": seen.address,
        "openssl": (
            f"openssl s_client -connect {seen.address} -servername {seen.endpoint.sni} </dev/null"
            " | openssl x509 -noout -fingerprint -sha1 -serial -issuer -enddate"
        ),
    }


def _distinct(served: Iterable[ServedCertificate]) -> list[ServedCertificate]:
    return list({each.thumbprint: each for each in served}.values())


def _host_and_port(screen: Screen, text: str, default: int) -> tuple[str, int]:
    host, colon, port = text.strip().lower().partition(":")
    if not host or (colon and not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536)):
        screen.note(f"{text!r} is not HOST or HOST:PORT.")
        screen.end(Exit.USAGE)
    return host, int(port) if port else default


def _brakes(settings: Settings) -> Brakes:
    return replace(settings.brakes, urgent=settings.limits.expires_soon)


def _uses(verdict: Verdict, certificate: CertificateId | None) -> bool:
    reference = verdict.evidence.binding.reference
    return reference is not None and reference.certificate == certificate


def _expected(report: Report) -> dict[CertificateId, CertificateVersion]:
    found = (v.evidence.expected for v in report.verdicts)
    return {e.certificate: e for e in found if isinstance(e, CertificateVersion)}


def _show_verdicts(screen: Screen, report: Report) -> None:
    """On a terminal the sentences follow the table, of what is not as it should be."""
    verdicts = sorted(report.verdicts, key=reports.urgency)
    if not screen.lively:
        screen.table((), ((*_names(v), _expected_thumbprint(v), v.message) for v in verdicts))
        return
    screen.table(
        ("status", "reason", "gateway", "hostname", "kind", "expected", "served", "ends"),
        (
            (*_names(v), v.evidence.gateway.kind.name, _expected_thumbprint(v)[:10], _leaves(v), _end(v))
            for v in verdicts
        ),
    )
    for verdict in verdicts:
        if verdict.reason not in {Reason.SERVED, Reason.NOT_FROM_KEY_VAULT, Reason.CONFIGURED_ONLY}:
            screen.line(f"- {verdict.message}")


def _show_authorities(screen: Screen, report: Report) -> None:
    """Where self-hosted gateways have some: what they judge their clients by, and until when."""
    if not report.authorities:
        return
    screen.part("authorities", "Certificate authorities of self-hosted gateways")
    screen.table(
        ("service", "gateway", "authority", "trusted", "thumbprint", "ends"),
        (
            (
                each.service_id.rpartition("/")[2],
                each.gateway,
                each.name,
                "yes" if each.trusted else "no",
                (each.thumbprint or "")[:10],
                f"{each.not_after:%Y-%m-%d}" if each.not_after else "",
            )
            for each in sorted(
                report.authorities, key=lambda one: (one.not_after or report.run.now, one.name)
            )
        ),
    )


def _names(verdict: Verdict) -> tuple[str, ...]:
    evidence = verdict.evidence
    return verdict.status, verdict.reason, evidence.gateway.name, evidence.binding.hostname


def _expected_thumbprint(verdict: Verdict) -> str:
    expected = verdict.evidence.expected
    return expected.thumbprint if isinstance(expected, CertificateVersion) else ""


def _leaves(verdict: Verdict) -> str:
    seen = {o.thumbprint[:10] for o in verdict.evidence.observations if isinstance(o, ServedCertificate)}
    return " ".join(sorted(seen)) or "nothing seen"


def _end(verdict: Verdict) -> str:
    leaves = (o for o in verdict.evidence.observations if isinstance(o, ServedCertificate))
    ends = [leaf.not_after for leaf in leaves if leaf.not_after]
    return f"{min(ends):%Y-%m-%d}" if ends else ""


def _show_decisions(screen: Screen, decisions: Iterable[Decision]) -> None:
    screen.table(("choice", "gateway", "why"), ((d.choice, d.gateway.name, d.message) for d in decisions))


def _result(report: Report, decisions: Iterable[Decision]) -> dict[str, object]:
    return {"report": reports.to_json(report), "decisions": [reports.decision_to_json(d) for d in decisions]}


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in values.items()}
