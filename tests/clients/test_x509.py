import tracemalloc

import pytest

from rotation.clients.x509 import Described, describe
from tests.clients import forge


def everything(der: bytes) -> tuple[object, ...]:
    """All that a certificate may say of itself."""
    it = Described(der)
    return it.not_before, it.not_after, it.names, it.subject, it.issuer, it.serial, it.self_signed, it.key


UNREADABLE = (None, None, (), "unreadable", "unreadable", "unreadable", False, "unreadable")


def test_a_key_of_no_known_kind_hides_nothing_else() -> None:
    """Anybody can put any key into a certificate and serve it: the rest is read, and no pass ends here."""
    leaf = describe(forge.unknown_curve().der)

    assert ("unreadable", "CN=api.contoso.com", ("api.contoso.com",)) == (leaf.key, leaf.subject, leaf.names)


@pytest.mark.parametrize(
    "der", [b"", b"\x00", b"\x30\x03\x02\x01\x05", b"\x30\x84\xff\xff\xff\xff", b"x" * 5000]
)
def test_what_is_no_certificate_is_unreadable(der: bytes) -> None:
    """Bytes that are not even a certificate are described all the same."""
    assert UNREADABLE == everything(der)


def test_every_shortened_certificate_is_described() -> None:
    """Wherever the bytes end, the answer is a value."""
    whole = forge.self_signed().der

    assert {UNREADABLE} == {everything(whole[:length]) for length in range(len(whole))}


def test_a_certificate_is_parsed_once() -> None:
    """The next connection that meets it, and the next pass, find what was read before."""
    der = forge.self_signed().der

    assert describe(der) is describe(bytes(bytearray(der)))
    assert describe(der).names is describe(der).names


def test_every_changed_certificate_is_described() -> None:
    """Whatever byte is another, the answer is a value: a peer may send anything that OpenSSL lets through."""
    whole = forge.self_signed().der
    for at in range(len(whole)):
        for other in {0, 5, 255, *(whole[at] ^ 1 << bit for bit in range(8))}:
            assert len(UNREADABLE) == len(everything(whole[:at] + bytes([other]) + whole[at + 1 :]))


def test_large_certificates_are_not_remembered() -> None:
    """A peer that sends another one on every connection would fill the memory of the app within hours."""
    tracemalloc.start()
    try:
        for n in range(1000):
            describe(n.to_bytes(4, "big") * 25_000)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 1_000_000
