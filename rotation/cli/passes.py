"""What the commands do with the clients that `rotation.app` puts together."""

import asyncio
from collections.abc import Iterable, Mapping

from rotation.api import Resync
from rotation.app import build
from rotation.cli.screen import Screen
from rotation.model import (
    CertificateId,
    CertificateVersion,
    Endpoint,
    Mode,
    Observation,
    Reason,
    Report,
    Scope,
    Trigger,
)
from rotation.reconcile import reconcile
from rotation.settings import Settings

READS_AT_ONCE = 16
SHELL = "the command line"


async def look(settings: Settings, scope: Scope, overrides: frozenset[Reason]) -> Report:
    """A pass that leaves no trace."""
    made = build(settings)
    async with made.opened:
        return await reconcile(made.world, scope, Mode.OBSERVE, Trigger.HAND, overrides)


async def act(settings: Settings, asked: Resync) -> Report:
    """The pass that may act. Without Application Insights what is to be told waits in the ledger."""
    made = build(settings)
    async with made.opened:
        if made.insights is None:
            return await reconcile(
                made.world, asked.scope, asked.mode, Trigger.HAND, asked.overrides, asked_by=SHELL
            )
        return await made.run(asked.scope, asked.mode, Trigger.HAND, None, asked.overrides, asked_by=SHELL)


async def survey(
    screen: Screen,
    settings: Settings,
    hosts: Iterable[str],
    known: Mapping[CertificateId, CertificateVersion],
) -> tuple[list[CertificateId] | None, dict[CertificateId, CertificateVersion]]:
    """All certificates of these vaults, and what can be read of them; None where a list was refused."""
    from rotation.clients.doctor_vaults import list_certificates

    listed, problems = await list_certificates(settings, hosts)
    for problem in problems:
        screen.note(f"{problem} Orphans and look-alikes are not known. It needs certificates list.")
    versions = dict(known)
    unread = [certificate for certificate in listed if certificate not in versions]
    turns = asyncio.Semaphore(READS_AT_ONCE)
    made = build(settings)
    async with made.opened:
        with screen.progress() as progress:
            task = progress.add_task("Reading certificates", total=len(unread))

            async def read(certificate: CertificateId) -> None:
                async with turns:
                    found = await made.world.certificates.current(certificate)
                if isinstance(found, CertificateVersion):
                    versions[certificate] = found
                progress.advance(task)

            await asyncio.gather(*map(read, unread))
    return None if problems else listed, versions


async def handshakes(settings: Settings, endpoint: Endpoint) -> list[Observation]:
    """What an endpoint serves, with no sign-in; who asks has written down where it is, private or not."""
    from rotation.clients.http import tls_context
    from rotation.clients.reach import ANY_PRIVATE, Reach
    from rotation.clients.tls import TlsProbe

    handshake = TlsProbe(
        tls_context(settings.ca_bundle), settings.connect_to, settings.probe_timeout, Reach((ANY_PRIVATE,))
    )
    return await handshake([endpoint])
