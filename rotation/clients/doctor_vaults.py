"""The list of a vault's certificates: names, thumbprints and ends, never a key.

GET /certificates: https://learn.microsoft.com/rest/api/keyvault/certificates/get-certificates/get-certificates.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.identity.aio import DefaultAzureCredential
from azure.keyvault.certificates.aio import CertificateClient

from rotation.clients.arm import say
from rotation.clients.http import CALL_OPTIONS, CALL_SECONDS, MALFORMED, OnlyHost, open_session, tls_context
from rotation.clients.http import transport as transport_of
from rotation.model import CertificateId, clean
from rotation.settings import Settings

MOST_CERTIFICATES = 5000


async def list_certificates(
    settings: Settings, vault_hosts: Iterable[str]
) -> tuple[list[CertificateId], list[str]]:
    """The certificates of these vaults, and which vaults could not be listed."""
    credential = DefaultAzureCredential(authority=settings.cloud.authority)
    session = open_session(tls_context(settings.ca_bundle), settings.connect_to)
    async with credential, session:
        shared = transport_of(session)
        answers = await asyncio.gather(*(_list(host, credential, shared) for host in sorted(vault_hosts)))
    found = [certificate for answer in answers if not isinstance(answer, str) for certificate in answer]
    return found, [answer for answer in answers if isinstance(answer, str)]


async def _list(
    host: str, credential: AsyncTokenCredential, shared: AsyncHttpTransport[Any, Any]
) -> list[CertificateId] | str:
    url = f"https://{host}"
    client = CertificateClient(
        url, credential, transport=shared, per_call_policies=[OnlyHost(url)], **CALL_OPTIONS
    )
    found: list[CertificateId] = []
    try:
        async with asyncio.timeout(CALL_SECONDS):
            async for item in client.list_properties_of_certificates():
                if item.enabled is not False and item.name:
                    found.append(CertificateId(host, item.name.lower()))
                if len(found) == MOST_CERTIFICATES:
                    break
    except (AzureError, TimeoutError, *MALFORMED) as error:
        return f"The certificates of {host} could not be listed ({clean(say(error))})."
    return found
