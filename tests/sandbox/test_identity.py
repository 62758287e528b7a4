import http.client
import time
from collections.abc import Mapping
from datetime import timedelta

import pytest
from azure.identity import ManagedIdentityCredential

from sandbox.azure import Azure
from sandbox.world import Fault
from tests.sandbox.clients import fetch

VAULT = "https://vault.azure.net"


def test_the_sdk_gets_a_token_for_a_resource(azure: Azure, credential: ManagedIdentityCredential) -> None:
    """The real credential finds the endpoint in its environment; the token is for what was asked."""
    token = credential.get_token(f"{VAULT}/.default")

    assert azure.world.tokens[token.token].resource == VAULT
    assert token.expires_on > time.time()


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("api-version=2019-08-01&resource=x", {}, 401),
        ("api-version=2019-08-01&resource=x", {"X-IDENTITY-HEADER": "guess"}, 401),
        ("api-version=2017-09-01&resource=x", None, 400),
        ("api-version=2019-08-01", None, 400),
    ],
    ids=["no header", "a wrong header", "another version", "no resource"],
)
def test_a_token_is_not_for_everyone(
    azure: Azure, query: str, headers: Mapping[str, str] | None, status: int
) -> None:
    """The endpoint has the platform's guard against forged requests."""
    if headers is None:
        headers = {"X-IDENTITY-HEADER": azure.app_settings()["IDENTITY_HEADER"]}

    answer = fetch(azure, f"{azure.identity_url}?{query}", headers=headers)

    assert status == answer.status
    assert azure.world.tokens == {}


def test_secrets_are_not_kept_in_the_record(azure: Azure, credential: ManagedIdentityCredential) -> None:
    """What is recorded may be printed."""
    credential.get_token(f"{VAULT}/.default")

    recorded = azure.world.requests[-1]

    assert (recorded.server, recorded.path, recorded.status) == ("identity", "/msi/token", 200)
    assert "x-identity-header" not in {name.lower() for name in recorded.headers}


def test_a_fault_happens_as_often_as_told(azure: Azure) -> None:
    """The first that matches wins and is used up; others and other paths are left alone."""
    azure.world.faults += [
        Fault("arm", path="nowhere", status=500),
        Fault(
            "arm", status=503, headers={"Retry-After": "7"}, body={"error": {"code": "ServerBusy"}}, times=2
        ),
        Fault("arm", status=429, body=b"slow down"),
    ]

    answers = [fetch(azure, f"{azure.arm_url}/x") for _ in range(4)]

    assert [answer.status for answer in answers] == [503, 503, 429, 401]
    assert (answers[0].headers["Retry-After"], answers[0].json()["error"]["code"]) == ("7", "ServerBusy")
    assert answers[2].body == b"slow down"
    assert [fault.path for fault in azure.world.faults] == ["nowhere"]
    assert [request.status for request in azure.world.requests] == [503, 503, 429, 401]


def test_a_fault_may_last_for_ever_or_only_delay(azure: Azure) -> None:
    """times=None never ends; without a status the usual answer comes, only later."""
    azure.world.faults.append(Fault("ingestion", method="GET", delay_seconds=0.2, times=None))
    began = time.monotonic()

    statuses = [fetch(azure, azure.ingestion_url).status for _ in range(2)]

    assert statuses == [200, 200]
    assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize("fault", [Fault("arm", reset=True), Fault("arm", hang=True)], ids=["reset", "hang"])
def test_a_fault_may_give_no_answer_at_all(azure: Azure, fault: Fault) -> None:
    """The request is on record without a status, and the server goes on."""
    azure.world.faults.append(fault)

    with pytest.raises((OSError, http.client.HTTPException)):
        fetch(azure, f"{azure.arm_url}/x", seconds=0.3)

    assert fetch(azure, f"{azure.arm_url}/x").status == 401
    assert [request.status for request in azure.world.requests] == [None, 401]


def test_time_of_expiry_goes_by_the_sandboxs_clock(azure: Azure) -> None:
    """Tokens live long by default, because a client's cache does not see the clock move."""
    azure.world.clock.advance(timedelta(days=100))
    headers = {"X-IDENTITY-HEADER": azure.app_settings()["IDENTITY_HEADER"]}

    token = fetch(azure, f"{azure.identity_url}?api-version=2019-08-01&resource=x", headers=headers).json()

    assert token["token_type"] == "Bearer"
    assert int(token["expires_on"]) > (azure.world.clock.now() + timedelta(days=365)).timestamp()
