import base64
from collections.abc import Mapping
from datetime import timedelta
from email.utils import format_datetime
from typing import Any, Literal

import pytest

from rotation.gateways.api_management import ApiManagement
from rotation.model import SyncAnswer, SyncOutcome
from sandbox.azure import Azure
from sandbox.world import Certificate, Fault, Hostname, Server, Service, World
from tests.clients import farm
from tests.clients.cloud import API_VERSION, gateway_of, requests, sync, with_arm


@pytest.fixture
def service(world: World, certificate: Certificate) -> Service:
    """A service that can be told to sync."""
    return world.add_service("apim-Prod", hostnames=[Hostname("api.contoso.com", certificate)])


def error(code: str) -> dict[str, object]:
    """ARM's error body."""
    return {"error": {"code": code, "message": "Something is the matter."}}


def asked(azure: Azure) -> list[tuple[str, str, str]]:
    """What was on the wire to ARM."""
    return [
        (r.method, r.path.rpartition("/")[2], r.query["api-version"]) for r in requests(azure, Server.ARM)
    ]


ONCE = [("POST", "refreshHostnames", API_VERSION)]


def test_accepted_with_202_names_the_operation(azure: Azure, service: Service) -> None:
    """The usual answer: on its way, followed under Location; nobody waits for it or polls it."""
    answer = sync(azure, service)

    [update] = service.updates
    operation = base64.urlsafe_b64encode(f"westeurope:apim-Prod_Act_{update.id}".encode()).decode()
    url = f"{azure.arm_url}{service.id}/operationresults/{operation}?api-version={API_VERSION}"
    assert SyncAnswer(SyncOutcome.ACCEPTED, "HTTP 202", url) == answer
    assert ONCE == asked(azure)


def test_accepted_with_200_is_accepted(azure: Azure, service: Service) -> None:
    """Done at once, as the specification allows: no operation to follow."""
    service.accepts_with = 200

    answer = sync(azure, service)

    assert SyncAnswer(SyncOutcome.ACCEPTED, "HTTP 200") == answer
    assert ONCE == asked(azure)


def test_a_service_in_transition_is_busy(azure: Azure, service: Service) -> None:
    """ARM is the lock: 409 ServiceLocked means that another operation is under way."""
    service.begin_foreign_update(timedelta(hours=1))

    answer = sync(azure, service)

    assert SyncOutcome.BUSY == answer.outcome
    assert "ServiceLocked" in answer.detail
    assert ONCE == asked(azure)


def test_the_configured_api_version_is_on_the_wire(azure: Azure, service: Service) -> None:
    """A version without the operation is asked for as configured, and its refusal is understood."""
    answer = sync(azure, service, api_version="2024-05-01")

    assert SyncOutcome.NOT_SUPPORTED == answer.outcome
    assert "NoRegisteredProviderFound" in answer.detail
    assert [("POST", "refreshHostnames", "2024-05-01")] == asked(azure)


def test_a_denied_subscription_is_forbidden(azure: Azure, service: Service) -> None:
    """The app may read but not act there."""
    azure.world.denied_subscriptions.add(service.subscription_id)

    answer = sync(azure, service)

    assert SyncOutcome.FORBIDDEN == answer.outcome
    assert "AuthorizationFailed" in answer.detail
    assert ONCE == asked(azure)


def test_a_service_that_has_gone_is_not_found(azure: Azure, service: Service) -> None:
    """It was deleted since it was listed."""
    azure.world.services.remove(service)
    azure.world.add_service("apim-another")

    answer = sync(azure, service)

    assert SyncOutcome.NOT_FOUND == answer.outcome
    assert ONCE == asked(azure)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        pytest.param({"status": 409, "body": error("ServiceLocked")}, SyncOutcome.BUSY, id="409"),
        pytest.param(
            {"status": 409, "body": error("ServiceLocked"), "headers": {"Retry-After": "1"}},
            SyncOutcome.BUSY,
            id="409 with Retry-After",
        ),
        pytest.param({"status": 429}, SyncOutcome.THROTTLED, id="429"),
        pytest.param(
            {"status": 429, "headers": {"Retry-After": "1"}},
            SyncOutcome.THROTTLED,
            id="429 with Retry-After",
        ),
        pytest.param({"status": 401}, SyncOutcome.FORBIDDEN, id="401"),
        pytest.param({"status": 403, "body": error("AuthorizationFailed")}, SyncOutcome.FORBIDDEN, id="403"),
        pytest.param(
            {"status": 403, "body": b"<html>no</html>"}, SyncOutcome.FORBIDDEN, id="403 from a proxy"
        ),
        pytest.param({"status": 404, "body": error("ResourceNotFound")}, SyncOutcome.NOT_FOUND, id="404"),
        pytest.param(
            {"status": 404, "body": error("InvalidResourceType")},
            SyncOutcome.NOT_SUPPORTED,
            id="404 for a type of resource that there is not",
        ),
        pytest.param({"status": 405}, SyncOutcome.NOT_SUPPORTED, id="405"),
        pytest.param(
            {"status": 400, "body": error("NoRegisteredProviderFound")},
            SyncOutcome.NOT_SUPPORTED,
            id="400 for an unknown api-version",
        ),
        pytest.param(
            {"status": 400, "body": error("Other")}, SyncOutcome.UNKNOWN, id="400 for another reason"
        ),
        pytest.param({"status": 400, "body": [1]}, SyncOutcome.UNKNOWN, id="400 with a list"),
        pytest.param({"status": 400, "body": {"error": "x"}}, SyncOutcome.UNKNOWN, id="400 with a string"),
        pytest.param({"status": 408}, SyncOutcome.UNKNOWN, id="408"),
        pytest.param({"status": 500}, SyncOutcome.UNKNOWN, id="500"),
        pytest.param({"status": 502, "body": b"\xff\xfe"}, SyncOutcome.UNKNOWN, id="502 with bytes"),
        pytest.param({"status": 503}, SyncOutcome.UNKNOWN, id="503"),
        pytest.param(
            {"status": 503, "headers": {"Retry-After": "1"}},
            SyncOutcome.UNKNOWN,
            id="503 with Retry-After",
        ),
        pytest.param({"status": 204}, SyncOutcome.UNKNOWN, id="204, which is not in the contract"),
        pytest.param({"status": 200, "body": b"<html>"}, SyncOutcome.ACCEPTED, id="200 with a page"),
        pytest.param({"status": 202}, SyncOutcome.ACCEPTED, id="202 without Location"),
        pytest.param(
            {"status": 202, "headers": {"Retry-After": "soon", "Location": "/x"}},
            SyncOutcome.ACCEPTED,
            id="202 with an unreadable Retry-After",
        ),
        pytest.param(
            {"status": 202, "headers": {"Retry-After": "0", "Location": "/x"}},
            SyncOutcome.ACCEPTED,
            id="202 that asks to be polled at once",
        ),
        pytest.param(
            {"status": 202, "headers": {"Location": "https://[nonsense"}},
            SyncOutcome.ACCEPTED,
            id="202 with an impossible Location",
        ),
        pytest.param({"reset": True}, SyncOutcome.UNKNOWN, id="a reset connection"),
    ],
)
def test_every_answer_has_a_meaning_and_is_asked_for_once(
    azure: Azure, service: Service, fault: Mapping[str, Any], outcome: SyncOutcome
) -> None:
    """A sync that may have started is never asked for again here, whatever the answer invites to."""
    azure.world.faults.append(Fault(Server.ARM, times=None, **fault))

    answer = sync(azure, service)

    assert outcome == answer.outcome
    assert "" != answer.detail
    assert ONCE == asked(azure)


def test_a_reset_on_a_connection_in_use_is_not_sent_again(azure: Azure, service: Service) -> None:
    """An HTTP client may repeat a request when a kept connection dies; not this one."""

    async def twice(kind: ApiManagement) -> SyncAnswer:
        await kind.discover()
        azure.world.faults.append(Fault(Server.ARM, reset=True))
        return await kind.sync(gateway_of(service))

    answer = with_arm(azure, twice)

    assert SyncOutcome.UNKNOWN == answer.outcome
    asked = [request for request in requests(azure, Server.ARM) if request.path.endswith("/refreshHostnames")]
    assert ["POST"] == [request.method for request in asked]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("7", timedelta(seconds=7), id="seconds"),
        pytest.param("0", timedelta(0), id="at once"),
        pytest.param("99999999", timedelta(seconds=99999999), id="three years, which the plan caps"),
        pytest.param("-1", None, id="negative"),
        pytest.param("1.5", None, id="a fraction"),
        pytest.param("soon", None, id="a word"),
        pytest.param("", None, id="empty"),
        pytest.param("9" * 400, None, id="more digits than a time has"),
        pytest.param("Mon, 01 Jan 99999 00:00:00 GMT", None, id="the year 99999"),
        pytest.param("Mon, 01 Jan 99999999999999 00:00:00 GMT", None, id="a year beyond any"),
        pytest.param("Mon, 99 Jan 2026 00:00:00 GMT", None, id="the 99th of January"),
    ],
)
def test_the_wait_that_is_asked_for_is_passed_on(
    azure: Azure, service: Service, header: str, expected: timedelta | None
) -> None:
    """Retry-After is told to the plan as it is, and left out where it makes no sense."""
    azure.world.faults.append(Fault(Server.ARM, status=429, headers={"Retry-After": header}))

    answer = sync(azure, service)

    assert expected == answer.retry_after
    assert ONCE == asked(azure)


def test_a_wait_until_a_date_counts_from_the_servers_own_date(azure: Azure, service: Service) -> None:
    """Our clock may be wrong: both ends of the wait are ARM's."""
    azure.world.clock.advance(timedelta(days=400))
    until = format_datetime(azure.world.clock.now() + timedelta(minutes=10), usegmt=True)
    azure.world.faults.append(Fault(Server.ARM, status=429, headers={"Retry-After": until}))

    answer = sync(azure, service)

    assert answer.retry_after is not None
    assert abs(answer.retry_after - timedelta(minutes=10)) < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        pytest.param("/x/operationresults/y?a=b", "{arm}/x/operationresults/y?a=b", id="a path"),
        pytest.param("{arm}/x", "{arm}/x", id="ARM's own"),
        pytest.param("https://fabrikam.com/x", None, id="another host"),
        pytest.param("https://{host}.fabrikam.com/x", None, id="a host that begins like ours"),
        pytest.param("{arm}@fabrikam.com/x", None, id="ours as a user name"),
        pytest.param("http://{host}/x", None, id="without TLS"),
        pytest.param("//fabrikam.com/x", None, id="another host without a scheme"),
        pytest.param("javascript:alert(1)", None, id="another scheme"),
    ],
)
def test_only_arms_own_location_is_kept(
    azure: Azure, service: Service, location: str, expected: str | None
) -> None:
    """The operation's URL is shown to people and perhaps fetched one day: it stays on ARM."""
    names = {"arm": azure.arm_url, "host": azure.arm_url.removeprefix("https://")}
    headers = {"Location": location.format(**names)}
    azure.world.faults.append(Fault(Server.ARM, status=202, headers=headers))

    answer = sync(azure, service)

    assert SyncOutcome.ACCEPTED == answer.outcome
    assert (expected.format(**names) if expected else None) == answer.operation_url
    assert ONCE == asked(azure)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(azure: Azure, service: Service, status: int) -> None:
    """ARM does not redirect a POST; whoever does is not to get the token, nor a second request."""
    with farm.Listener(farm.stay_silent) as elsewhere:
        headers = {"Location": f"https://127.0.0.1:{elsewhere.place[1]}/"}
        azure.world.faults.append(Fault(Server.ARM, status=status, headers=headers))

        answer = sync(azure, service)

        assert 0 == elsewhere.accepted
    assert SyncOutcome.UNKNOWN == answer.outcome
    assert ONCE == asked(azure)


def test_no_token_is_an_answer_too(azure: Azure, service: Service) -> None:
    """Where the identity endpoint is broken nothing is sent to ARM."""
    azure.world.faults.append(Fault(Server.IDENTITY, status=400, times=None))

    answer = sync(azure, service)

    assert SyncOutcome.UNKNOWN == answer.outcome
    assert [] == requests(azure, Server.ARM)


def test_the_request_has_no_body_and_names_the_service(azure: Azure, service: Service) -> None:
    """The purpose-built operation and nothing else: no part of the service's definition is written."""
    sync(azure, service)

    [request] = requests(azure, Server.ARM)
    assert f"{service.id}/refreshHostnames" == request.path
    assert "0" == request.headers["Content-Length"]
    assert 202 == request.status


def error_of(azure: Azure, url: str) -> str | None:
    """What the operation of a sync failed with."""
    return with_arm(azure, lambda kind: kind.operation_error(url))


def operation(azure: Azure, service: Service) -> str:
    """The URL of a sync that has begun."""
    url = sync(azure, service).operation_url
    assert url is not None
    return url


def test_an_operation_that_failed_says_why(azure: Azure, service: Service) -> None:
    """What the gateway could not do, most often to read its vault, is told in ARM's words."""
    url = operation(azure, service)
    service.identity_can_read_vault = False
    azure.world.clock.advance(timedelta(hours=1))

    said = error_of(azure, url)

    assert said is not None
    assert said.startswith("InvalidOperation: Failed to access KeyVault Secret")


@pytest.mark.parametrize("ends_with", [200, 204])
def test_an_operation_that_did_not_fail_says_nothing(
    azure: Azure, service: Service, ends_with: Literal[200, 204]
) -> None:
    """Neither while it runs nor when it has succeeded, in either way that ARM ends one."""
    azure.world.operation_ends_with = ends_with
    url = operation(azure, service)

    running = error_of(azure, url)
    azure.world.clock.advance(timedelta(hours=1))

    assert (None, None) == (running, error_of(azure, url))


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"status": 400}, id="400 without a body"),
        pytest.param({"status": 400, "body": b"<html>"}, id="400 with a page"),
        pytest.param({"status": 400, "body": [1]}, id="400 with a list"),
        pytest.param({"status": 400, "body": {"error": 5}}, id="400 with a number"),
        pytest.param({"status": 400, "body": {"error": {"code": "x"}}}, id="400 with half an error"),
        pytest.param({"status": 404, "body": error("OperationNotFound")}, id="404, for it is forgotten"),
        pytest.param({"status": 403, "body": error("AuthorizationFailed")}, id="403"),
        pytest.param({"status": 500, "body": error("InternalError")}, id="500"),
        pytest.param({"status": 302, "headers": {"Location": "https://fabrikam.com/"}}, id="a redirect"),
        pytest.param({"reset": True}, id="a reset connection"),
    ],
)
def test_an_operation_that_cannot_be_read_says_nothing(
    azure: Azure, service: Service, fault: Mapping[str, Any]
) -> None:
    """Only ARM's own word is a reason; everything else is left to what is served."""
    url = operation(azure, service)
    azure.world.faults.append(Fault(Server.ARM, times=None, **fault))

    assert None is error_of(azure, url)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://{place}/x", id="another port"),
        pytest.param("{arm}@{place}/x", id="another host behind a user name"),
        pytest.param("https://[nonsense", id="no URL"),
    ],
)
def test_an_operation_elsewhere_is_not_read(azure: Azure, service: Service, url: str) -> None:
    """The URL comes back from the ledger: the token does not go where a changed row may lead."""
    with farm.Listener(farm.stay_silent) as elsewhere:
        place = f"127.0.0.1:{elsewhere.place[1]}"

        said = error_of(azure, url.format(arm=azure.arm_url, place=place))

        assert 0 == elsewhere.accepted
    assert None is said
    assert [] == service.updates
