"""Event Grid envelope in, certificate id out, or why it is ignored. Pure.

An event is a hint: it says which certificate to look at, never what is true of it.
Shapes: https://learn.microsoft.com/azure/event-grid/event-schema-key-vault
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from rotation.model import CertificateId, KeyVaultReference, clean


class Occasion(StrEnum):
    """What Key Vault announced."""

    NEW_VERSION = "NewVersionCreated"
    NEAR_EXPIRY = "NearExpiry"
    EXPIRED = "Expired"


OCCASIONS: Mapping[str, Occasion] = {
    "Microsoft.KeyVault.CertificateNewVersionCreated": Occasion.NEW_VERSION,
    "Microsoft.KeyVault.CertificateNearExpiry": Occasion.NEAR_EXPIRY,
    "Microsoft.KeyVault.CertificateExpired": Occasion.EXPIRED,
}
"""By the type of an event. azure-eventgrid has the names too, and takes a tenth of a second to import."""


@dataclass(frozen=True, slots=True)
class CertificateEvent:
    """A certificate to look at, and the occasion."""

    certificate: CertificateId
    occasion: Occasion


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that is answered with success and leads to nothing."""

    why: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is looked at of an event, in Event Grid's own schema as in CloudEvents 1.0."""

    id: str
    event_type: str
    source: str
    data: object


def from_json(text: str | bytes) -> Envelope:
    """An event as Event Grid sends it to the webhook, and puts it into a queue.

    No more is read than is looked at: the SDK's converter would refuse an event for the form of its time.

    Raises:
        ValueError: it is none.
    """
    try:
        event = json.loads(text)
        if not isinstance(event, Mapping):
            raise TypeError("it is no JSON object")
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"it is no event of Event Grid ({clean(error)})") from error
    names = ("id", "type", "source") if "specversion" in event else ("id", "eventType", "topic")
    id_, event_type, source = (event[n] if isinstance(event.get(n), str) else "" for n in names)
    return Envelope(id_, event_type, source, event.get("data"))


def read(event: Envelope, vault_suffix: str, vaults: frozenset[str]) -> CertificateEvent | Ignored:
    """The certificate that an event is about.

    `vaults` are the vault hosts that are looked at; empty means every vault of the cloud.
    """
    occasion = OCCASIONS.get(event.event_type)
    if occasion is None:
        return Ignored(f"type {clean(event.event_type)!r} is not one that is acted upon")
    if not isinstance(event.data, Mapping):
        return Ignored("its data is not an object")
    fields = {k.strip().lower(): value.strip() for k, value in event.data.items() if isinstance(value, str)}
    try:
        reference = KeyVaultReference.from_url(fields.get("id", ""), vault_suffix)
    except ValueError as error:
        return Ignored(str(error))
    return _checked(reference.certificate, occasion, fields, event.source.lower(), vaults)


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
