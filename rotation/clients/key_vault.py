"""Key Vault certificates, their public part only. No call here could return a private key.

GET /certificates/{name}, /certificates/{name}/versions and /deletedcertificates/{name}:
https://learn.microsoft.com/rest/api/keyvault/certificates. Needs certificates get and list.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, DecodeError, HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.keyvault.certificates import KeyVaultCertificate
from azure.keyvault.certificates.aio import CertificateClient

from rotation.clients.arm import say
from rotation.clients.http import CALL_OPTIONS, CALL_SECONDS, MALFORMED, OnlyHost
from rotation.clients.x509 import describe
from rotation.model import (
    CertificateId,
    CertificateUnreadable,
    CertificateVersion,
    UnreadableCause,
    clean,
)


class KeyVault:
    """Reads certificates of any vault; one client per vault, opened when first needed."""

    def __init__(self, credential: AsyncTokenCredential, transport: AsyncHttpTransport[Any, Any]) -> None:
        self._credential = credential
        self._transport = transport
        self._clients: dict[str, CertificateClient] = {}

    async def current(self, certificate: CertificateId) -> CertificateVersion | CertificateUnreadable:
        """The newest version, enabled or not, or why it could not be read."""
        client = self._client(certificate.vault_host)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                found = await client.get_certificate(certificate.name)
        except ResourceNotFoundError:
            return await self._missing(client, certificate)
        except TimeoutError:
            return CertificateUnreadable(certificate, UnreadableCause.UNREACHABLE, "no answer in time")
        except AzureError as error:
            return CertificateUnreadable(certificate, _cause(error), clean(say(error)))
        except MALFORMED as error:
            return CertificateUnreadable(certificate, UnreadableCause.MALFORMED, clean(say(error)))
        try:
            return _version(certificate, found)
        except MALFORMED as error:
            return CertificateUnreadable(certificate, UnreadableCause.MALFORMED, clean(say(error)))

    async def earlier(self, certificate: CertificateId) -> frozenset[str] | None:
        """The thumbprints of all versions, None where they cannot be listed; there is always at least one."""
        versions = self._client(certificate.vault_host).list_properties_of_certificate_versions(
            certificate.name
        )
        try:
            async with asyncio.timeout(CALL_SECONDS):
                found = [v.x509_thumbprint.hex().upper() async for v in versions if v.x509_thumbprint]
        except (AzureError, TimeoutError, *MALFORMED):
            return None
        return frozenset(found) or None

    async def close(self) -> None:
        """Close every client; the session is not theirs."""
        for client in self._clients.values():
            await client.close()

    def _client(self, vault_host: str) -> CertificateClient:
        if vault_host not in self._clients:
            url = f"https://{vault_host}"
            self._clients[vault_host] = CertificateClient(
                url,
                self._credential,
                transport=self._transport,
                per_call_policies=[OnlyHost(url)],
                **CALL_OPTIONS,
            )
        return self._clients[vault_host]

    async def _missing(self, client: CertificateClient, certificate: CertificateId) -> CertificateUnreadable:
        """Deleted and recoverable, or never there: a difference in what to do next."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await client.get_deleted_certificate(certificate.name)
        except ResourceNotFoundError:
            return CertificateUnreadable(certificate, UnreadableCause.NOT_FOUND, "no such certificate")
        except (AzureError, TimeoutError, *MALFORMED) as error:
            return CertificateUnreadable(certificate, UnreadableCause.NOT_FOUND, clean(say(error)))
        return CertificateUnreadable(certificate, UnreadableCause.DELETED, "deleted, not yet purged")


def _version(certificate: CertificateId, found: KeyVaultCertificate) -> CertificateVersion:
    properties = found.properties
    if not found.cer or not properties or not properties.version:
        raise ValueError("the answer has no certificate or no version")
    leaf = describe(bytes(found.cer))
    return CertificateVersion(
        certificate=certificate,
        version=properties.version.lower(),
        thumbprint=leaf.thumbprint,
        sha256=leaf.sha256,
        enabled=properties.enabled is not False,
        created=_moment(properties.created_on, "created"),
        updated=_moment(properties.updated_on, "updated"),
        not_before=_moment(leaf.not_before, "notBefore"),
        not_after=_moment(leaf.not_after, "notAfter"),
        names=leaf.names,
        issuer=leaf.issuer,
        self_signed=leaf.self_signed,
        key=leaf.key,
        content_type=_content_type(found),
    )


def _content_type(found: KeyVaultCertificate) -> str | None:
    content_type = found.policy.content_type if found.policy else None
    return clean(getattr(content_type, "value", content_type)) if content_type else None


def _moment(value: datetime | None, name: str) -> datetime:
    if value is None:
        raise ValueError(f"the certificate has no readable {name}")
    return value


def _cause(error: AzureError) -> UnreadableCause:
    if isinstance(error, DecodeError):
        return UnreadableCause.MALFORMED
    if not isinstance(error, HttpResponseError) or error.status_code is None:
        return UnreadableCause.UNREACHABLE
    if error.status_code == 403 and "disabled" in _inner_code(error).lower():
        return UnreadableCause.DISABLED
    if error.status_code in {401, 403}:
        return UnreadableCause.FORBIDDEN
    return UnreadableCause.THROTTLED if error.status_code == 429 else UnreadableCause.UNREACHABLE


def _inner_code(error: HttpResponseError) -> str:
    """The code inside `innererror`, such as CertificateDisabled or ForbiddenByFirewall."""
    inner: object = getattr(error.error, "innererror", None)
    return str(inner.get("code", "")) if isinstance(inner, Mapping) else ""
