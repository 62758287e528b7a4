"""Certificate entities and self-hosted gateways, through real SDK clients against the sandbox."""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from jsonschema import Draft7Validator

from rotation.clients.arm import Bodies
from rotation.clients.arm_entities import ArmEntities
from rotation.gateways.self_hosted import KIND, SelfHosted
from rotation.gateways.service_parts import MOST_LOOKED_AT
from rotation.model import Address, Endpoint, Gateway, Inventory, SyncAnswer, SyncOutcome
from sandbox.azure import Azure
from sandbox.self_hosted import Entity
from sandbox.world import Certificate, Fault, Server, Service, World
from tests.clients.cloud import SUFFIX, Clients, requests, with_clients

CONTRACTS = Path(__file__).resolve().parents[3] / "shared" / "contracts" / "apim"
EDGE = "edge.contoso.com"
T = TypeVar("T")


@pytest.fixture
def service(world: World) -> Service:
    """A service without hostnames of its own."""
    return world.add_service("apim-prod")


@pytest.fixture
def entity(service: Service, certificate: Certificate) -> Entity:
    """A certificate entity that one self-hosted gateway serves."""
    entity = service.add_entity("edge-cert", certificate)
    service.add_self_hosted("edge-berlin", {EDGE: entity})
    return entity


def with_kind(
    azure: Azure,
    work: Callable[[SelfHosted], Awaitable[T]],
    addresses: Mapping[str, tuple[Address, ...]] | None = None,
) -> T:
    """Do some work with the kind."""

    async def main(clients: Clients) -> T:
        kind = SelfHosted(
            clients.arm,
            ArmEntities(clients.arm),
            clients.graph,
            vault_suffix=SUFFIX,
            vaults=frozenset(),
            addresses=addresses or {},
            expires_soon=timedelta(days=14),
        )
        return await work(kind)

    return with_clients(azure, main)


def discover(azure: Azure, addresses: Mapping[str, tuple[Address, ...]] | None = None) -> Inventory:
    """One discovery."""
    return with_kind(azure, lambda kind: kind.discover(), addresses)


def found(azure: Azure, addresses: Mapping[str, tuple[Address, ...]] | None = None) -> Gateway:
    """The one entity of a world, as the app sees it."""
    inventory = discover(azure, addresses)
    assert ((), ()) == (inventory.problems, inventory.warnings)
    [gateway] = inventory.gateways
    return gateway


def asked(azure: Azure, ending: str) -> int:
    """How many requests to ARM had a path with this end."""
    return sum(request.path.endswith(ending) for request in requests(azure, Server.ARM))


def test_an_entity_is_read_whole(
    world: World, azure: Azure, entity: Entity, certificate: Certificate
) -> None:
    """Identity, what it follows, what it has and since when, and the hostname that is served with it."""
    gateway = found(azure)

    [binding] = gateway.bindings
    assert (entity.id, entity.id.lower(), "apim-prod/edge-cert", KIND, False) == (
        gateway.id,
        gateway.key,
        gateway.name,
        gateway.kind,
        gateway.busy,
    )
    assert (EDGE, "edge-berlin", certificate.secret_id) == (
        binding.hostname,
        binding.hostname_type,
        binding.key_vault_id,
    )
    assert certificate.newest.thumbprint == binding.configured
    assert binding.configured_since
    assert abs(world.clock.now() - binding.configured_since) < timedelta(minutes=1)
    assert ((), None, True) == (binding.endpoints, gateway.vault_error, gateway.listed)


def test_one_entity_that_many_gateways_serve_is_one_gateway_to_us(
    azure: Azure, service: Service, entity: Entity
) -> None:
    """One refresh for all of them, and a verdict for each hostname of each."""
    service.add_self_hosted("edge-paris", {EDGE: entity, "paris.contoso.com": entity})
    service.add_self_hosted("edge-idle", {})

    assert [(EDGE, "edge-berlin"), (EDGE, "edge-paris"), ("paris.contoso.com", "edge-paris")] == [
        (binding.hostname, binding.hostname_type) for binding in found(azure).bindings
    ]


def test_entities_that_no_gateway_serves_are_left_alone(
    azure: Azure, service: Service, entity: Entity, certificate: Certificate
) -> None:
    """A certificate towards a backend is nobody's hostname."""
    service.add_entity("towards-a-backend", certificate)

    assert entity.id == found(azure).id


def test_an_uploaded_certificate_is_nobodys_to_sync(world: World, azure: Azure, service: Service) -> None:
    """It has no Key Vault behind it; its expiry is watched with one connection."""
    entity = service.add_entity("uploaded", uploaded=world.ca.issue([EDGE], days=30))
    service.add_self_hosted("edge-berlin", {EDGE: entity})

    [binding] = found(azure, {"edge-berlin": (Address("gw.contoso.com", 443, 3),)}).bindings

    assert (None, None, 1) == (binding.key_vault_id, binding.reference, binding.endpoints[0].connections)


PLACES: dict[str, tuple[dict[str, tuple[Address, ...]], list[tuple[str, str, int, int]]]] = {
    "one address": (
        {"edge-berlin": (Address("10.0.0.5", 8443),)},
        [("edge-berlin", "10.0.0.5", 8443, 1)],
    ),
    "an address for each replica": (
        {"edge-berlin": (Address("10.0.0.5"), Address("10.0.0.6"))},
        [
            ("edge-berlin at 10.0.0.5:443", "10.0.0.5", 443, 1),
            ("edge-berlin at 10.0.0.6:443", "10.0.0.6", 443, 1),
        ],
    ),
    "replicas behind one address": (
        {"edge-berlin": (Address("gw.contoso.com", 443, 4),)},
        [("edge-berlin", "gw.contoso.com", 443, 17)],
    ),
    "that of the service before that of the name": (
        {"apim-prod/edge-berlin": (Address("10.0.0.7"),), "edge-berlin": (Address("10.0.0.5"),)},
        [("edge-berlin", "10.0.0.7", 443, 1)],
    ),
    "another gateway's": ({"edge-paris": (Address("10.0.0.5"),)}, []),
}


@pytest.mark.usefixtures("entity")
@pytest.mark.parametrize(("addresses", "expected"), PLACES.values(), ids=PLACES)
def test_where_a_gateway_listens_is_a_setting(
    azure: Azure, addresses: dict[str, tuple[Address, ...]], expected: list[tuple[str, str, int, int]]
) -> None:
    """Azure does not know it, so nothing is dialled that nobody has named."""
    [binding] = found(azure, addresses).bindings

    assert [Endpoint(EDGE, *each) for each in expected] == list(binding.endpoints)


@pytest.mark.usefixtures("entity")
@pytest.mark.parametrize(
    "text",
    [
        "https://gw/",
        "10.0.0.5:99999",
        "10.0.0.5,,10.0.0.6",
        " ",
        pytest.param(",".join(f"victim.example:{port}*64" for port in range(443, 453)), id="ten by 64"),
        pytest.param(",".join(f"10.0.0.{n}" for n in range(65)), id="65 replicas"),
    ],
)
def test_a_tag_that_is_no_address_says_so_and_dials_nothing(
    azure: Azure, service: Service, text: str
) -> None:
    """Half an answer would prove half of the replicas."""
    service.tags["rotation-gateway-edge-berlin"] = text

    [binding] = found(azure).bindings

    assert () == binding.endpoints
    assert binding.no_endpoint.startswith("the tag rotation-gateway-edge-berlin of apim-prod says nothing: ")


@pytest.mark.usefixtures("entity")
@pytest.mark.parametrize("denied", [False, True])
def test_the_tags_of_the_service_hold_for_its_entities(azure: Azure, service: Service, denied: bool) -> None:
    """From Resource Graph, and from ARM's list where that does not answer."""
    azure.world.graph.denied = denied
    service.tags.update({"Rotation-Pause": "TRUE", "rotation-exclude": "true", "rotation-ring": "2"})
    gateway = found(azure)

    assert (True, True, 2) == (gateway.paused, gateway.excluded, gateway.ring)


def test_an_entity_that_could_not_read_its_vault_says_why(
    azure: Azure, service: Service, entity: Entity, certificate: Certificate
) -> None:
    """Its own account, as ARM has it, and no time since when it would have the new version."""
    service.identity_can_read_vault = False
    certificate.renew()
    entity.refresh()

    gateway = found(azure)

    assert (gateway.vault_error or "").startswith("Failed: Failed to access KeyVault Secret https://")
    assert (certificate.versions[0].thumbprint, None) == (
        gateway.bindings[0].configured,
        gateway.bindings[0].configured_since,
    )


@pytest.mark.usefixtures("entity")
def test_pages_are_followed(azure: Azure, service: Service, certificate: Certificate) -> None:
    """Every list to its end."""
    azure.world.page_size = 1
    for n in range(3):
        service.add_self_hosted(
            f"edge-{n}", {f"{n}.contoso.com": service.add_entity(f"cert-{n}", certificate)}
        )

    assert ["cert-0", "cert-1", "cert-2", "edge-cert"] == sorted(
        gateway.id.rpartition("/")[2] for gateway in discover(azure).gateways
    )


def test_a_tier_without_self_hosted_gateways_is_not_asked_for_them(
    world: World, azure: Azure, entity: Entity
) -> None:
    """Only Developer and Premium have them: Azure refuses the question elsewhere."""
    world.add_service("apim-basic", sku="Basic")
    world.add_service("apim-v2", sku="StandardV2")
    world.add_service("apim-dev", sku="Developer")

    assert entity.id == found(azure).id
    assert 2 == asked(azure, "/gateways")


@pytest.mark.usefixtures("entity")
def test_what_there_is_is_asked_once_in_an_hour(azure: Azure) -> None:
    """The second pass has it from the first."""

    async def twice(kind: SelfHosted) -> list[Inventory]:
        return [await kind.discover(), await kind.discover()]

    first, second = with_kind(azure, twice)

    assert first.gateways == second.gateways
    assert (1, 1, 1) == tuple(
        asked(azure, f"/{of}") for of in ("gateways", "certificates", "hostnameConfigurations")
    )


def test_a_fleet_is_looked_at_in_parts_and_says_so(world: World, azure: Azure) -> None:
    """ARM's budget bounds a pass; the next one goes on where it ended."""
    for n in range(MOST_LOOKED_AT + 2):
        world.add_service(f"apim-{n:03}")

    async def twice(kind: SelfHosted) -> list[Inventory]:
        return [await kind.discover(), await kind.discover()]

    first, second = with_kind(azure, twice)

    assert ["The self-hosted gateways of 2 services"] == [p[:38] for p in first.problems]
    assert () == second.problems
    assert MOST_LOOKED_AT + 2 == asked(azure, "/gateways")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            Fault(Server.ARM, "/gateways$", status=403, body={"error": {"code": "AuthorizationFailed"}}),
            "AuthorizationFailed",
        ),
        (Fault(Server.ARM, "/hostnameConfigurations$", status=500, times=None), "Internal Server Error"),
        (Fault(Server.ARM, "/certificateAuthorities$", reset=True, times=None), "Connection reset"),
        (Fault(Server.ARM, "/certificates$", status=200, body=b"<html>"), "could not be read"),
        (Fault(Server.ARM, "/certificates$", status=200, body={"value": None}), "has no list"),
        (
            Fault(Server.ARM, "/gateways$", status=200, body={"value": [{"name": "../x"}]}),
            "is no name of a gateway",
        ),
        (
            Fault(Server.ARM, "/gateways$", status=200, body={"value": [{"name": ""}]}),
            "'' is no name of a gateway",
        ),
        (
            Fault(Server.ARM, "/certificates$", status=200, body={"value": [{"id": "/x", "name": "x"}]}),
            "'/x' is none of its certificates",
        ),
        (
            Fault(Server.ARM, "/hostnameConfigurations$", status=200, body={"value": [{"properties": None}]}),
            "its properties is no object",
        ),
    ],
)
def test_what_cannot_be_read_is_a_problem_and_is_asked_again(
    world: World, azure: Azure, entity: Entity, fault: Fault, reason: str
) -> None:
    """Never silence, and never half a service: the next pass looks again."""
    world.faults.append(fault)

    async def twice(kind: SelfHosted) -> list[Inventory]:
        first = await kind.discover()
        world.faults.clear()
        return [first, await kind.discover()]

    first, second = with_kind(azure, twice)

    [problem] = first.problems
    assert problem.startswith("apim-prod: its self-hosted gateways could not be read")
    assert reason in problem
    assert () == first.gateways
    assert [entity.id] == [gateway.id for gateway in second.gateways]


def test_a_hostname_without_its_entity_and_an_authority_that_ends_are_told(
    azure: Azure, service: Service, entity: Entity, certificate: Certificate
) -> None:
    """Both need a person, and neither is a verdict of a hostname."""
    root = service.add_entity(
        "corp-root", certificate.vault.add_certificate("root", ["x.contoso.com"], days=9)
    )
    later = service.add_entity(
        "corp-next", certificate.vault.add_certificate("next", ["y.contoso.com"], days=900)
    )
    service.add_self_hosted(
        "edge-paris", {"paris.contoso.com": Entity(service, "gone", certificate)}, (), [root, later]
    )

    inventory = discover(azure)

    missing, ends = inventory.warnings
    assert (
        "paris.contoso.com of the self-hosted gateway edge-paris refers to the certificate entity gone"
        in missing
    )
    assert "edge-paris was given the certificate authority corp-root, which ends" in ends
    assert [entity.id] == [gateway.id for gateway in inventory.gateways]


@pytest.mark.usefixtures("entity")
def test_an_entity_that_nobody_serves_and_key_vault_refuses_is_told(
    azure: Azure, service: Service, certificate: Certificate
) -> None:
    """Towards a backend it will fail just the same."""
    other = certificate.vault.add_certificate("backend", ["client.contoso.com"])
    refused = service.add_entity("towards-a-backend", other)
    other.disable()
    refused.refresh()

    [warning] = discover(azure).warnings

    assert warning.startswith(
        "apim-prod: the certificate entity towards-a-backend could not be read from Key Vault"
    )
    assert "Failed: Failed to access KeyVault Secret" in warning


def fresh(azure: Azure, ours: Gateway) -> Gateway | str:
    """The entity itself, read as before a sync."""
    return with_kind(azure, lambda kind: kind.read(ours))


def test_an_entity_is_read_fresh_with_its_services_tags(
    azure: Azure, service: Service, entity: Entity, certificate: Certificate
) -> None:
    """What a list has shown may be an hour old; a brake put on since then counts."""
    listed = found(azure, {"edge-berlin": (Address("10.0.0.5"),)})
    new = certificate.renew()
    entity.refresh()
    service.tags["rotation-pause"] = "true"

    read = fresh(azure, listed)

    assert isinstance(read, Gateway)
    assert (False, True, new.thumbprint) == (read.listed, read.paused, read.bindings[0].configured)
    assert listed.bindings[0].endpoints == read.bindings[0].endpoints
    assert read.as_of


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            Fault(Server.ARM, "/certificates/", status=404, body={}),
            "there is no such certificate entity (any more)",
        ),
        (Fault(Server.ARM, "/certificates/", status=500, times=None), "Internal Server Error"),
        (Fault(Server.ARM, "/apim-prod$", status=403, times=None), "could not be read"),
        (Fault(Server.ARM, "/certificates/", status=200, body=[]), "the answer is no resource"),
        (Fault(Server.ARM, "/certificates/", status=200, body={"id": "/x"}), "another entity, /x"),
    ],
)
def test_an_entity_that_cannot_be_read_says_why(
    world: World, azure: Azure, entity: Entity, fault: Fault, reason: str
) -> None:
    """A sentence with its name, never an old answer."""
    listed = found(azure)
    world.faults.append(fault)

    said = fresh(azure, listed)

    assert isinstance(said, str)
    assert said.startswith(f"apim-prod/{entity.name}: ")
    assert reason in said


def sync(azure: Azure, ours: Gateway) -> SyncAnswer:
    """One request for a refresh."""
    return with_kind(azure, lambda kind: kind.sync(ours))


def test_a_refresh_is_done_when_it_answers(azure: Azure, entity: Entity, certificate: Certificate) -> None:
    """One POST without a body, and what the entity has afterwards is in the answer."""
    ours = found(azure)
    new = certificate.renew()

    answer = sync(azure, ours)

    assert SyncAnswer(SyncOutcome.ACCEPTED, f"HTTP 200, the entity has {new.thumbprint[:10]}…") == answer
    assert new is entity.held_at(azure.world.clock.now())
    [request] = [
        r for r in requests(azure, Server.ARM) if r.method == "POST" and "graph" not in r.path.lower()
    ]
    assert (f"{entity.id}/refreshSecret", "0") == (request.path, request.headers["Content-Length"])


def test_a_refresh_that_could_not_read_the_vault_says_so(
    azure: Azure, service: Service, entity: Entity
) -> None:
    """The request was taken, so it counts; what became of it is told."""
    ours = found(azure)
    service.identity_can_read_vault = False

    answer = sync(azure, ours)

    assert SyncOutcome.ACCEPTED is answer.outcome
    assert "HTTP 200, Failed: Failed to access KeyVault Secret" in answer.detail
    assert 1 == len(entity.refreshes)


ANSWERS = {
    "locked": (
        Fault(Server.ARM, "refreshSecret", status=409, headers={"Retry-After": "9"}),
        SyncOutcome.BUSY,
    ),
    "throttled": (
        Fault(Server.ARM, "refreshSecret", status=429, headers={"Retry-After": "9"}),
        SyncOutcome.THROTTLED,
    ),
    "forbidden": (Fault(Server.ARM, "refreshSecret", status=403), SyncOutcome.FORBIDDEN),
    "gone": (Fault(Server.ARM, "refreshSecret", status=404), SyncOutcome.NOT_FOUND),
    "broken": (Fault(Server.ARM, "refreshSecret", status=500), SyncOutcome.UNKNOWN),
    "cut off": (Fault(Server.ARM, "refreshSecret", reset=True), SyncOutcome.UNKNOWN),
    "unreadable": (Fault(Server.ARM, "refreshSecret", status=200, body=b"<html>"), SyncOutcome.ACCEPTED),
    "of another shape": (
        Fault(Server.ARM, "refreshSecret", status=200, body={"id": 5}),
        SyncOutcome.ACCEPTED,
    ),
}


@pytest.mark.parametrize(("fault", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_the_answer_to_a_refresh_means_what_it_means_for_every_kind(
    azure: Azure, entity: Entity, fault: Fault, expected: SyncOutcome
) -> None:
    """And it is asked once, whatever the answer: the SDK would repeat one with Retry-After."""
    ours = found(azure)
    azure.world.faults.append(fault)

    answer = sync(azure, ours)

    assert expected is answer.outcome
    assert (timedelta(seconds=9) if fault.headers else None) == answer.retry_after
    assert 1 == asked(azure, f"{entity.name}/refreshSecret")


needs_contracts = pytest.mark.skipif(not CONTRACTS.exists(), reason="../shared/contracts is not here")


CONTRACT_OF = {
    "certificates": "CertificateCreateOrUpdatePropertiesOrCertificateContractProperties",
    "gateways/edge-berlin/hostnameConfigurations": "GatewayHostnameConfigurationContractProperties",
    "gateways/edge-berlin/certificateAuthorities": "GatewayCertificateAuthorityContractProperties",
}


@needs_contracts
@pytest.mark.parametrize(("path", "contract"), CONTRACT_OF.items(), ids=CONTRACT_OF)
def test_the_sandbox_answers_in_the_shape_of_the_contract(
    world: World, azure: Azure, certificate: Certificate, path: str, contract: str
) -> None:
    """Each body against the schema generated from the official specification, and no field beside it."""
    schema = json.loads(
        (CONTRACTS / "service-types.2025-09-01-preview.schema.json").read_text(encoding="utf-8")
    )
    ours = world.add_service("apim-prod")
    entity = ours.add_entity("edge-cert", certificate)
    ours.add_self_hosted("edge-berlin", {EDGE: entity}, (), [entity])
    ours.identity_can_read_vault = False
    entity.refresh()
    service_id = ours.id

    async def bodies(kind: SelfHosted) -> Bodies | str:
        of = kind._entities
        lists = (partial(of.listed, collection="certificates"), of.hostnames, of.authorities)
        at = f"{service_id}/{path.rpartition('/')[0]}".rstrip("/")
        return await lists[[*CONTRACT_OF].index(path)](at)

    shown = with_kind(azure, bodies)

    assert not isinstance(shown, str)
    [body] = shown
    properties = body["properties"]
    Draft7Validator({"$ref": f"#/definitions/{contract}", "definitions": schema["definitions"]}).validate(
        properties
    )
    assert set(properties) <= set(schema["definitions"][contract]["properties"])
    if path == "certificates":
        assert {"code", "message", "timeStampUtc"} == set(properties["keyVault"]["lastStatus"])


@needs_contracts
@pytest.mark.usefixtures("entity")
def test_the_official_example_of_a_refresh_is_understood(world: World, azure: Azure, entity: Entity) -> None:
    """Its time has seven digits of a second, and its thumbprint is masked, so it is none."""
    example = json.loads(
        (CONTRACTS / "examples/ApiManagementRefreshCertificate.json").read_text(encoding="utf-8")
    )
    body: dict[str, Any] = example["responses"]["200"]["body"] | {"id": entity.id}
    listed = found(azure)
    world.faults.append(Fault(Server.ARM, "/certificates/", status=200, body=body))

    read = fresh(azure, listed)

    assert isinstance(read, Gateway)
    [binding] = read.bindings
    assert (None, "ceaa6b06-c00f-43ef-99ac-f53d1fe876a0") == (binding.configured, binding.identity_client_id)
    assert datetime(2020, 9, 22, 0, 24, 53, tzinfo=UTC) == binding.configured_since
