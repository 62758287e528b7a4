import asyncio
import json
import logging
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from rotation.clients.resource_graph import Rows
from rotation.gateways.api_management import ApiManagement
from rotation.model import Gateway, Inventory
from sandbox.azure import Azure
from sandbox.world import Certificate, Fault, Hostname, Recommendation, Request, Server, Service, World
from tests.clients import farm
from tests.clients.cloud import discover, requests, with_arm

GRAPH = "/providers/Microsoft.ResourceGraph/resources"
PHANTOM = (
    "/subscriptions/1d0c8a94-5b37-4f62-8e2d-93c6f7ab4e10/resourceGroups/rg-apim"
    "/providers/Microsoft.ApiManagement/service/apim-phantom"
)
OTHER = str(uuid.UUID(int=7))


@pytest.fixture
def service(world: World, certificate: Certificate) -> Service:
    """A service in two regions with one hostname that follows a certificate."""
    hostnames = [Hostname("api.contoso.com", certificate)]
    return world.add_service("apim-prod", regions={"West Europe": 2, "East US": 1}, hostnames=hostnames)


def queries(azure: Azure) -> list[Request]:
    """What Resource Graph was asked."""
    return [request for request in requests(azure, Server.ARM) if request.path == GRAPH]


def reads(azure: Azure) -> list[str]:
    """What ARM was asked for besides, without what all paths begin with."""
    paths = [request.path for request in requests(azure, Server.ARM) if request.path != GRAPH]
    return [path.removeprefix("/subscriptions/") for path in paths]


def names(inventory: Inventory) -> list[str]:
    """The services that were found."""
    return sorted(gateway.name for gateway in inventory.gateways)


def one(inventory: Inventory) -> Gateway:
    """The only service, found without a problem."""
    assert () == inventory.problems
    [gateway] = inventory.gateways
    return gateway


def fault(**answer: Any) -> Fault:
    """What Resource Graph answers from now on."""
    return Fault(Server.ARM, "ResourceGraph", "POST", times=None, **answer)


def test_all_subscriptions_are_one_query(azure: Azure) -> None:
    """No read of ARM is spent on what Resource Graph shows; the second query is for Advisor."""
    expected = [
        azure.world.add_service(f"apim-{n}", subscription_id=str(uuid.UUID(int=n + 10))).name
        for n in range(5)
    ]

    inventory = discover(azure, subscriptions=[str(uuid.UUID(int=n + 10)) for n in range(5)])

    assert (expected, ()) == (names(inventory), inventory.problems)
    assert [True] * 5 == [gateway.listed for gateway in inventory.gateways]
    assert (2, []) == (len(queries(azure)), reads(azure))


def test_every_page_is_read_once(azure: Azure) -> None:
    """A skip token leads from page to page, in an order that does not change between them."""
    azure.world.graph.most_rows = 2
    expected = [azure.world.add_service(f"apim-{n}").name for n in range(7)]

    inventory = discover(azure)

    assert (expected, (), []) == (names(inventory), inventory.problems, reads(azure))
    assert 4 + 1 == len(queries(azure))


def test_what_is_outside_the_scope_is_not_shown(azure: Azure) -> None:
    """Only the subscriptions of the settings are asked for."""
    azure.world.add_service("apim-ours")
    azure.world.add_service("apim-theirs", subscription_id=OTHER)

    inventory = discover(azure, subscriptions=[azure.world.subscription_id])

    assert ["apim-ours"] == names(inventory)


def test_an_answer_with_more_than_was_asked_for_is_not_worked_on(azure: Azure) -> None:
    """A row of another subscription is no service of ours, whoever sends it."""
    azure.world.add_service("apim-ours")
    theirs = azure.world.add_service("apim-theirs", subscription_id=OTHER)
    row = {"id": theirs.id, "properties": {}}
    page = {"data": [row], "count": 1, "totalRecords": 1, "resultTruncated": "false"}
    azure.world.faults.append(fault(status=200, body=page))

    inventory = discover(azure, subscriptions=[azure.world.subscription_id])

    assert ["apim-ours"] == names(inventory)


def test_the_time_is_that_of_the_answer(azure: Azure, service: Service) -> None:
    """A pass decides by ARM's clock, whichever of its doors was used."""
    azure.world.clock.advance(timedelta(days=2))

    inventory = discover(azure)

    assert service.name == one(inventory).name
    assert inventory.as_of is not None
    assert abs(azure.world.clock.now() - inventory.as_of) < timedelta(seconds=30)


@pytest.mark.parametrize("denied", [False, True])
def test_a_subscription_without_rows_is_listed(azure: Azure, service: Service, *, denied: bool) -> None:
    """Resource Graph leaves out in silence what it may not show: only ARM tells denied from empty."""
    azure.world.add_service("apim-other", subscription_id=OTHER)
    (azure.world.denied_subscriptions if denied else set[str]()).add(OTHER)
    azure.world.graph.lag = timedelta(0) if denied else timedelta(minutes=1)

    inventory = discover(azure)

    assert denied == any("AuthorizationFailed" in problem for problem in inventory.problems)
    assert ([service.name] if denied else ["apim-other", service.name]) == names(inventory)
    assert f"{OTHER}/providers/Microsoft.ApiManagement/service" in reads(azure)


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(None, id="the action is denied"),
        pytest.param(fault(status=403, body={"error": {"code": "Forbidden", "message": "no"}}), id="403"),
        pytest.param(fault(status=404), id="a cloud without it"),
        pytest.param(fault(status=500), id="an error"),
        pytest.param(fault(status=429, headers={"Retry-After": "3600"}), id="throttled for an hour"),
        pytest.param(fault(reset=True), id="a reset connection"),
        pytest.param(fault(status=302, headers={"Location": "https://fabrikam.com/"}), id="a redirect"),
    ],
)
def test_each_subscription_is_listed_where_resource_graph_does_not_answer(
    azure: Azure, service: Service, caplog: pytest.LogCaptureFixture, refusal: Fault | None
) -> None:
    """It is slower and no problem for a person, so the log says it and the inventory does not."""
    azure.world.graph.denied = refusal is None
    azure.world.faults += [refusal] if refusal else []

    with caplog.at_level(logging.WARNING, "rotation"):
        gateway = one(discover(azure))

    assert (service.name, False) == (gateway.name, gateway.listed)
    assert ["Resource Graph gave no services, so each subscription is listed: "] == [
        record.getMessage().partition("listed: ")[0] + "listed: " for record in caplog.records
    ]


def page(*rows: object, **more: object) -> bytes:
    """An answer of Resource Graph."""
    return json.dumps(
        {"totalRecords": len(rows), "count": len(rows), "resultTruncated": "false", "data": rows, **more}
    ).encode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html><body>Sign in to the Wi-Fi</body></html>", id="a captive portal's page"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{}", id="an object without data"),
        pytest.param(page(data={"columns": [], "rows": []}), id="a table"),
        pytest.param(page("x"), id="a string for a row"),
        pytest.param(page({"name": "apim"}), id="a row without an id"),
        pytest.param(page({"id": 5}), id="a number for an id"),
        pytest.param(
            page({"id": PHANTOM}, resultTruncated="true"), id="truncated without a token to go on with"
        ),
        pytest.param(page(**{"$skipToken": "x"}), id="a token that leads nowhere else"),
        pytest.param(page(padding="x" * (8 << 20)), id="more than 8 MiB"),
    ],
)
def test_a_body_that_is_no_answer_is_not_half_believed(azure: Azure, service: Service, body: bytes) -> None:
    """The list of ARM takes its place."""
    headers = {"Content-Type": "application/json"}
    azure.world.faults.append(fault(status=200, body=body, headers=headers))

    gateway = one(discover(azure))

    assert (service.name, False) == (gateway.name, gateway.listed)


def test_a_page_that_fails_spoils_the_pages_before(azure: Azure) -> None:
    """A part of an inventory would look like a smaller one."""
    azure.world.graph.most_rows = 1
    azure.world.graph.quota = 2  # the first page, Advisor, and then none for a long time
    azure.world.graph.window = timedelta(seconds=59)
    expected = [azure.world.add_service(f"apim-{n}").name for n in range(4)]

    inventory = discover(azure)

    assert (expected, ()) == (names(inventory), inventory.problems)
    assert [False] * 4 == [gateway.listed for gateway in inventory.gateways]


def test_the_quota_is_waited_for(azure: Azure) -> None:
    """Who has no queries left waits for the next window, and is never refused."""
    azure.world.graph.most_rows = 2
    azure.world.graph.quota = 1
    azure.world.graph.window = timedelta(seconds=1)
    expected = [azure.world.add_service(f"apim-{n}").id for n in range(3)]

    found = with_arm(azure, lambda kind: kind._graph.api_management_services())

    assert isinstance(found, Rows)
    assert expected == [row["id"] for row in found.rows]
    assert [200, 200] == [request.status for request in queries(azure)]


def test_who_asks_the_same_meanwhile_gets_the_same_answer(azure: Azure, service: Service) -> None:
    """Twenty discoveries at once cost the quota no more than one; the next one asks anew."""

    async def many(kind: ApiManagement) -> list[Inventory]:
        found = await asyncio.gather(*(kind.discover() for _ in range(20)))
        azure.world.add_service("apim-later")
        return [*found, await kind.discover()]

    *together, later = with_arm(azure, many)

    assert [[service.name]] * 20 == [names(inventory) for inventory in together]
    assert ["apim-later", service.name] == names(later)
    assert 4 == len(queries(azure))


def test_an_answer_that_one_gave_up_waiting_for_reaches_the_other(azure: Azure, service: Service) -> None:
    """A pass out of time does not take the listing of another with it."""
    azure.world.faults.append(fault(delay_seconds=0.3))

    async def one_leaves(kind: ApiManagement) -> Inventory:
        impatient, patient = (asyncio.create_task(kind.discover()) for _ in range(2))
        await asyncio.sleep(0.1)
        impatient.cancel()
        return await patient

    assert service.name == one(with_arm(azure, one_leaves)).name
    assert 2 == len(queries(azure))


def test_throttling_is_outlived(azure: Azure, service: Service) -> None:
    """A 429 is repeated once, after the time it names."""
    azure.world.faults.append(
        Fault(Server.ARM, "ResourceGraph", status=429, headers={"Retry-After": "0"}, times=1)
    )

    gateway = one(discover(azure))

    assert (service.name, True, []) == (gateway.name, gateway.listed, reads(azure))


@pytest.mark.parametrize(
    "field",
    [
        "sku",
        "sku.capacity",
        "properties",
        "properties.provisioningState",
        "properties.virtualNetworkType",
        "properties.gatewayUrl",
        "properties.hostnameConfigurations",
        "properties.hostnameConfigurations.hostName",
        "properties.hostnameConfigurations.type",
        "properties.hostnameConfigurations.keyVaultId",
        "properties.hostnameConfigurations.certificate",
        "properties.hostnameConfigurations.certificate.thumbprint",
        "properties.hostnameConfigurations.certificateSource",
        "properties.additionalLocations.sku",
        "properties.additionalLocations.location",
    ],
)
def test_a_service_whose_row_lacks_something_is_read_itself(
    azure: Azure, service: Service, certificate: Certificate, field: str
) -> None:
    """What Resource Graph hides must not change what is expected, nor how often we connect."""
    azure.world.graph.hidden.add(field)

    gateway = one(discover(azure))

    assert [service.id.removeprefix("/subscriptions/")] == reads(azure)
    assert not gateway.listed
    assert gateway.as_of is not None
    builtin, custom = gateway.bindings
    assert (certificate.secret_id, certificate.newest.thumbprint) == (custom.key_vault_id, custom.configured)
    assert [7, 1] == [endpoint.connections for endpoint in custom.endpoints]
    assert "apim-prod.azure-api.net" == builtin.hostname


def test_an_uploaded_certificate_is_made_sure_of(azure: Azure, world: World) -> None:
    """In a row it looks like one whose keyVaultId is hidden."""
    uploaded = Hostname("api.contoso.com", uploaded=world.ca.issue(["api.contoso.com"]))
    world.add_service("apim-uploaded", hostnames=[uploaded])
    world.add_service("apim-managed", hostnames=[Hostname("free.contoso.com", managed=True)])

    inventory = discover(azure)

    assert {"apim-uploaded": False, "apim-managed": True} == {g.name: g.listed for g in inventory.gateways}


@pytest.mark.parametrize(("services", "listed"), [(16, False), (17, True)])
def test_many_incomplete_rows_cost_one_list(azure: Azure, services: int, *, listed: bool) -> None:
    """A subscription is listed where reading its services one by one would take more requests."""
    expected = sorted(azure.world.add_service(f"apim-{n}").name for n in range(services))
    azure.world.graph.hidden.add("sku.capacity")

    inventory = discover(azure)

    assert (expected, ()) == (names(inventory), inventory.problems)
    assert (1 if listed else services) == len(reads(azure))


def test_an_incomplete_row_of_a_deleted_service_is_forgotten(azure: Azure, service: Service) -> None:
    """Resource Graph lags behind a deletion too, and that is no problem for a person."""
    azure.world.graph.lag = timedelta(minutes=1)
    azure.world.graph.hidden.add("sku")
    azure.world.clock.advance(timedelta(minutes=2))
    azure.world.remove_service(service)

    inventory = discover(azure)

    assert ((), ()) == (inventory.gateways, inventory.problems)
    assert 1 == len(reads(azure))


def test_an_incomplete_service_that_cannot_be_read_is_a_problem(azure: Azure, service: Service) -> None:
    """It is not judged by half a row; a person is told which it is, and what to do."""
    azure.world.graph.hidden.add("properties.provisioningState")
    azure.world.faults.append(
        Fault(Server.ARM, "service/apim", "GET", status=403, body={"error": {"code": "AuthorizationFailed"}})
    )

    inventory = discover(azure)

    assert () == inventory.gateways
    assert ["apim-prod: the service could not be read", "Reader role there."] == [
        inventory.problems[0].partition(" (")[0],
        inventory.problems[0][-18:],
    ]
    assert service.name in inventory.problems[0]


def test_advisor_has_its_say(azure: Azure, service: Service) -> None:
    """Its recommendation is joined to the service it is about, whatever the case of the id."""
    azure.world.add_service("apim-other").recommendations = {Recommendation.TLS_RENEGOTIATION_BLOCKED}
    service.recommendations = set(Recommendation)

    inventory = discover(azure)

    assert {"apim-other": None, "apim-prod": "Hostname certificate rotation failed"} == {
        gateway.name: gateway.advisory for gateway in inventory.gateways
    }
    assert 2 == len(queries(azure))


def test_advisor_is_joined_to_what_was_read_from_arm(azure: Azure, service: Service) -> None:
    """A service whose row was incomplete is no exception."""
    service.recommendations = {Recommendation.HOSTNAME_CERT_ROTATION_FAIL}
    azure.world.graph.hidden.add("sku")

    gateway = one(discover(azure))

    assert (False, "Hostname certificate rotation failed") == (gateway.listed, gateway.advisory)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"problem": "x"},
        {"service": None, "problem": "x"},
        {"service": ["x"], "problem": "x"},
        {"service": "x", "problem": None},
        {"service": "x", "problem": {"a": 1}},
    ],
)
def test_an_odd_recommendation_changes_nothing(
    azure: Azure, service: Service, row: Mapping[str, object]
) -> None:
    """What Advisor says is never needed."""
    answer = page({"id": "x", **row})
    azure.world.faults.append(fault(status=200, body=answer, headers={"Content-Type": "application/json"}))

    gateway = one(discover(azure))

    assert (service.name, None) == (gateway.name, gateway.advisory)


def test_no_token_goes_elsewhere(azure: Azure, service: Service) -> None:
    """A redirect is not followed."""
    with farm.Listener(farm.stay_silent) as elsewhere:
        target = f"https://127.0.0.1:{elsewhere.place[1]}/"
        azure.world.faults.append(fault(status=307, headers={"Location": target}))

        gateway = one(discover(azure))

        assert 0 == elsewhere.accepted
    assert service.name == gateway.name
