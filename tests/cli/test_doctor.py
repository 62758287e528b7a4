"""Each check of the doctor, well and ill: the level, the cause, and a step to take."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rotation import doctor
from rotation.doctor import Answer, Level
from rotation.gateways.api_management import KIND
from rotation.model import Binding, CertificateId, Gateway, KeyVaultReference
from sandbox.application_gateway import ApplicationGateway
from sandbox.workspace_gateway import WorkspaceGateway
from sandbox.world import EventType, Fault, Hostname, Server, Service, World
from tests.cli.terminal import Ran, shell

VAULT = "kv-contoso.vault.azure.net"
FOLLOWS = {"ROTATION_NAMED_VALUES": "kv-contoso/contoso-com=thumbprint"}
CLIENT = "0b8c3f53-3c57-4b8b-9a27-4a8a8c6f0f11"
PRINCIPAL = "5f3d1c7e-1d0f-4c6a-8a53-1f6d0b1f7a22"


def contoso() -> tuple[World, Service]:
    """A world with one certificate and one service."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    hostnames = (Hostname("api.contoso.com", certificate=certificate),)
    return world, world.add_service("apim-contoso", hostnames=hostnames)


def levels(ran: Ran) -> dict[tuple[str, str], str]:
    """The levels by check and subject."""
    lines = ran.result["lines"]
    assert [] == [line for line in lines if (line["level"] != "ok") != bool(line["next_step"])]
    return {(line["check"], line["subject"]): line["level"] for line in lines}


def test_a_healthy_installation_has_nothing_but_a_local_ledger_to_be_warned_of(tmp_path: Path) -> None:
    """Every check speaks, and the exit code is 0."""
    world, _ = contoso()
    world.granted_actions.append("Microsoft.ApiManagement/service/namedValues/write")
    with shell(world, tmp_path, FOLLOWS) as terminal:
        ran = terminal.run("doctor", "--json")
        found = levels(ran)

        assert 0 == ran.code, ran.err
        assert [("ledger", str(tmp_path / "ledger.sqlite"))] == [k for k, v in found.items() if v != "ok"]
        assert set(CHECKS) == {check for check, _ in found}
        assert ["DoctorRan"] == [event.name for event in world.custom_events()]
        assert [] == [r.path for r in world.requests if r.path.startswith("/secrets")]


def test_what_is_no_gateway_in_azure_is_asked_for_no_more_than_it_has(tmp_path: Path) -> None:
    """Nobody can connect to a named value, and a workspace gateway has no account of its network."""
    world, service = contoso()
    certificate = world.vaults["kv-contoso"].certificates["contoso-com"]
    service.add_vault_value("backend-pfx", certificate)
    made = WorkspaceGateway(world, "orders-gw", {"orders.contoso.com": certificate})
    world.workspace_gateways.append(made)
    kinds = {"ROTATION_KINDS": "NamedValue,WorkspaceGateway"}
    with shell(world, tmp_path, kinds) as terminal:
        found = levels(terminal.run("doctor", "--json"))

    value, binding = "apim-contoso/backend-pfx", "orders-gw/orders-contoso-com"
    assert {"sync action", "network status"} == {check for check, subject in found if subject == value}
    assert {"sync action", "probe"} == {check for check, subject in found if subject == binding}
    assert "ok" == found["gateway identity", f"{value} -> {VAULT}"]
    assert "warning" == found["sync action", binding]


CHECKS = (
    *("settings", "identity", "ledger", "host id", "app insights", "clock", "arm", "sync action"),
    *(
        "named values",
        "probe",
        "network status",
        "vault",
        "vault settings",
        "own secrets",
        "events",
        "gateway identity",
    ),
)


def test_a_certificate_entity_is_examined_with_its_own_right_and_its_services_identity(
    tmp_path: Path,
) -> None:
    """The right to sync differs by kind; who reads the vault is the service in both."""
    world, service = contoso()
    entity = service.add_entity("edge", world.vaults["kv-contoso"].certificates["contoso-com"])
    service.add_self_hosted("edge-berlin", {"edge.contoso.com": entity})
    with shell(world, tmp_path, {"ROTATION_KINDS": "SelfHostedGateway"}) as terminal:
        found = levels(terminal.run("doctor", "--json"))
        world.granted_actions.append("Microsoft.ApiManagement/service/certificates/refreshSecret/action")
        granted = levels(terminal.run("doctor", "--json"))

    assert ("warning", "ok") == (
        found["sync action", "apim-contoso/edge"],
        found["sync action", "apim-contoso"],
    )
    assert "ok" == granted["sync action", "apim-contoso/edge"]
    assert "ok" == granted["gateway identity", f"apim-contoso/edge -> {VAULT}"]
    assert "ok" == granted["network status", "apim-contoso/edge"]


def test_an_application_gateway_is_examined_with_its_own_right_identity_and_api_version(
    tmp_path: Path,
) -> None:
    """It has no account of its own network, and is read as what it is."""
    world, _ = contoso()
    certificate = world.vaults["kv-contoso"].certificates["contoso-com"]
    gateway = ApplicationGateway(
        world, "agw", hostnames=[Hostname("www.contoso.com", certificate=certificate)]
    )
    with shell(world, tmp_path, {"ROTATION_KINDS": "ApplicationGateway"}) as terminal:
        well = levels(terminal.run("doctor", "--json"))
        gateway.identity_can_read_vault = False
        world.granted_actions.remove("Microsoft.Resources/tags/write")
        ill = levels(terminal.run("doctor", "--json"))

    identity = ("gateway identity", f"agw -> {VAULT}")
    assert ("ok", "ok", "ok") == (well["sync action", "agw"], well["probe", "agw"], well[identity])
    assert ("network status", "agw") not in well
    assert ("warning", "failure") == (ill["sync action", "agw"], ill[identity])


def test_everything_that_is_ill_is_found_in_one_run(tmp_path: Path) -> None:
    """One illness does not hide the others."""
    world, service = contoso()
    vault = world.vaults["kv-contoso"]
    world.granted_actions = ["*/read"]
    world.granted_data_actions = ["Microsoft.KeyVault/vaults/*"]
    world.registers_sync = False
    world.clock.advance(timedelta(minutes=10))
    world.faults.append(Fault(Server.INGESTION, status=400, body={}, times=None))
    service.down.add("West Europe")
    service.identity_can_read_vault = False
    vault.subscribed = {EventType.NEW_VERSION}
    settings = {**FOLLOWS, "ROTATION_MODE": "enforce", "WEBSITE_SITE_NAME": "a" * 40}
    with shell(world, tmp_path, settings) as terminal:
        ran = terminal.run("doctor", "--json")
        found = levels(ran)

        assert 3 == ran.code
        assert {
            ("named values", "apim-contoso"): "warning",
            ("app insights", "Application Insights"): "failure",
            ("clock", "this machine"): "failure",
            ("gateway identity", f"apim-contoso -> {VAULT}"): "failure",
            ("network status", "apim-contoso"): "failure",
            ("probe", "apim-contoso"): "failure",
            ("sync action", "apim-contoso"): "failure",
            ("events", VAULT): "warning",
            ("host id", "a" * 40): "warning",
            ("ledger", str(tmp_path / "ledger.sqlite")): "warning",
            ("own secrets", VAULT): "warning",
            ("sync action", "Microsoft.ApiManagement"): "warning",
        } == {key: level for key, level in found.items() if level != "ok"}


def test_what_may_not_be_read_is_said_and_not_taken_for_well(tmp_path: Path) -> None:
    """ARM refuses everything but the list of services; the vault refuses us."""
    world, _ = contoso()
    world.faults.append(Fault(Server.VAULT, status=403, times=None))
    refused = r"permissions|roleAssignments|providerOperations|systemTopics|networkstatus"
    world.faults.append(Fault(Server.ARM, path=refused, status=403, times=None))
    with shell(world, tmp_path) as terminal:
        ran = terminal.run("doctor", "--json")
        found = levels(ran)

        assert 3 == ran.code
        assert "failure" == found["vault", VAULT]
        for check, subject in (
            ("sync action", "apim-contoso"),
            ("sync action", "Microsoft.ApiManagement"),
            ("network status", "apim-contoso"),
            ("own secrets", VAULT),
            ("events", VAULT),
            ("gateway identity", f"apim-contoso -> {VAULT}"),
        ):
            assert "warning" == found[check, subject], (check, subject)


def test_without_a_sign_in_the_doctor_says_so_first(tmp_path: Path) -> None:
    """No token, no reads: one failure with the command that helps."""
    world, _ = contoso()
    world.faults.append(Fault(Server.IDENTITY, status=500, body={}, times=None))
    with shell(world, tmp_path, {"AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential"}) as terminal:
        ran = terminal.run("doctor", "--json")
        lines = {line["check"]: line for line in ran.result["lines"]}

        assert (3, "failure") == (ran.code, lines["identity"]["level"])
        assert "az login" in lines["identity"]["next_step"]
        assert "arm" not in lines


def test_wrong_settings_are_lines_too(tmp_path: Path) -> None:
    """Exit code 5, as with every command."""
    world, _ = contoso()
    with shell(world, tmp_path) as terminal:
        ran = terminal.run("doctor", "--json", ROTATION_MODE="on", ROTATION_SCHEDUL="x")

        assert 5 == ran.code
        assert ["failure", "failure"] == [line["level"] for line in ran.result["lines"]]


def gateway(identity_client_id: str | None = None) -> Gateway:
    """A service with one binding."""
    reference = KeyVaultReference(CertificateId(VAULT, "contoso-com"), None)
    binding = Binding("api.contoso.com", "Proxy", "", reference, None, identity_client_id, ())
    service = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ApiManagement/service/apim"
    return Gateway(service, "apim", KIND, "", "Succeeded", (binding,))


def vault(**properties: object) -> dict[str, Any]:
    """A vault with role assignments and no firewall."""
    return {"id": "/v", "properties": {"enableRbacAuthorization": True, **properties}}


def assigned(role: str) -> Answer:
    """One role assignment."""
    return Answer(200, {"value": [{"properties": {"roleDefinitionId": f"/x/roleDefinitions/{role}"}}]})


SECRETS_USER = "4633458B-17DE-408A-B874-0445C86B69E6"
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
WALL = {"networkAcls": {"defaultAction": "Deny", "bypass": "AzureServices"}}
THICK_WALL = {"networkAcls": {"defaultAction": "Deny", "bypass": "None"}}


def policy(right: str, principal: str = PRINCIPAL) -> dict[str, Any]:
    """A vault with one access policy."""
    return {
        "enableRbacAuthorization": False,
        "accessPolicies": [{"objectId": principal.upper(), "permissions": {"secrets": [right]}}],
    }


@pytest.mark.parametrize(
    ("client", "principal", "properties", "assignments", "level", "said"),
    [
        (None, PRINCIPAL, {}, assigned(SECRETS_USER), Level.OK, "Key Vault Secrets User"),
        (None, PRINCIPAL, {}, assigned(READER), Level.WARNING, "none that is known to read secrets"),
        (None, PRINCIPAL, {}, Answer(200, {"value": []}), Level.FAILURE, "has no role"),
        (None, PRINCIPAL, {}, Answer(403, None, "Denied"), Level.WARNING, "HTTP 403 Denied"),
        (None, None, {}, Answer(None), Level.FAILURE, "does not exist on the service"),
        (None, PRINCIPAL, policy("Get"), Answer(None), Level.OK, "an access policy"),
        (None, PRINCIPAL, policy("list"), Answer(None), Level.FAILURE, "no access policy"),
        (None, PRINCIPAL, policy("get", CLIENT), Answer(None), Level.FAILURE, "no access policy"),
        (None, PRINCIPAL, WALL, assigned(SECRETS_USER), Level.OK, "may read"),
        (None, PRINCIPAL, THICK_WALL, assigned(SECRETS_USER), Level.FAILURE, "firewall"),
        (CLIENT, PRINCIPAL, WALL, assigned(SECRETS_USER), Level.FAILURE, "system-assigned"),
        (CLIENT, PRINCIPAL, {}, assigned(SECRETS_USER), Level.OK, f"user-assigned {CLIENT}"),
    ],
)
def test_the_identity_of_a_gateway_is_judged(
    client: str | None,
    principal: str | None,
    properties: dict[str, Any],
    assignments: Answer,
    level: Level,
    said: str,
) -> None:
    """Role assignments or access policies, and the firewall's rule for API Management."""
    service = gateway(client)
    line = doctor.gateway_may_read(service, service.bindings[0], principal, vault(**properties), assignments)

    assert (level, True) == (line.level, said in line.cause), line


@pytest.mark.parametrize(
    ("client", "identity", "expected"),
    [
        (None, {"principalId": PRINCIPAL}, PRINCIPAL),
        (None, {"type": "UserAssigned"}, None),
        (CLIENT, {"userAssignedIdentities": {"/a": {"clientId": CLIENT.upper(), "principalId": "p"}}}, "p"),
        (CLIENT, {"principalId": PRINCIPAL, "userAssignedIdentities": {}}, None),
        (None, None, None),
    ],
)
def test_the_principal_is_that_of_the_identity_the_hostname_uses(
    client: str | None, identity: dict[str, Any] | None, expected: str | None
) -> None:
    """Another identity of the service does not count."""
    actual = doctor.principal_of(gateway(client).bindings[0], {"identity": identity})

    assert expected == actual


SUBSCRIPTION = "1d0c8a94-5b37-4f62-8e2d-93c6f7ab4e10"


@pytest.mark.parametrize(
    ("answer", "gateways", "problems", "level"),
    [
        (Answer(200, {}), 1, (), Level.OK),
        (Answer(200, {}), 0, (), Level.WARNING),
        (Answer(403, None, "AuthorizationFailed"), 1, (), Level.WARNING),
        (Answer(403, None, "AuthorizationFailed"), 0, (), Level.FAILURE),
        (Answer(None, detail="no route"), 0, (), Level.FAILURE),
        (Answer(200, {}), 0, (f"The services of {SUBSCRIPTION} could not be listed",), Level.FAILURE),
        (Answer(200, {}), 1, ("The services of another one could not be listed",), Level.OK),
    ],
)
def test_a_subscription_is_judged_by_what_was_found_in_it(
    answer: Answer, gateways: int, problems: tuple[str, ...], level: Level
) -> None:
    """Rights on a resource group are enough for its services, so that is a warning only."""
    line = doctor.arm_is_readable(SUBSCRIPTION, answer, gateways, problems)

    assert level is line.level, line


@pytest.mark.parametrize(
    ("filters", "level"),
    [
        ({"includedEventTypes": None}, Level.OK),
        ({"includedEventTypes": [kind.upper() for kind in doctor.HEEDED]}, Level.OK),
        ({"includedEventTypes": list(doctor.HEEDED), "subjectBeginsWith": "one"}, Level.WARNING),
        ({"advancedFilters": [{"operatorType": "StringIn", "key": "subject"}]}, Level.WARNING),
        ({"includedEventTypes": ["Microsoft.KeyVault.SecretNewVersionCreated"]}, Level.WARNING),
    ],
)
def test_an_event_subscription_must_let_every_renewal_through(filters: dict[str, Any], level: Level) -> None:
    """Azure compares types without case; no list means all of them."""
    line = doctor.events_arrive(VAULT, [{"properties": {"filter": filters}}])

    assert level is line.level, line


SITE = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Web/sites/app/functions/on_certificate_event"
ACCOUNT = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/account"
DESTINATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a function": ({"properties": {"resourceId": SITE}}, "app/on_certificate_event"),
    "a queue": ({"properties": {"resourceId": ACCOUNT, "queueName": "events"}}, "account/events"),
    "a webhook": ({"properties": {"endpointBaseUrl": "https://a.example/x"}}, "https://a.example/x"),
    "only a kind": ({"endpointType": "EventHub"}, "EventHub"),
}


@pytest.mark.parametrize(("destination", "named"), DESTINATIONS.values(), ids=DESTINATIONS)
@pytest.mark.parametrize("by_identity", [False, True])
def test_an_event_subscription_is_named_by_where_it_leads(
    destination: dict[str, Any],
    named: str,
    by_identity: bool,
) -> None:
    """Whoever reads it sees whether that is their app."""
    properties = {"deliveryWithResourceIdentity": {"destination": destination}} if by_identity else None
    line = doctor.events_arrive(VAULT, [{"properties": properties or {"destination": destination}}])

    assert Level.OK is line.level
    assert line.cause.endswith(f"leads to {named}.")


@pytest.mark.parametrize(
    ("actions", "refused", "expected"),
    [
        (["*"], [], True),
        (["Microsoft.ApiManagement/service/*"], [], True),
        (["microsoft.apimanagement/SERVICE/refreshhostnames/action"], [], True),
        (["*/read"], [], False),
        (["*"], ["Microsoft.ApiManagement/service/*/action"], False),
        ([], [], False),
    ],
)
def test_rights_are_read_as_azure_reads_them(actions: list[str], refused: list[str], expected: bool) -> None:
    """Wildcards, without case, less what is refused."""
    actual = doctor.allows([{"actions": actions, "notActions": refused}], doctor.SYNC_ACTION)

    assert expected is actual
