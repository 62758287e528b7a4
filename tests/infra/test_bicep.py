"""The Bicep files against Azure's types, against policies, and against the code that they deploy."""

import json
import re
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rotation import settings
from rotation.api import Role
from rotation.gateways import application_gateway, entities, self_hosted, workspace_gateway
from rotation.model import GatewayKind
from sandbox.stage import Stage
from sandbox.world import Hostname, World
from tests.infra.sources import (
    INFRA,
    MODULES,
    PROJECT,
    SCRIPTS,
    bicep,
    event_types,
    infra_python,
    strings,
    text,
    tool,
)

APP = (MODULES / "app.bicep").read_text(encoding="utf-8")
MAIN = (INFRA / "main.bicep").read_text(encoding="utf-8")
GATEWAY_RIGHTS = (MODULES / "gateway-rights.bicep").read_text(encoding="utf-8")
VAULT_RIGHTS = (MODULES / "vault-rights.bicep").read_text(encoding="utf-8")
SUBSCRIPTION = (MODULES / "event-subscription.bicep").read_text(encoding="utf-8")

ROLES = {
    "acdd72a7-3385-48ef-bd42-f606fba81ae7": "Reader",
    "312a565d-c81f-4fd8-895a-4e21e48d571c": "API Management Service Contributor",
    "21090545-7ca7-4776-b22c-e363652d74d2": "Key Vault Reader",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a": "Storage Queue Data Message Sender",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "73c42c96-874c-492b-b04d-ab87d138a893": "Log Analytics Reader",
}
GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def variables(name: str) -> dict[str, str]:
    """The names and values of an object variable of app.bicep."""
    found = re.search(rf"^var {name} = \{{\n(.*?)^\}}$", APP, re.MULTILINE | re.DOTALL)
    assert found, name
    return dict(re.findall(r"^  (\w+): (.+)$", found[1], re.MULTILINE))


def test_the_official_types_know_every_property() -> None:
    """Proves with Azure's published types that types, properties, enumerations and modules are right."""
    types = tool("bicep-types.json")
    done = subprocess.run(
        [infra_python(), str(tool("bicep_check.py")), str(types), str(INFRA)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert f"{len(bicep())} files, 0 errors, 0 warnings\n" == done.stdout, done.stderr


def test_checkov_finds_nothing_and_skips_nothing_in_silence() -> None:
    """Proves that every file is parsed, because checkov passes over one that it cannot parse."""
    checkov = Path(infra_python()).with_name("checkov")
    done = subprocess.run(
        [str(checkov), "--config-file", ".checkov.yaml", "--output", "json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    found = json.loads(done.stdout)
    skipped = {(c["check_id"], Path(c["file_path"]).name) for c in found["results"]["skipped_checks"]}
    reasons = {
        (check, name): reason
        for name, source in bicep().items()
        for check, reason in re.findall(r"// checkov:skip=(\w+):(.*)", source)
    }

    assert (0, [], []) == (
        found["summary"]["parsing_errors"],
        found["results"]["failed_checks"],
        found["results"]["parsing_errors"],
    )
    assert found["summary"]["passed"] > 20
    assert set(reasons) == skipped
    assert all(len(reason) > 20 for reason in reasons.values())


def test_every_setting_of_the_app_is_in_reach_and_no_other() -> None:
    """Proves both ways that settings.py and app.bicep know the same variables."""
    known = set(re.findall(r'take\(\s*"([A-Z_]+)"', text("rotation/settings.py")))
    defaults, decided = variables("defaultSettings"), variables("decidedSettings")

    assert {f"ROTATION_{name}" for name in known} == {*defaults, *decided}
    assert set() == set(defaults) & set(decided)
    assert {"''"} == set(defaults.values())
    assert "union(defaultSettings, settings, reachSettings, decidedSettings, platformSettings)" in APP
    assert "var reachSettings = joined ? { ROTATION_PRIVATE_NETWORKS: 'all' } : {}" in APP


def test_what_the_template_sets_is_accepted_by_the_app() -> None:
    """Proves with settings.py that what stands in Azure would start, in each cloud."""
    for cloud, found in settings.CLOUDS.items():
        environ = {
            **dict.fromkeys(variables("defaultSettings"), ""),
            "ROTATION_MODE": "observe",
            "ROTATION_SUBSCRIPTIONS": "11111111-2222-3333-4444-555555555555",
            "ROTATION_VAULTS": "kv-a,kv-b",
            "ROTATION_CLOUD": cloud,
            "ROTATION_LEDGER": f"https://st0123456789abc.table.{found.storage_suffix}/rotation",
            "ROTATION_EVENT_QUEUE": "certificate-events",
            "ROTATION_SIGN_IN": "on",
            "ROTATION_SHARD_QUEUE": "rotation-shards",
        }

        assert {*variables("defaultSettings"), *variables("decidedSettings")} == set(environ)
        assert isinstance(settings.load({**environ, "WEBSITE_AUTH_ENABLED": "True"}), settings.Settings)
        assert isinstance(settings.load({**environ, "ROTATION_SIGN_IN": "off"}), settings.Settings)
    assert "ROTATION_CLOUD: environment().name" in APP


def test_the_settings_that_others_read_are_documented() -> None:
    """Proves that a reader of docs/settings.md can explain every one in the portal."""
    documented = text("docs/settings.md")
    names = {name.partition("__")[0] for name in variables("platformSettings")} - {
        "AzureWebJobsDisableHomepage"
    }

    assert {"AZURE_CLIENT_ID", "AzureWebJobsStorage"} <= names
    assert [] == sorted(name for name in names if f"`{name}" not in documented)
    assert "AuthenticationString" not in APP
    assert "AccountKey" not in APP


def test_no_variable_that_flex_consumption_refuses_is_set() -> None:
    """Proves against the list of settings that this plan has no use for, some of which fail a deployment."""
    refused = (
        *("FUNCTIONS_EXTENSION_VERSION", "FUNCTIONS_WORKER_RUNTIME", "ENABLE_ORYX_BUILD"),
        *("SCM_DO_BUILD_DURING_DEPLOYMENT", "WEBSITE_RUN_FROM_PACKAGE", "WEBSITE_TIME_ZONE"),
        *(
            "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING",
            "WEBSITE_CONTENTSHARE",
            "FUNCTIONS_WORKER_PROCESS_COUNT",
        ),
    )

    assert [] == [name for name in refused if name in APP]


def test_names_in_the_template_are_names_in_the_code() -> None:
    """Proves that function, table, queue and connection meet."""
    functions = re.findall(r'app\.function_name\("(\w+)"\)', text("function_app.py"))
    named = dict(re.findall(r"^var (\w*[qQ]ueueName) = '([^']+)'", MAIN, re.MULTILINE))
    queue, shards = named["queueName"], named["shardQueueName"]
    environ = {
        "ROTATION_SUBSCRIPTIONS": "11111111-2222-3333-4444-555555555555",
        "ROTATION_EVENT_QUEUE": queue,
        "ROTATION_SHARD_QUEUE": shards,
    }
    found = settings.load(environ)

    assert isinstance(found, settings.Settings)
    assert (queue, shards) == (found.event_queue, found.shard_queue)
    assert f"var tableName = '{settings.DEFAULT_TABLE}'" in MAIN
    (name,) = re.findall(r"/functions/(\w+)", SUBSCRIPTION)
    assert name in functions
    assert 'connection="AzureWebJobsStorage"' in text("function_app.py")


def test_the_event_types_are_key_vaults() -> None:
    """Proves against Microsoft's package that no announcement of a certificate is missed or misspelt."""
    assert event_types() == set(strings(SUBSCRIPTION, "eventTypes"))


def test_events_are_repeated_for_a_day_and_then_kept() -> None:
    """Proves 30 attempts in 24 hours and dead letters by identity, for both ways in."""
    assert 2 == SUBSCRIPTION.count("maxDeliveryAttempts: 30")
    assert 2 == SUBSCRIPTION.count("eventTimeToLiveInMinutes: 1440")
    assert 2 == SUBSCRIPTION.count("deadLetterWithResourceIdentity: deadLetters")
    assert 2 == SUBSCRIPTION.count("eventDeliverySchema: 'EventGridSchema'")


def test_only_roles_that_read_no_secret_are_given() -> None:
    """Proves by the ids in every file that nobody gets a role beside these, and none that reads secrets."""
    sources = {**bicep(), **{path.name: path.read_text(encoding="utf-8") for path in SCRIPTS.iterdir()}}
    named = {guid for source in sources.values() for guid in re.findall(GUID, source)}
    words = ("secrets/", "getSecret", "keys/read", "vaults/*", "listKeys", "Certificate User", "Secrets User")

    assert set(ROLES) == named
    assert [] == [(name, word) for name, source in sources.items() for word in words if word in source]
    assert ["Microsoft.KeyVault/vaults/certificates/read"] == strings(VAULT_RIGHTS, "dataActions")
    assert 1 == sum(source.count("dataActions:") for source in sources.values())


def test_the_roles_on_vaults_read_no_secret_by_azures_own_definitions() -> None:
    """Proves it for Key Vault Reader, and that the test would see the roles that do."""
    path = PROJECT.parent / "shared/contracts/roles/built-in-roles.subset.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    readers = {
        role["name"]
        for role in json.loads(path.read_text())
        for permission in role["permissions"]
        if "Microsoft.KeyVault/vaults/secrets/getSecret/action" in permission["dataActions"]
    }

    assert len(readers) == 2
    assert set() == readers & set(ROLES)


def arm_action(method: str, path: str) -> str:
    """The action that Azure asks for, from the method and the types in the path."""
    provider, *rest = path.rpartition("/providers/")[2].strip("/").split("/")
    if provider.lower() == "microsoft.resourcegraph":
        return "Microsoft.ResourceGraph/resources/read"
    types = "/".join([provider, *rest[::2]])
    if method == "GET":
        return f"{types}/read"
    return (
        f"{'/'.join([provider, *rest[:-1][::2]])}/{rest[-1]}/action" if method == "POST" else f"{types}/write"
    )


def covers(pattern: str, action: str) -> bool:
    """Whether an action of a role definition is or includes this one, as Azure compares them."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), action, re.IGNORECASE) is not None


@pytest.fixture(scope="module")
def asked() -> set[tuple[str, str, str]]:
    """What the app asks of Azure by event, timer and hand, in a rotation that fails at first."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    hostname = Hostname("api.contoso.com", certificate=certificate)
    service = world.add_service("apim-contoso", hostnames=(hostname,))
    service.identity_can_read_vault = False
    with Stage(world) as stage:
        certificate.renew()
        stage.settle()
        world.clock.advance(timedelta(hours=1))
        stage.tick()
        stage.resync(all=True, force=True)
        return {(str(r.server), r.method, r.path) for r in world.requests}


def test_the_roles_hold_what_the_app_asks_for_and_the_custom_one_nothing_more(asked: Any) -> None:
    """Proves it with the requests of the real app, in each form of the role that may sync."""
    actions = {arm_action(method, path) for server, method, path in asked if server == "arm"}
    syncing = {action for action in actions if action.endswith("/action")}
    for form in ("Exact", "Wildcard"):
        allowed, denied = (
            strings(GATEWAY_RIGHTS.split(f"var {name} = ")[1], form) for name in ("actions", "notActions")
        )
        for action in actions:
            assert any(covers(pattern, action) for pattern in [*allowed, "*/read"]), action
            assert not any(covers(pattern, action) for pattern in denied), action

    exact = strings(GATEWAY_RIGHTS.split("var actions = ")[1], "Exact")
    assert {"Microsoft.ApiManagement/service/refreshHostnames/action"} == syncing
    assert syncing == {action for action in exact if not action.endswith("/read")}


@pytest.mark.parametrize(
    "action",
    [
        "service/backup/action",
        "service/restore/action",
        "service/updatehostname/action",
        "service/getssotoken/action",
        "service/managedeployments/action",
        "service/gateways/listKeys/action",
        "service/namedValues/listValue/action",
        "service/subscriptions/listSecrets/action",
        "service/users/token/action",
        "service/tenant/listSecrets/action",
        "service/certificates/refreshSecret/action",
    ],
)
def test_the_wildcard_does_not_hold_what_could_do_harm(action: str) -> None:
    """Proves that the fallback is wide in name only."""
    denied = strings(GATEWAY_RIGHTS.split("var notActions = ")[1], "Wildcard")

    assert any(covers(pattern, f"Microsoft.ApiManagement/{action}") for pattern in denied)


def test_the_vault_is_asked_for_certificates_alone(asked: Any) -> None:
    """Proves that the one data action is enough."""
    assert {("GET", "certificates")} == {
        (method, path.split("/")[1].removeprefix("deleted"))
        for server, method, path in asked
        if server == "vault"
    }


def test_to_observe_takes_one_role_less() -> None:
    """Proves that the app cannot act before somebody has said so."""
    assignments = re.findall(
        r"^resource (\w+) 'Microsoft\.Authorization/roleA.*?= (if \(mayAct\) )?\{",
        GATEWAY_RIGHTS,
        re.MULTILINE,
    )

    assert [("mayRead", ""), ("maySync", "if (mayAct) ")] == assignments
    assert "= if (mayAct && isCustom) {" in GATEWAY_RIGHTS
    assert "mayAct: enforced" in MAIN
    assert "var enforced = mode == 'enforce'" in MAIN
    assert "param mode string = 'observe'" in MAIN


HARDENING = (
    *("httpsOnly: true", "ftpsState: 'Disabled'", "minTlsVersion: '1.2'", "scmMinTlsVersion: '1.2'"),
    *("remoteDebuggingEnabled: false", "allowedOrigins: []"),
    *(
        "ipSecurityRestrictionsDefaultAction: 'Deny'",
        "ipAddress: 'AzureEventGrid'",
        "AzureWebJobsDisableHomepage: 'true'",
    ),
)


def test_the_app_is_hardened() -> None:
    """Proves the settings that docs/deploy.md promises, with basic authentication off for both doors."""
    assert [] == [line for line in HARDENING if line not in APP]
    assert 2 == APP.count("allow: false")
    assert "functionsRuntimeAdminIsolationEnabled=true" in text("infra/scripts/subscribe.sh")
    assert "functionsRuntimeAdminIsolationEnabled=true" in text("infra/scripts/subscribe.ps1")


def test_who_signs_in_and_who_need_not() -> None:
    """Proves the roles, that health and Event Grid get through, and that no secret is kept for it."""
    paths, code = strings(APP, "excludedPaths"), text("function_app.py")
    routes = re.findall(r'route="(\w+)", methods=\["GET"\], auth_level=func.AuthLevel.ANONYMOUS', code)
    roles = json.loads(text("infra/app-roles.json"))

    assert ["/runtime/webhooks/eventgrid", "/api/health"] == paths
    assert {"health"} == {path.removeprefix("/api/") for path in paths[1:]} == set(routes)
    assert [f"`{path}`" for path in paths if f"'{path}'" not in text("docs/http-api.md")] == []
    assert [*Role] == [role["value"] for role in roles]
    assert all({"User", "Application"} == set(role["allowedMemberTypes"]) for role in roles)
    assert 2 == len({role["id"] for role in roles})
    assert "ROTATION_SIGN_IN: signIn ? 'on' : 'off'" in APP
    assert 3 == len(re.findall(r"(?:enabled|requireAuthentication): signIn$", APP, re.MULTILINE))
    (setting,) = re.findall(r"clientSecretSettingName: '(\w+)'", APP)
    assert "clientId" == variables("platformSettings")[setting]


def test_no_key_opens_anything() -> None:
    """Proves that storage and Application Insights know identities only."""
    assert "allowSharedKeyAccess: false" in bicep()["storage-account.bicep"]
    assert "DisableLocalAuth: true" in bicep()["monitoring.bicep"]
    assert [] == [
        name for name, source in bicep().items() if re.search(r"list(Keys|AccountSas|Secrets)\(", source)
    ]


def test_the_python_that_is_deployed_is_one_that_is_tested() -> None:
    """Proves that the template, the project and CI agree."""
    (version,) = re.findall(r"name: 'python'\n +version: '([\d.]+)'", APP)

    assert f"'{version}'" in text(".github/workflows/ci.yml")
    assert version in text("README.md")


def test_one_role_definition_is_written_once_at_a_time() -> None:
    """Proves that vaults of one resource group, which share a custom role, are given it in turn."""
    assert "guid(resourceGroup().id, 'apim-cert-rotation', 'certificates')" in VAULT_RIGHTS
    assert "@batchSize(1)\nmodule vaultRights " in MAIN
    assert "[for group in union(gatewayResourceGroups, gatewayResourceGroups): {" in MAIN


def test_the_language_stays_within_what_the_checks_can_read() -> None:
    """Proves that no file uses what checkov's grammar does not know, in which case it would be skipped."""
    for name, source in bicep().items():
        assert not re.search(
            r"=>|cidrSubnet\(|^param \w+ \w+(\[\]|\?)|^type |^func |\.\.\.\w", source, re.MULTILINE
        ), name


def test_every_kind_of_gateway_gets_the_rights_that_it_needs() -> None:
    """Proves that turning a kind on in the settings is enough, and that no right is given for nothing."""
    lists = dict(re.findall(r"contains\(kinds, '(\w+)'\) \? \[\n([^\]]+)\]", MAIN))
    given = {kind: re.findall(r"'([^']+)'", actions) for kind, actions in lists.items()}
    needed = {
        "selfhostedgateway": [self_hosted.KIND.action],
        **{
            kind.name.lower(): [kind.action, entities.in_workspaces(kind).action]
            for kind in (entities.CERTIFICATES, entities.NAMED_VALUES)
        },
        "workspacegateway": [workspace_gateway.KIND.action],
        "applicationgateway": [application_gateway.KIND.action, application_gateway.HEALTH_ACTION],
    }

    assert needed == given
    assert {kind.lower() for kind in GatewayKind} == {"apimanagement", *given}
