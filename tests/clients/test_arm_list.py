import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.identity.aio import DefaultAzureCredential

from rotation.clients.arm import MOST_PAGES
from rotation.model import Inventory
from sandbox.azure import Azure
from sandbox.world import Fault, Request, Server, World
from tests.clients import farm
from tests.clients.cloud import API_VERSION, discover, requests, with_arm

OTHER = str(uuid.UUID(int=7))
DENIED = str(uuid.UUID(int=8))
SERVICE = (
    "/subscriptions/1d0c8a94-5b37-4f62-8e2d-93c6f7ab4e10/resourceGroups/rg-apim"
    "/providers/Microsoft.ApiManagement/service/apim-odd"
)


@pytest.fixture(autouse=True)
def denied(world: World) -> None:
    """Without Resource Graph, each subscription is listed."""
    world.graph.denied = True


def listings(azure: Azure) -> list[Request]:
    """What was asked to list services."""
    return [request for request in requests(azure, Server.ARM) if request.method == "GET"]


def names(inventory: Inventory) -> list[str]:
    """The services that were found."""
    return sorted(gateway.name for gateway in inventory.gateways)


def service(**properties: object) -> dict[str, Any]:
    """A service with some properties, in ARM's shape."""
    return {"id": SERVICE, "location": "West Europe", "properties": properties}


def page(*services: object) -> bytes:
    """A listing as ARM sends it."""
    return json.dumps({"value": services}).encode()


def test_every_page_is_read(azure: Azure) -> None:
    """NextLink leads from page to page, on the configured api-version, until all services are known."""
    azure.world.page_size = 2
    expected = [azure.world.add_service(f"apim-{n}").name for n in range(5)]

    inventory = discover(azure)

    assert (expected, ()) == (names(inventory), inventory.problems)
    assert [API_VERSION] * 3 == [r.query["api-version"] for r in listings(azure)]


def test_the_default_credential_finds_the_managed_identity(azure: Azure) -> None:
    """What `rotation.app` uses needs nothing but the platform's own environment."""
    azure.world.add_service("apim-prod")

    inventory = with_arm(azure, lambda kind: kind.discover(), credential=DefaultAzureCredential)

    assert (["apim-prod"], ()) == (names(inventory), inventory.problems)
    assert ["https://management.azure.com"] == [
        request.query["resource"] for request in requests(azure, Server.IDENTITY)
    ]


def test_a_denied_subscription_is_a_problem_and_hides_no_other(azure: Azure) -> None:
    """What cannot be listed is said, with the remedy, and the rest is worked on."""
    azure.world.add_service("apim-main")
    azure.world.add_service("apim-other", subscription_id=OTHER)
    azure.world.add_service("apim-denied", subscription_id=DENIED)
    azure.world.denied_subscriptions.add(DENIED)

    inventory = discover(azure)

    assert ["apim-main", "apim-other"] == names(inventory)
    assert 1 == len(inventory.problems)
    assert DENIED in inventory.problems[0]
    assert "AuthorizationFailed" in inventory.problems[0]
    assert "Reader" in inventory.problems[0]


def test_an_unknown_subscription_is_a_problem(azure: Azure) -> None:
    """A typing mistake in the settings does not look like an empty subscription."""
    inventory = discover(azure, subscriptions=[OTHER])

    assert [] == names(inventory)
    assert ["SubscriptionNotFound" in problem for problem in inventory.problems] == [True]


def test_no_subscription_is_no_request(azure: Azure) -> None:
    """An empty scope is empty, never everything."""
    inventory = discover(azure, subscriptions=[])

    assert Inventory((), (), None) == inventory
    assert [] == azure.world.requests


def test_the_time_is_that_of_arm(azure: Azure) -> None:
    """Deadlines go by the service's clock, not by that of the machine."""
    azure.world.clock.advance(timedelta(days=2))

    as_of = discover(azure).as_of

    assert as_of is not None
    assert abs(azure.world.clock.now() - as_of) < timedelta(seconds=30)
    assert as_of - datetime.now(UTC) > timedelta(days=1)


def test_without_an_answer_there_is_no_time(azure: Azure) -> None:
    """Who cannot be reached tells no time."""
    azure.world.faults.append(Fault(Server.ARM, method="GET", reset=True, times=None))

    inventory = discover(azure)

    assert (None, 1) == (inventory.as_of, len(inventory.problems))


@pytest.mark.parametrize(
    "link",
    [
        pytest.param("https://{other}/next", id="another port"),
        pytest.param("http://{arm}/next", id="the same place without TLS"),
        pytest.param("https://arm.fabrikam.com/next", id="another host"),
        pytest.param("https://{arm}@{other}/next", id="a host that looks like ours"),
        pytest.param("//{other}/next", id="another port without a scheme"),
        pytest.param("https://[nonsense", id="no address at all"),
    ],
)
def test_a_link_to_elsewhere_is_not_followed(azure: Azure, link: str) -> None:
    """A page cannot make the app carry its token to another origin."""
    with farm.Listener(farm.stay_silent) as elsewhere:
        arm = azure.arm_url.removeprefix("https://")
        target = link.format(arm=arm, other=f"127.0.0.1:{elsewhere.place[1]}")
        body = {"value": [service(provisioningState="Succeeded")], "nextLink": target}
        azure.world.faults.append(Fault(Server.ARM, method="GET", status=200, body=body))

        inventory = discover(azure)

        assert 0 == elsewhere.accepted
    assert 1 == len(inventory.problems)


def test_as_many_pages_as_there_may_be_are_read(azure: Azure) -> None:
    """The two hundredth page is the last that is read, and no mistake."""
    azure.world.page_size = 1
    for number in range(MOST_PAGES):
        azure.world.add_service(f"apim-{number}")

    inventory = discover(azure)

    assert (MOST_PAGES, ()) == (len(inventory.gateways), inventory.problems)


def test_an_endless_listing_ends(azure: Azure) -> None:
    """A nextLink that leads back to itself is a problem after a bounded number of pages."""
    path = f"{azure.arm_url}/subscriptions/{azure.world.subscription_id}/providers/x"
    azure.world.faults.append(
        Fault(Server.ARM, method="GET", status=200, body={"value": [], "nextLink": path}, times=None)
    )

    inventory = discover(azure)

    assert ["more than 200 pages" in problem for problem in inventory.problems] == [True]
    assert MOST_PAGES + 1 == len(listings(azure))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html><body>Sign in to the Wi-Fi</body></html>", id="a captive portal's page"),
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"value": [{"id": "/subscr', id="truncated"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"x"', id="a string"),
        pytest.param(b"{}", id="an object without a value"),
        pytest.param(b'{"value": null}', id="a value of null"),
        pytest.param(b'{"value": 5}', id="a number for a value"),
        pytest.param(b'{"value": {"a": 1}}', id="an object for a value"),
        pytest.param(b'{"value": ["x"]}', id="strings for services"),
        pytest.param(b'{"value": [null]}', id="null for a service"),
        pytest.param(b'{"value": [{}]}', id="an empty service"),
        pytest.param(b'{"value": [], "nextLink": 5}', id="a number for a link"),
        pytest.param(b"[" * 100_000, id="nested deeper than Python goes"),
        pytest.param(page({"id": SERVICE}), id="a service without properties"),
        pytest.param(page(service() | {"id": SERVICE.replace("service/", "x/")}), id="another type"),
        pytest.param(page(service() | {"id": SERVICE + "/../../x"}), id="a path that climbs"),
        pytest.param(page(service() | {"properties": []}), id="a list for properties"),
        pytest.param(page(service(gatewayRegionalUrl="https://[bad")), id="an impossible gateway url"),
    ],
)
def test_a_body_that_is_no_listing_is_a_problem(azure: Azure, body: bytes) -> None:
    """What comes back with 200 and is not ARM's is never taken for an empty subscription."""
    headers = {"Content-Type": "application/json"}
    azure.world.faults.append(Fault(Server.ARM, method="GET", status=200, body=body, headers=headers))

    inventory = discover(azure)

    assert [] == names(inventory)
    assert 1 == len(inventory.problems)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(service(additionalLocations=[None]), id="null for a location"),
        pytest.param(service(additionalLocations=["x"]), id="a string for a location"),
        pytest.param(service(additionalLocations=5), id="a number for the locations"),
        pytest.param(service(hostnameConfigurations=5), id="a number for the hostnames"),
        pytest.param(service(hostnameConfigurations=[None, "x", 5]), id="no objects for hostnames"),
        pytest.param(service(hostnameConfigurations=[{}]), id="an empty hostname"),
        pytest.param(service(publicIPAddresses=5), id="a number for the addresses"),
        pytest.param(service(gatewayRegionalUrl=5), id="a number for the regional url"),
        pytest.param(service(gatewayUrl="https://apim") | {"sku": "Premium"}, id="a string for the sku"),
        pytest.param(service(gatewayUrl="https://apim") | {"sku": [1]}, id="a list for the sku"),
    ],
)
def test_an_odd_service_hides_no_other(azure: Azure, odd: dict[str, Any]) -> None:
    """One service in an unknown shape is read as far as it goes, or a problem; the next one is read."""
    good = service(provisioningState="Succeeded") | {"id": SERVICE.replace("apim-odd", "apim-good")}
    azure.world.faults.append(Fault(Server.ARM, method="GET", status=200, body={"value": [odd, good]}))

    inventory = discover(azure)

    assert "apim-good" in names(inventory)
    assert 2 == len(inventory.gateways) + len(inventory.problems)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(Server.ARM, method="GET", status=500), id="an error"),
        pytest.param(
            Fault(Server.ARM, method="GET", status=503, headers={"Retry-After": "0"}), id="overload"
        ),
        pytest.param(
            Fault(Server.ARM, method="GET", status=429, headers={"Retry-After": "0"}), id="throttling"
        ),
        pytest.param(Fault(Server.ARM, method="GET", reset=True), id="a reset connection"),
    ],
)
def test_a_passing_fault_is_outlived(world: World, azure: Azure, fault: Fault) -> None:
    """Reading is repeated once, so that a hiccup is no alarm."""
    world.add_service("apim-prod")
    world.faults.append(fault)

    inventory = discover(azure)

    assert (["apim-prod"], ()) == (names(inventory), inventory.problems)


def test_a_redirect_is_not_followed(azure: Azure) -> None:
    """ARM does not redirect; whoever does is not to get the token."""
    with farm.Listener(farm.stay_silent) as elsewhere:
        target = f"https://127.0.0.1:{elsewhere.place[1]}/"
        azure.world.faults.append(Fault(Server.ARM, method="GET", status=302, headers={"Location": target}))

        inventory = discover(azure)

        assert 0 == elsewhere.accepted
    assert 1 == len(inventory.problems)
    assert 1 == len(listings(azure))


def test_one_token_does_for_all_subscriptions(azure: Azure) -> None:
    """Subscriptions are listed side by side without asking the identity endpoint for each."""
    others = [str(uuid.UUID(int=n)) for n in range(10, 22)]
    for n, other in enumerate(others):
        azure.world.add_service(f"apim-{n}", subscription_id=other)

    inventory = discover(azure, subscriptions=others)

    assert 12 == len(inventory.gateways)
    assert 12 == len(listings(azure))
    assert len(requests(azure, Server.IDENTITY)) <= 8
