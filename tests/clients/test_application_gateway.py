"""Application Gateways through real clients against the sandbox: found, read, told, asked for health."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from rotation.gateways.application_gateway import TAG_ASKED, ApplicationGateways, Scoped
from rotation.model import Front, Gateway, Inventory, SyncAnswer, SyncOutcome
from sandbox.application_gateway import ApplicationGateway, Backend
from sandbox.azure import Azure
from sandbox.world import Certificate, Fault, Hostname, Server, World
from tests.clients.cloud import SUFFIX, Clients, requests, with_clients

HOST = "api.contoso.com"
T = TypeVar("T")


@pytest.fixture
def gateway(world: World, certificate: Certificate) -> ApplicationGateway:
    """A gateway whose one listener follows the certificate, in front of a service."""
    service = world.add_service("apim-prod")
    backend = Backend(service, "apim-prod.azure-api.net", HOST, (world.ca.pem,))
    hostnames = [Hostname(HOST, certificate=certificate)]
    return ApplicationGateway(world, "agw", hostnames=hostnames, backends=[backend])


def with_kind(azure: Azure, work: Callable[[ApplicationGateways], Awaitable[T]]) -> T:
    """Do some work with the kind."""

    async def main(clients: Clients) -> T:
        scoped = Scoped(tuple(azure.world.subscriptions), SUFFIX, frozenset())
        return await work(ApplicationGateways(clients.network, clients.graph, scoped, azure.world.clock.now))

    return with_clients(azure, main)


def discover(azure: Azure) -> Inventory:
    """One discovery."""
    return with_kind(azure, lambda kind: kind.discover())


def found(azure: Azure) -> Gateway:
    """The one gateway of a world, as the app sees it."""
    inventory = discover(azure)
    assert () == inventory.problems
    [gateway] = inventory.gateways
    return gateway


def sync(azure: Azure) -> SyncAnswer:
    """One request for a sync."""
    gateway = found(azure)
    return with_kind(azure, lambda kind: kind.sync(gateway))


def asked(azure: Azure, ending: str) -> int:
    """How many requests to ARM had a path with this end."""
    return sum(request.path.endswith(ending) for request in requests(azure, Server.ARM))


def test_a_gateway_is_found_by_queries_alone(azure: Azure, gateway: ApplicationGateway) -> None:
    """Listener, address, identity and what it stands in front of, without one read of ARM."""
    inventory = discover(azure)
    [one] = inventory.gateways
    [binding] = one.bindings
    [front] = inventory.fronts

    assert (gateway.id, "Succeeded", True, None) == (one.id, one.state, one.listed, one.vault_error)
    assert (HOST, gateway.hostnames[0].key_vault_id) == (binding.hostname, binding.key_vault_id)
    assert f"user-assigned {gateway.guid('client')}" == binding.identity
    assert gateway.address == binding.endpoints[0].host
    assert ("apim-prod.azure-api.net", HOST) == (front.target, front.hostname)
    assert ["CN=Sandbox Root CA"] == [root.subject for root in front.roots or ()]
    assert inventory.as_of
    assert [] == [r for r in requests(azure, Server.ARM) if r.method == "GET"]


HIDDEN = (
    "properties.sslCertificates.properties.keyVaultSecretId",
    "properties.httpListeners",
    "properties.sku",
)


@pytest.mark.parametrize("field", HIDDEN)
def test_a_row_that_lacks_something_is_no_row(
    world: World, azure: Azure, gateway: ApplicationGateway, field: str
) -> None:
    """A hidden keyVaultSecretId would look like an uploaded certificate, so ARM is asked for the list."""
    world.graph.hidden.add(field)
    one = found(azure)

    assert (False, gateway.hostnames[0].key_vault_id) == (one.listed, one.bindings[0].key_vault_id)
    assert 1 == asked(azure, "/providers/Microsoft.Network/applicationGateways")


def test_an_address_that_is_not_shown_is_read(
    world: World, azure: Azure, gateway: ApplicationGateway
) -> None:
    """A frontend is never without its address only because Resource Graph hides it."""
    world.graph.hidden.add("properties.ipAddress")

    assert gateway.address == found(azure).bindings[0].endpoints[0].host
    assert 1 == asked(azure, "/publicipaddresses/agw")


@pytest.mark.usefixtures("gateway")
def test_without_resource_graph_subscriptions_are_listed(world: World, azure: Azure) -> None:
    """Slower, but no problem."""
    world.graph.denied = True

    assert (False, HOST) == ((one := found(azure)).listed, one.bindings[0].hostname)


@pytest.mark.usefixtures("gateway")
def test_what_cannot_be_listed_is_a_problem(world: World, azure: Azure) -> None:
    """Never silence: neither query nor list may show it."""
    world.graph.denied = True
    world.faults.append(Fault(Server.ARM, path="applicationGateways", status=403, body={}, times=None))
    inventory = discover(azure)

    assert () == inventory.gateways
    assert "could not be listed" in inventory.problems[0]
    assert "Reader role" in inventory.problems[0]


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize(
    "body", [{"value": ["agw"]}, {"value": [None]}, {"value": "many"}, [], {"value": [{"id": 1}]}]
)
def test_a_list_of_another_shape_is_a_problem(world: World, azure: Azure, body: object) -> None:
    """Nothing is guessed, and nothing is raised."""
    world.graph.denied = True
    world.faults.append(Fault(Server.ARM, path="applicationGateways", status=200, body=body, times=None))
    inventory = discover(azure)

    assert ((), 1) == (inventory.gateways, len(inventory.problems))


@pytest.mark.usefixtures("gateway")
def test_advisors_recommendation_is_its_own_account_of_the_vault(world: World, azure: Azure) -> None:
    """Read with the others, and gone with its cause."""
    [gateway] = world.application_gateways
    gateway.identity_can_read_vault = False
    world.clock.advance(timedelta(hours=4))
    assert "Resolve Azure Key Vault issue for your Application Gateway" == found(azure).vault_error

    gateway.identity_can_read_vault = True
    world.clock.advance(timedelta(hours=4))
    assert found(azure).vault_error is None


def test_a_gateway_is_read_itself_before_it_is_told(azure: Azure, gateway: ApplicationGateway) -> None:
    """Not what Resource Graph remembers: state, tags and addresses are ARM's, with its clock."""
    known = found(azure)
    gateway.tags["rotation-pause"] = "true"
    fresh = with_kind(azure, lambda kind: kind.read(known))

    assert isinstance(fresh, Gateway)
    assert (False, True, True) == (fresh.listed, fresh.paused, fresh.as_of is not None)
    assert known.bindings == fresh.bindings


READS = {
    "gone": (
        {"status": 404, "body": {"error": {"code": "ResourceNotFound", "message": "not found"}}},
        "not found",
    ),
    "forbidden": ({"status": 403, "body": {"error": {"code": "No", "message": "no right"}}}, "no right"),
    "another one": ({"status": 200, "body": {"id": "/subscriptions/1"}}, "is no Application Gateway"),
    "no JSON": ({"status": 200, "body": "hello"}, "could not be read"),
}


@pytest.mark.parametrize(("fault", "why"), READS.values(), ids=READS)
@pytest.mark.usefixtures("gateway")
def test_a_read_that_fails_is_a_sentence(world: World, azure: Azure, fault: dict[str, Any], why: str) -> None:
    """It names the gateway and says why."""
    known = found(azure)
    world.faults.append(Fault(Server.ARM, path="applicationGateways/agw$", times=None, **fault))
    answer = with_kind(azure, lambda kind: kind.read(known))

    assert isinstance(answer, str)
    assert answer.startswith("agw: ")
    assert why in answer


def test_a_sync_is_one_tag_and_nothing_else(azure: Azure, gateway: ApplicationGateway) -> None:
    """The other tags stay, and a second request is another change."""
    gateway.tags["team"] = "shop"
    assert SyncOutcome.ACCEPTED is sync(azure).outcome
    first = gateway.tags[TAG_ASKED]
    gateway.world.clock.advance(timedelta(minutes=1))
    sync(azure)

    assert {"team": "shop", TAG_ASKED: gateway.tags[TAG_ASKED]} == gateway.tags
    assert first < gateway.tags[TAG_ASKED]
    assert 2 == len(gateway.asked)
    patches = [r for r in requests(azure, Server.ARM) if r.method == "PATCH"]
    assert {"/providers/Microsoft.Resources/tags/default"} == {
        r.path.removeprefix(gateway.id) for r in patches
    }


ANSWERS = {
    "busy": (409, {"Retry-After": "5"}, SyncOutcome.BUSY),
    "forbidden": (403, {}, SyncOutcome.FORBIDDEN),
    "throttled": (429, {"Retry-After": "7"}, SyncOutcome.THROTTLED),
    "gone": (404, {}, SyncOutcome.NOT_FOUND),
    "broken": (500, {}, SyncOutcome.UNKNOWN),
    "unavailable": (503, {"Retry-After": "1"}, SyncOutcome.UNKNOWN),
    "on its way": (202, {}, SyncOutcome.ACCEPTED),
}


@pytest.mark.parametrize(("status", "headers", "outcome"), ANSWERS.values(), ids=ANSWERS)
@pytest.mark.usefixtures("gateway")
def test_an_answer_to_a_sync_means(
    world: World, azure: Azure, status: int, headers: dict[str, str], outcome: SyncOutcome
) -> None:
    """Each is a value, and the request is never repeated, whatever Retry-After says."""
    body = {"error": {"code": "Code", "message": "because"}}
    world.faults.append(Fault(Server.ARM, "tags/default", "PATCH", status, headers, body, times=None))
    answer = sync(azure)

    assert (outcome, 1) == (answer.outcome, asked(azure, "tags/default"))
    assert "because" in answer.detail or status == 202
    assert (answer.retry_after is not None) == ("Retry-After" in headers)


@pytest.mark.usefixtures("gateway")
def test_a_connection_that_breaks_is_an_outcome_that_is_not_known(world: World, azure: Azure) -> None:
    """The tag may have been set, so the attempt counts."""
    world.faults.append(Fault(Server.ARM, "tags/default", "PATCH", reset=True, times=None))

    assert (SyncOutcome.UNKNOWN, 1) == (sync(azure).outcome, asked(azure, "tags/default"))


def front_of(azure: Azure) -> Front:
    """The backend of the one gateway."""
    [front] = discover(azure).fronts
    return front


def test_backend_health_is_waited_for(azure: Azure, gateway: ApplicationGateway) -> None:
    """An operation, followed to its end: well, and then not."""
    front = front_of(azure)
    well = with_kind(azure, lambda kind: kind.health(front))
    backend = gateway.backends[0]
    other = Backend(backend.service, backend.target, HOST, (type(gateway.world.ca)("Other").pem,))
    gateway.backends = (other,)
    ill = with_kind(azure, lambda kind: kind.health(front))

    assert well
    assert ill
    assert (False, True) == (well.distrusts, ill.distrusts)
    assert "does not match the trusted root certificate" in ill.detail


@pytest.mark.usefixtures("gateway")
def test_a_health_that_may_not_be_asked_for_is_not_known(world: World, azure: Azure) -> None:
    """Neither well nor ill, with the reason."""
    front = front_of(azure)
    world.granted_actions = ["*/read"]
    health = with_kind(azure, lambda kind: kind.health(front))

    assert health
    assert health.distrusts is None
    assert "backendhealth/action" in health.detail


@pytest.mark.usefixtures("gateway")
def test_a_front_door_is_not_asked_for_its_health(azure: Azure) -> None:
    """There is no such operation, and no request is made."""
    door = Front("/subscriptions/1/providers/Microsoft.Cdn/profiles/afd", "Front Door afd", "a", "b", ())

    assert with_kind(azure, lambda kind: kind.health(door)) is None
    assert [] == requests(azure, Server.ARM)
