"""Entities and hostname bindings through real SDK clients against the sandbox, in the shapes of contracts."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from jsonschema import Draft7Validator

from rotation.clients.arm_entities import ArmEntities
from rotation.clients.arm_workspace_gateways import ArmWorkspaceGateways
from rotation.gateways.entities import CERTIFICATES, NAMED_VALUES, Entities
from rotation.gateways.workspace_gateway import WorkspaceGateways
from rotation.model import Gateway, Kind, SyncAnswer, SyncOutcome
from sandbox.azure import Azure
from sandbox.self_hosted import VaultValue
from sandbox.workspace_gateway import WorkspaceGateway
from sandbox.world import Certificate, Fault, NamedValue, Server, Service, World
from tests.clients.cloud import SUFFIX, Clients, requests, with_clients

CONTRACTS = Path(__file__).resolve().parents[3] / "shared" / "contracts" / "apim"
T = TypeVar("T")

needs_contracts = pytest.mark.skipif(not CONTRACTS.is_dir(), reason="the official schemas are not here")


@pytest.fixture
def service(world: World) -> Service:
    """A service with a workspace."""
    service = world.add_service("apim-prod", sku="Premium")
    service.workspaces.append("orders")
    return service


@pytest.fixture
def value(service: Service, certificate: Certificate) -> VaultValue:
    """A named value that holds the secret of a certificate, beside a plain one."""
    service.named_values["plain"] = NamedValue("what nobody should see")
    return service.add_vault_value("backend-pfx", certificate, workspace="orders")


@pytest.fixture
def gateway(world: World, certificate: Certificate) -> WorkspaceGateway:
    """A workspace gateway with a hostname."""
    made = WorkspaceGateway(world, "orders-gw", {"orders.contoso.com": certificate}, units=3)
    world.workspace_gateways.append(made)
    return made


def with_entities(
    azure: Azure, kind: Kind, work: Callable[[Entities], Awaitable[T]], vaults: frozenset[str] = frozenset()
) -> T:
    """Do some work with a kind."""

    async def main(clients: Clients) -> T:
        made = Entities(
            clients.arm,
            ArmEntities(clients.arm),
            clients.graph,
            clients.vault,
            kind=kind,
            vault_suffix=SUFFIX,
            vaults=vaults,
        )
        return await work(made)

    return with_clients(azure, main)


def names(azure: Azure, kind: Kind, vaults: frozenset[str] = frozenset()) -> list[str]:
    """The names of what is found."""
    inventory = with_entities(azure, kind, lambda made: made.discover(), vaults)
    assert () == inventory.problems
    return sorted(gateway.name for gateway in inventory.gateways)


def test_of_a_workspace_another_right_is_needed(azure: Azure, value: VaultValue) -> None:
    """What the doctor asks about, and the template gives."""
    inventory = with_entities(azure, NAMED_VALUES, lambda made: made.discover())
    [found] = inventory.gateways

    assert (value.id, "apim-prod/orders/backend-pfx", NAMED_VALUES.name) == (
        found.id,
        found.name,
        found.kind.name,
    )
    assert "Microsoft.ApiManagement/service/workspaces/namedValues/refreshSecret/action" == found.kind.action


@pytest.mark.usefixtures("value")
def test_no_value_is_kept_and_none_is_asked_for(azure: Azure, service: Service) -> None:
    """A plain one is in ARM's list; nothing of it leaves the client."""
    bodies = with_clients(azure, lambda clients: ArmEntities(clients.arm).listed(service.id, "namedValues"))
    one = with_clients(
        azure, lambda clients: ArmEntities(clients.arm).entity(f"{service.id}/namedValues/plain")
    )

    assert "what nobody should see" not in f"{bodies} {one}"
    assert "plain" in str(bodies)
    assert [] == [r for r in requests(azure, Server.ARM) if "listvalue" in r.path.lower()]


def test_a_refresh_of_a_named_value_is_an_operation_that_nobody_waits_for(
    azure: Azure, value: VaultValue
) -> None:
    """ARM's 202, with where to look."""

    async def refresh(made: Entities) -> SyncAnswer:
        [found] = (await made.discover()).gateways
        return await made.sync(found)

    answer = with_entities(azure, NAMED_VALUES, refresh)

    assert (SyncOutcome.ACCEPTED, "HTTP 202") == (answer.outcome, answer.detail)
    assert f"{value.id}/operationresults/0" in str(answer.operation_url)


def test_only_secrets_of_certificates_in_allowed_vaults_are_looked_at(
    world: World, azure: Azure, service: Service, certificate: Certificate
) -> None:
    """Everything else that refers to Key Vault is none of our business."""
    service.add_entity("client", certificate)
    service.add_entity("uploaded", uploaded=world.ca.issue(["client.contoso.com"], days=30))
    service.add_vault_value("password", secret=f"https://{certificate.vault.host}/secrets/password")
    other = world.add_vault("kv-other").add_certificate("elsewhere", ["elsewhere.contoso.com"])
    service.add_entity("elsewhere", other)

    assert ["apim-prod/client", "apim-prod/elsewhere"] == names(azure, CERTIFICATES)
    assert ["apim-prod/client"] == names(azure, CERTIFICATES, frozenset({certificate.vault.host}))
    assert [] == names(azure, NAMED_VALUES)


def test_what_cannot_be_told_for_now_is_a_problem_and_is_asked_again(
    world: World, azure: Azure, service: Service, certificate: Certificate
) -> None:
    """A vault that does not answer hides nothing for an hour."""
    service.add_entity("client", certificate)
    world.faults.append(Fault(Server.VAULT, "/certificates/", status=500, times=None))

    async def twice(made: Entities) -> tuple[int, str, int]:
        first = await made.discover()
        world.faults.clear()
        return len(first.gateways), " ".join(first.problems), len((await made.discover()).gateways)

    before, problem, after = with_entities(azure, CERTIFICATES, twice)

    assert (0, 1) == (before, after)
    assert f"Whether {certificate_url(certificate)} exists could not be read" in problem


def certificate_url(certificate: Certificate) -> str:
    """As the app writes it."""
    return f"https://{certificate.vault.host}/certificates/{certificate.name}"


def test_an_entity_that_refers_to_something_else_by_now_is_not_acted_upon(
    azure: Azure, service: Service, certificate: Certificate
) -> None:
    """Between a list and a sync somebody may have pointed it to another secret."""
    value = service.add_vault_value("backend-pfx", certificate)

    async def moved(made: Entities) -> Gateway | str:
        [found] = (await made.discover()).gateways
        value.secret = f"https://{certificate.vault.host}/secrets/password"
        return await made.read(found)

    read = with_entities(azure, NAMED_VALUES, moved)

    assert "apim-prod/backend-pfx: it refers to another secret now; the next pass looks at that." == read


def with_bindings(azure: Azure, work: Callable[[WorkspaceGateways], Awaitable[T]]) -> T:
    """Do some work with the kind of workspace gateways."""

    async def main(clients: Clients) -> T:
        client = ArmWorkspaceGateways(clients.arm)
        return await work(
            WorkspaceGateways(clients.arm, client, vault_suffix=SUFFIX, vaults=frozenset(), synced=True)
        )

    return with_clients(azure, main)


def test_a_hostname_binding_is_read_whole(
    azure: Azure, gateway: WorkspaceGateway, certificate: Certificate
) -> None:
    """Identity, what it follows, what it has, and as many connections as its units need."""

    async def both(kind: WorkspaceGateways) -> tuple[Gateway, Gateway | str]:
        [found] = (await kind.discover()).gateways
        return found, await kind.read(found)

    listed, read = with_bindings(azure, both)

    assert isinstance(read, Gateway)
    [binding] = read.bindings
    [endpoint] = binding.endpoints
    assert (gateway.bindings[0].id, "orders-gw/orders-contoso-com", gateway.id) == (
        read.id,
        read.name,
        read.service_id,
    )
    assert (certificate.secret_id, certificate.newest.thumbprint) == (
        binding.key_vault_id,
        binding.configured,
    )
    assert ("orders.contoso.com", "West Europe", 12) == (
        endpoint.host,
        endpoint.region,
        endpoint.connections,
    )
    assert (True, False) == (listed.listed, read.listed)


ODD: dict[str, tuple[str, object]] = {
    "a gateway of another shape": (r"Management/gateways$", {"value": [{"id": "/x"}]}),
    "a binding of another gateway": (
        "/hostnameBindings$",
        {"value": [{"id": "/x", "name": "orders", "properties": {"hostname": "orders.contoso.com"}}]},
    ),
    "a list of something else": ("/hostnameBindings$", {"value": ["orders"]}),
    "no list": ("/hostnameBindings$", {}),
}


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize(("path", "body"), ODD.values(), ids=ODD)
def test_what_is_of_another_shape_is_a_problem(world: World, azure: Azure, path: str, body: object) -> None:
    """Never silence, and never an exception."""
    world.faults.append(Fault(Server.ARM, path, status=200, body=body))

    inventory = with_bindings(azure, lambda kind: kind.discover())

    assert () == inventory.gateways
    assert len(inventory.problems) == 1


def definitions() -> dict[str, dict[str, object]]:
    """The schemas generated from the official specification."""
    text = (CONTRACTS / "service-types.2025-09-01-preview.schema.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, object]] = json.loads(text)["definitions"]
    return found


def check(contract: str, value: object) -> None:
    """One object against its schema."""
    Draft7Validator({"$ref": f"#/definitions/{contract}", "definitions": definitions()}).validate(value)


@needs_contracts
def test_a_hostname_binding_of_the_sandbox_is_one_of_the_contract(
    azure: Azure, gateway: WorkspaceGateway
) -> None:
    """Also where its last read has failed; and no field beside those."""
    binding = gateway.bindings[0]
    gateway.can_read_vault = False
    gateway.refresh_takes *= 0
    binding.refresh()

    bodies = with_clients(azure, lambda clients: ArmWorkspaceGateways(clients.arm).bindings(gateway.id))

    assert not isinstance(bodies, str)
    [body] = bodies
    check("GatewayHostnameBindingBaseProperties", body["properties"])
    known = definitions()["GatewayHostnameBindingBaseProperties"]["properties"]
    assert isinstance(known, dict)
    assert set(body["properties"]) <= set(known)
    assert {"code", "timeStampUtc", "lastSuccessTimeStampUtc"} == set(
        body["properties"]["keyVault"]["lastStatus"]
    )


@needs_contracts
def test_what_a_named_value_says_of_key_vault_is_of_the_contract(
    azure: Azure, service: Service, value: VaultValue
) -> None:
    """The same object as that of a certificate entity."""
    del value

    orders = f"{service.id}/workspaces/orders"
    bodies = with_clients(azure, lambda clients: ArmEntities(clients.arm).listed(orders, "namedValues"))

    assert not isinstance(bodies, str)
    [body] = bodies
    check("KeyVaultContractCreatePropertiesOrKeyVaultContractProperties", body["properties"]["keyVault"])
