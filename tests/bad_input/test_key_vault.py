"""Bad answers of Key Vault, or of somebody in its place.

Right is the verdict: what cannot be read is UNKNOWN or BLOCKED, and never acted upon.
"""

from functools import partial

import pytest

from sandbox.world import Fault, Server
from tests.bad_input.table import Case, Held
from tests.bad_input.world import HOST, VAULT, Door, answered, tick_with

VAULTS = "tests/clients/test_key_vault.py"
EVIL = "<script>\x1b[31m\u202e\r\nforged"


raw = partial(answered, Server.VAULT, "certificates/")


def bundle(**changes: object) -> dict[str, object]:
    """A certificate as Key Vault shows it, changed."""
    return {
        "id": f"{VAULT}/certificates/contoso-com/0123456789abcdef0123456789abcdef",
        "x5t": "AAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "cer": "AAAA",
        "attributes": {"enabled": True, "nbf": 1, "exp": 2, "created": 1, "updated": 1},
        **changes,
    }


def error(code: str, message: str) -> dict[str, object]:
    """Key Vault's error."""
    return {"error": {"code": code, "message": message}}


# fmt: off
CASES = (
    Case("B87", "a captive portal's page", "is no vault", "UNKNOWN", raw(b"<html>Sign in</html>")),
    Case("B87", "nothing", "is no certificate", "UNKNOWN", raw(b"")),
    Case("B87", "9 MB", "memory", "UNKNOWN", raw(b'{"x": "' + b"x" * (9 * 2**20) + b'"}')),
    Case("own", "a certificate without its bytes", "nothing to compare", "UNKNOWN", raw(bundle(cer=None))),
    Case("B95", "a challenge for a foreign resource", "a token for somebody else", "UNKNOWN", raw(error("Unauthorized", "x"), 401, **{"WWW-Authenticate": 'Bearer authorization="https://login.microsoftonline.com/t", resource="https://evil.example"'})),
    Case("own", "bytes that are no certificate", "the parser raises", "UNKNOWN", raw(bundle())),
    Case("own", "bytes that are no base64", "the decoder raises", "UNKNOWN", raw(bundle(cer="!"))),
    Case("own", "a list", "another shape", "UNKNOWN", raw([])),
    Case("own", "nested 20,000 deep", "recursion", "UNKNOWN", raw(b"[" * 20_000 + b"]" * 20_000)),
    Case("own", "an id of another certificate", "another certificate's truth", "UNKNOWN", raw(bundle(id="https://evil.example/certificates/x/1"))),
    Case("own", "an id that is a number", "another shape", "UNKNOWN", raw(bundle(id=5))),
    Case("own", "attributes that are text", "another shape", "UNKNOWN", raw(bundle(attributes="x"))),
    Case("own", "dates beyond all time", "overflow", "UNKNOWN", raw(bundle(attributes={"enabled": True, "created": 10**30}))),
    Case("own", "enabled that is a word", "true to a careless reader", "UNKNOWN", raw(bundle(attributes={"enabled": "no"}))),
    Case("own", "a 403 with script", "shown on the page", "UNKNOWN", raw(error(EVIL, EVIL), 403)),
    Case("own", "a 404 of a proxy", "deleted, to a careless reader", ("UNKNOWN", "BLOCKED"), raw(b"<h1>no</h1>", 404)),
    Case("own", "a redirect", "a token for elsewhere", "UNKNOWN", raw(b"", 302, Location="https://evil.example/")),
    Case("own", "a challenge of nonsense", "the parser raises", "UNKNOWN", raw(error("x", "x"), 401, **{"WWW-Authenticate": 'Bearer "'})),
    Case("own", "a connection that is reset", "half an answer", "UNKNOWN", Fault(Server.VAULT, reset=True, times=None)),
)
# fmt: on

# fmt: off
ELSEWHERE = (
    Held("own", "a disabled version", "403 or 200", "told from missing rights", f"{VAULTS}::test_a_disabled_version_is_told_from_missing_rights"),
    Held("B95", "a challenge for another resource", "a token for somebody else", "no token", f"{VAULTS}::test_a_challenge_for_a_foreign_resource_gets_no_token"),
    Held("own", "a list of versions that breaks off", "a foreign leaf, to a careless reader", "unknown", f"{VAULTS}::test_a_listing_that_breaks_off_leaves_the_versions_unknown"),
    Held("own", "/secrets and /keys", "a private key", "never asked for", f"{VAULTS}::test_no_private_key_is_ever_asked_for"),
)
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_answer_of_key_vault_is_a_value(door: Door, case: Case) -> None:
    """The table."""
    verdicts, problems, _ = tick_with(door, case.given)

    assert verdicts[HOST].startswith(case.right), (verdicts, problems)
