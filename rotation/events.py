"""Event Grid envelope in, certificate id out, or why it is ignored. Pure.

An event is a hint: it says which certificate to look at, never what is true of it.
Shapes: https://learn.microsoft.com/azure/event-grid/event-schema-key-vault
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from rotation.model import CertificateId, KeyVaultReference, clean


class Occasion(StrEnum):
    """What Key Vault announced."""

    NEW_VERSION = "NewVersionCreated"
    NEAR_EXPIRY = "NearExpiry"
    EXPIRED = "Expired"


@dataclass(frozen=True, slots=True)
class CertificateEvent:
    """A certificate to look at, and the occasion."""

    certificate: CertificateId
    occasion: Occasion


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that is answered with success and leads to nothing."""

    why: str


class Envelope(Protocol):
    """What azure.functions' EventGridEvent and CloudEvent have in common."""

    def get_json(self) -> object:
        """The event's data."""


@dataclass(frozen=True, slots=True)
class Message:
    """An event that came through a queue."""

    id: str
    event_type: str
    topic: str
    data: object

    def get_json(self) -> object:
        """The event's data."""
        return self.data


def from_message(body: bytes) -> Message:
    """The event in a message that Event Grid has put into a queue, in Event Grid's own schema.

    Raises:
        ValueError: it is none.
    """
    from azure.eventgrid import EventGridEvent

    try:
        event = EventGridEvent.from_json(body.decode())
        id_, event_type, topic = (str(text or "") for text in (event.id, event.event_type, event.topic))
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"it is no event of Event Grid ({clean(error)})") from error
    return Message(id_, event_type, topic, event.data)


def read(event: Envelope, vault_suffix: str, vaults: frozenset[str]) -> CertificateEvent | Ignored:
    """The certificate that an event is about.

    `vaults` are the vault hosts that are looked at; empty means every vault of the cloud.
    """
    event_type = str(getattr(event, "event_type", None) or getattr(event, "type", None) or "")
    source = str(getattr(event, "topic", None) or getattr(event, "source", None) or "")
    occasion = _occasions().get(event_type)
    if occasion is None:
        return Ignored(f"type {clean(event_type)!r} is not one that is acted upon")
    try:
        data = event.get_json()
    except (ValueError, TypeError) as error:
        return Ignored(f"its data is not JSON ({clean(error)})")
    if not isinstance(data, Mapping):
        return Ignored("its data is not an object")
    fields = {key.strip().lower(): value.strip() for key, value in data.items() if isinstance(value, str)}
    try:
        reference = KeyVaultReference.from_url(fields.get("id", ""), vault_suffix)
    except ValueError as error:
        return Ignored(str(error))
    return _checked(reference.certificate, occasion, fields, source.lower(), vaults)


def _checked(
    certificate: CertificateId,
    occasion: Occasion,
    fields: Mapping[str, str],
    source: str,
    vaults: frozenset[str],
) -> CertificateEvent | Ignored:
    """Id, VaultName, ObjectName and topic must agree, or somebody made the event up."""
    vault = certificate.vault_host.partition(".")[0]
    if fields.get("vaultname", vault).lower() != vault:
        return Ignored(f"VaultName {clean(fields['vaultname'])!r} is not the vault of its Id, {certificate}")
    if fields.get("objectname", certificate.name).lower() != certificate.name:
        return Ignored(
            f"ObjectName {clean(fields['objectname'])!r} is not the object of its Id, {certificate}"
        )
    if not source.endswith(f"/providers/microsoft.keyvault/vaults/{vault}"):
        return Ignored(f"its source {clean(source)!r} is not the vault of its Id, {certificate}")
    if vaults and certificate.vault_host not in vaults:
        return Ignored(f"{certificate.vault_host} is not in ROTATION_VAULTS")
    return CertificateEvent(certificate, occasion)


def _occasions() -> Mapping[str, Occasion]:
    from azure.eventgrid import SystemEventNames as Names

    return {
        Names.KeyVaultCertificateNewVersionCreatedEventName.value: Occasion.NEW_VERSION,
        Names.KeyVaultCertificateNearExpiryEventName.value: Occasion.NEAR_EXPIRY,
        Names.KeyVaultCertificateExpiredEventName.value: Occasion.EXPIRED,
    }
