import re
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotation import model
from rotation.model import (
    Address,
    CertificateId,
    Endpoint,
    KeyVaultReference,
    LedgerRow,
    Scope,
    SyncOutcome,
    clean,
    shorten,
)
from tests.unit import build
from tests.unit.build import NOW, SUFFIX, minutes, row

HOST = "https://kv-gateways.vault.azure.net"
NAMED = CertificateId("kv-gateways.vault.azure.net", "api-contoso-com")

REFERENCES: dict[str, tuple[str, CertificateId, str | None]] = {
    "a secret": (f"{HOST}/secrets/api-contoso-com", NAMED, None),
    "a certificate": (f"{HOST}/certificates/api-contoso-com", NAMED, None),
    "a secret with a version": (f"{HOST}/secrets/api-contoso-com/{'a1' * 16}", NAMED, "a1" * 16),
    "a slash at the end": (f"{HOST}/secrets/api-contoso-com/", NAMED, None),
    "a version and a slash at the end": (f"{HOST}/secrets/api-contoso-com/1/", NAMED, "1"),
    "everything in another case": (f"{HOST}/Secrets/API-Contoso-Com/A1".upper(), NAMED, "a1"),
    "spaces around": (f"  {HOST}/secrets/api-contoso-com\n", NAMED, None),
    "a name of one character": (f"{HOST}/secrets/x", CertificateId(NAMED.vault_host, "x"), None),
    "a name of 127 characters": (
        f"{HOST}/secrets/{'x' * 127}",
        CertificateId(NAMED.vault_host, "x" * 127),
        None,
    ),
    "a vault of three characters": (
        "https://kv1.vault.azure.net/secrets/x",
        CertificateId("kv1.vault.azure.net", "x"),
        None,
    ),
    "a vault of 24 characters": (
        f"https://{'v' * 24}.vault.azure.net/secrets/x",
        CertificateId(f"{'v' * 24}.vault.azure.net", "x"),
        None,
    ),
}


@pytest.mark.parametrize(("url", "certificate", "version"), REFERENCES.values(), ids=REFERENCES)
def test_a_reference_may_be_written_with(url: str, certificate: CertificateId, version: str | None) -> None:
    """Proves that the same certificate is recognised however Azure or a person has written it."""
    expected = KeyVaultReference(certificate, version)
    actual = KeyVaultReference.from_url(url, SUFFIX)

    assert expected == actual


HOSTILE = {
    "nothing": "",
    "a name": "api-contoso-com",
    "a path": "/secrets/api-contoso-com",
    "no scheme": "kv-gateways.vault.azure.net/secrets/x",
    "no TLS": "http://kv-gateways.vault.azure.net/secrets/x",
    "another scheme": "ftp://kv-gateways.vault.azure.net/secrets/x",
    "user info": "https://user:pass@kv-gateways.vault.azure.net/secrets/x",
    "an empty user": "https://@kv-gateways.vault.azure.net/secrets/x",
    "the vault as a user": "https://kv-gateways.vault.azure.net@evil.example/secrets/x",
    "the vault as a user behind a backslash": "https://evil.example\\@kv-gateways.vault.azure.net/secrets/x",
    "a port": "https://kv-gateways.vault.azure.net:443/secrets/x",
    "an empty port": "https://kv-gateways.vault.azure.net:/secrets/x",
    "another suffix": "https://kv-gateways.vault.azure.cn/secrets/x",
    "a suffix behind the suffix": "https://kv-gateways.vault.azure.net.evil.example/secrets/x",
    "a dot behind the suffix": "https://kv-gateways.vault.azure.net./secrets/x",
    "a label before the vault": "https://a.kv-gateways.vault.azure.net/secrets/x",
    "no vault": "https://vault.azure.net/secrets/x",
    "an empty vault": "https://.vault.azure.net/secrets/x",
    "a vault of two characters": "https://kv.vault.azure.net/secrets/x",
    "a vault of 25 characters": f"https://{'v' * 25}.vault.azure.net/secrets/x",
    "a vault that begins with a digit": "https://1kv.vault.azure.net/secrets/x",
    "a vault that ends with a hyphen": "https://kv-.vault.azure.net/secrets/x",
    "a vault with an underscore": "https://kv_a.vault.azure.net/secrets/x",
    "a vault with a percent sign": "https://kv%2ea.vault.azure.net/secrets/x",
    "a vault with a Cyrillic letter": "https://kv-g\u0430teways.vault.azure.net/secrets/x",
    "a vault with the Kelvin sign": "https://\u212av-gateways.vault.azure.net/secrets/x",
    "a name with the Kelvin sign": f"{HOST}/secrets/api-\u212a",
    "a vault with a full-width dot": "https://kv-gateways\uff0evault.azure.net/secrets/x",
    "a vault in brackets": "https://[::1]/secrets/x",
    "a broken bracket": "https://[::1/secrets/x",
    "an address": "https://169.254.169.254/secrets/x",
    "keys": f"{HOST}/keys/x",
    "no collection": f"{HOST}/x",
    "a collection alone": f"{HOST}/secrets",
    "nothing behind the collection": f"{HOST}/secrets/",
    "an empty name": f"{HOST}/secrets//1",
    "too many parts": f"{HOST}/secrets/x/1/2",
    "an empty part too many": f"{HOST}/secrets/x//1",
    "two dots": f"{HOST}/secrets/../x",
    "two dots at the end": f"{HOST}/secrets/x/..",
    "an encoded slash": f"{HOST}/secrets/a%2fb",
    "an encoded NUL": f"{HOST}/secrets/x%00",
    "an underscore in the name": f"{HOST}/secrets/a_b",
    "a name of 128 characters": f"{HOST}/secrets/{'x' * 128}",
    "a version with a hyphen": f"{HOST}/secrets/x/1-2",
    "a version of 65 characters": f"{HOST}/secrets/x/{'1' * 65}",
    "a query": f"{HOST}/secrets/x?y=1",
    "a fragment": f"{HOST}/secrets/x#y",
    "a parameter": f"{HOST}/secrets/x;y",
    "a space inside": f"{HOST}/secrets/a b",
    "a line break inside the name": f"{HOST}/secrets/a\r\nb",
    "a tab inside the vault": "https://kv\t-gateways.vault.azure.net/secrets/x",
    "a NUL": f"{HOST}/secrets/x\0",
    "half a character": f"{HOST}/secrets/x\ud800",
}


@pytest.mark.parametrize("url", HOSTILE.values(), ids=HOSTILE)
def test_a_reference_may_not_have(url: str) -> None:
    """Proves that nothing is ever read from a place that is no vault of the cloud, and says so in print."""
    with pytest.raises(ValueError, match=r"\S") as error:
        KeyVaultReference.from_url(url, SUFFIX)

    assert len(str(error.value)) < 600


def test_a_reference_is_of_the_cloud_that_is_asked_for() -> None:
    """Proves that suffixes are not mixed."""
    expected = CertificateId("kv-gateways.vault.azure.cn", "x")
    actual = KeyVaultReference.from_url("https://kv-gateways.vault.azure.cn/secrets/x", "vault.azure.cn")

    assert KeyVaultReference(expected, None) == actual


NAMES = st.from_regex(r"[0-9a-zA-Z-]{1,127}", fullmatch=True)
VAULTS = st.from_regex(r"[a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9]", fullmatch=True)


@given(vault=VAULTS, name=NAMES, version=st.none() | st.from_regex(r"[0-9a-fA-F]{32}", fullmatch=True))
def test_every_certificate_survives_being_written_and_read(
    vault: str, name: str, version: str | None
) -> None:
    """Proves that both forms of a reference lead back to the same certificate."""
    expected = CertificateId(f"{vault.lower()}.{SUFFIX}", name.lower())
    tail = f"/{version}" if version else ""
    for written in (
        f"https://{vault}.{SUFFIX}/secrets/{name}{tail}",
        f"{expected}{tail}",
        expected.secret_url + tail,
    ):
        actual = KeyVaultReference.from_url(written, SUFFIX)

        assert KeyVaultReference(expected, version.lower() if version else None) == actual


PIECES = st.sampled_from(
    ["https://", "kv-a", ".vault.azure.net", "/", "secrets", "@", ":", "%2f", "..", "#", "[", " "]
)


@given(url=st.text() | st.lists(PIECES | st.text(max_size=3)).map("".join))
def test_what_is_read_is_always_a_vault_of_the_cloud(url: str) -> None:
    """Proves over made-up URLs: a ValueError, or a host and a name of the strict form."""
    try:
        found = KeyVaultReference.from_url(url, SUFFIX).certificate
    except ValueError:
        return

    assert found.vault_host.endswith(f".{SUFFIX}")
    assert found.vault_host.count(".") == 3
    assert found.name.replace("-", "a").isalnum()
    assert str(found).isascii()


CLEANED = {
    "plain text stays": ("api.contoso.com", "api.contoso.com"),
    "letters of the world stay": ("Zürich 東京", "Zürich 東京"),
    "line breaks go": ("a\r\nb", "a  b"),
    "tabs and NULs go": ("a\tb\0c", "a b c"),
    "escape sequences go": ("\x1b[31mred", " [31mred"),
    "C1 controls go": ("a\x85b\x9bc", "a b c"),
    "delete goes": ("a\x7fb", "a b"),
    "bidirectional overrides go": ("a\u202eb\u202cc", "a b c"),
    "isolates go": ("a\u2066b\u2069c", "a b c"),
    "marks go": ("a\u200eb\u200fc", "a b c"),
    "zero-width characters go": ("a\u200bb\u200dc\ufeffd", "a b c d"),
    "line and paragraph separators go": ("a\u2028b\u2029c", "a b c"),
    "numbers are text": (5, "5"),
    "nothing is a word": (None, "None"),
    "an error is its message": (ValueError("a\nb"), "a b"),
    "what is long is cut": ("x" * 300, "x" * 256),
}


@pytest.mark.parametrize(("text", "expected"), CLEANED.values(), ids=CLEANED)
def test_cleaned_text_is_safe_to_show(text: object, expected: str) -> None:
    """Proves what reaches logs and pages of what others have written."""
    actual = clean(text)

    assert expected == actual


def test_the_length_to_cut_at_may_be_given() -> None:
    """Proves the second argument."""
    expected = "xxxxx"
    actual = clean("x" * 10, 5)

    assert expected == actual


@given(text=st.text())
def test_cleaned_text_never_has_a_control_character(text: str) -> None:
    """Proves the same of everything that can be written."""
    cleaned = clean(text)

    assert len(cleaned) <= 256
    assert all(ord(c) >= 32 and not 127 <= ord(c) < 160 and c not in "\u2028\u2029\u202e" for c in cleaned)


def test_a_short_thumbprint_has_ten_digits() -> None:
    """Proves the form that sentences use."""
    expected = "A1A1A1A1A1…"
    actual = shorten(build.NEW)

    assert expected == actual


HELLOS = {
    "a name is asked for as it is": ("api.contoso.com", "api.contoso.com"),
    "case is folded": ("API.Contoso.com", "api.contoso.com"),
    "a dot at the end goes": ("api.contoso.com.", "api.contoso.com"),
    "a wildcard gets a label": ("*.contoso.com", "rotation-check.contoso.com"),
    "a wildcard of a deep zone too": ("*.a.b.contoso.com", "rotation-check.a.b.contoso.com"),
    "a star inside stays": ("a.*.contoso.com", "a.*.contoso.com"),
}


@pytest.mark.parametrize(("hostname", "expected"), HELLOS.values(), ids=HELLOS)
def test_the_name_for_the_hello(hostname: str, expected: str) -> None:
    """Proves that a gateway is asked for a name that it can answer."""
    actual = Endpoint(hostname, "West Europe", "10.0.0.4").sni

    assert expected == actual


ADDRESSES = {
    "a name": ("GW.contoso.com", Address("gw.contoso.com", 443, 1)),
    "a port": (" 10.1.2.3:8443 ", Address("10.1.2.3", 8443, 1)),
    "replicas": ("gw.contoso.com*3", Address("gw.contoso.com", 443, 3)),
    "all of it": ("gw.contoso.com:8443*64", Address("gw.contoso.com", 8443, 64)),
    "six": ("[fd00::5]:8443", Address("fd00::5", 8443, 1)),
}
NO_ADDRESSES = (
    "",
    ":443",
    "gw:0",
    "gw:65536",
    "gw*0",
    "gw*65",
    "gw:",
    "gw*",
    "a b",
    "gw:443:443",
    "fd00::5",
    "gw/x",
)


@pytest.mark.parametrize(("text", "expected"), ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_is_read(text: str, expected: Address) -> None:
    """Proves what may stand in a setting and in a tag."""
    assert expected == Address.from_text(text)


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Proves that nothing is dialled by mistake, and that what was written is shown."""
    with pytest.raises(ValueError, match=f"^{re.escape(repr(text))} is no address; write HOST"):
        Address.from_text(text)


SYNCING = row(asked=minutes(-10), due=minutes(20))
IN_FLIGHT: dict[str, tuple[LedgerRow, bool]] = {
    "a new row is not": (LedgerRow("gw"), False),
    "just asked for is": (row(asked=timedelta(0), due=minutes(30)), True),
    "before the next attempt is": (SYNCING, True),
    "at the next attempt is not": (row(asked=minutes(-30), due=timedelta(0)), False),
    "44 minutes of a longer wait are": (row(asked=minutes(-44), due=minutes(60)), True),
    "45 minutes of a longer wait are not": (row(asked=minutes(-45), due=minutes(60)), False),
    "a row from before the app knew of kinds is": (replace(SYNCING, awaited_until=None), True),
    "a minute after a kind that takes one is not": (replace(SYNCING, awaited_until=NOW), False),
    "proven is not": (row(asked=minutes(-10), due=minutes(20), proven=minutes(-1)), False),
    "refused at the first attempt is not": (row(attempts=0, due=minutes(5), outcome=SyncOutcome.BUSY), False),
    "refused at the second attempt the first may be": (
        row(asked=minutes(-31), due=minutes(4), outcome=SyncOutcome.BUSY),
        True,
    ),
    "an unknown outcome is": (row(asked=minutes(-10), due=minutes(20), outcome=SyncOutcome.UNKNOWN), True),
}


@pytest.mark.parametrize(("ledger", "expected"), IN_FLIGHT.values(), ids=IN_FLIGHT)
def test_a_sync_is_in_flight(ledger: LedgerRow, expected: bool) -> None:
    """Proves how long a sync is waited for."""
    actual = ledger.in_flight(NOW)

    assert expected == actual


ASKED_FOR = {
    "this version": (row(), True),
    "another version": (row(wanted={str(build.CERTIFICATE): "v1"}), False),
    "another certificate": (row(wanted={f"{HOST}/certificates/x": "v2"}), False),
    "an attempt that was given back": (row(attempts=0), False),
    "nothing": (LedgerRow("gw"), False),
}


@pytest.mark.parametrize(("ledger", "expected"), ASKED_FOR.values(), ids=ASKED_FOR)
def test_a_version_was_asked_for(ledger: LedgerRow, expected: bool) -> None:
    """Proves when a sync of ours may explain what is seen."""
    actual = ledger.asked_for(build.version())

    assert expected == actual


STATES = {
    **dict.fromkeys(("Succeeded", "succeeded", "Ready", "Failed"), False),
    **dict.fromkeys(("Updating", "Activating", "Created", "Deleting", "Unknown", "", "Something new"), True),
}


@pytest.mark.parametrize(("state", "expected"), STATES.items(), ids=[s or "nothing" for s in STATES])
def test_a_service_is_busy_unless_its_state_is_known_to_be_idle(state: str, expected: bool) -> None:
    """Proves that a state that we do not know is not acted upon."""
    actual = build.gateway(state=state).busy

    assert expected == actual


def test_the_certificates_of_a_gateway_are_those_in_scope() -> None:
    """Proves that uploaded and foreign ones are not looked for."""
    expected = {build.CERTIFICATE}
    actual = build.gateway(
        build.binding(),
        build.binding("b.contoso.com"),
        build.binding("c.contoso.com", of=None),
        build.binding("d.contoso.com", of=build.certificate("x"), in_scope=False),
    ).certificates

    assert expected == actual


SCOPES = {
    "everything": Scope(),
    build.GATEWAY_ID: Scope(gateway_id=build.GATEWAY_ID),
    "api.contoso.com": Scope(hostname="api.contoso.com"),
    str(build.CERTIFICATE): Scope(certificate=build.CERTIFICATE),
}


@pytest.mark.parametrize(("expected", "scope"), SCOPES.items(), ids=SCOPES)
def test_a_scope_is_shown_as(expected: str, scope: Scope) -> None:
    """Proves what a log line says was looked at."""
    actual = str(scope)

    assert expected == actual


def test_a_version_is_available_since_the_later_of_its_dates() -> None:
    """Proves that a re-enabled version counts from then, whatever clock wrote the other date."""
    created = build.version().created
    expected = [created, created + minutes(30)]
    actual = [
        build.version(updated=created - minutes(30)).available_since,
        build.version(updated=created + minutes(30)).available_since,
    ]

    assert expected == actual


def test_every_value_is_frozen_and_slotted() -> None:
    """Proves that a value cannot change under those who share it."""
    values = [v for v in vars(model).values() if isinstance(v, type) and is_dataclass(v)]

    assert len(values) >= 15
    assert all("__slots__" in vars(value) for value in values)
    for value in values:
        blank = value.__new__(value)
        with pytest.raises(FrozenInstanceError):
            setattr(blank, fields(value)[0].name, None)
