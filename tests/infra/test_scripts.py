"""The scripts of the deployment, run against a stand-in for the Azure CLI with a small Azure."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from rotation.api import Role
from tests.infra.sources import INFRA, PROJECT, SCRIPTS, infra_python, text
from tests.test_commands import unknown, uses

STAND_IN = Path(__file__).with_name("az_stand_in.py")
SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
STORAGE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/st"
APP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Web/sites/func"
PUBLIC = {
    "AZURE_FUNCTION_APP_ID": APP,
    "ROTATION_STORAGE_ACCOUNT_ID": STORAGE,
    "ROTATION_DEAD_LETTER_CONTAINER": "dead-letters",
    "ROTATION_SUBSCRIPTION_NAME": "certificate-rotation-x",
    "ROTATION_IDENTITY_PRINCIPAL_ID": "the-app",
}
PRIVATE = {**PUBLIC, "ROTATION_EVENT_QUEUE": "certificate-events"}


def vault_id(name: str) -> str:
    """The ARM id of a vault."""
    return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/{name}"


class Azure:
    """What the stand-in keeps, and the commands that it was given."""

    def __init__(self, folder: Path, **state: object) -> None:
        self.file = folder / "azure.json"
        self.file.write_text(json.dumps({"calls": [], "vaults": [], "topics": [], **state}), encoding="utf-8")
        for name in ("az", "azd"):
            program = folder / name
            program.write_text(
                f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" {name} "$@"\n', encoding="utf-8"
            )
            program.chmod(0o755)
        self._path = f"{folder}{os.pathsep}{os.environ['PATH']}"

    @property
    def state(self) -> dict[str, Any]:
        """What is there now."""
        found: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        return found

    @property
    def changes(self) -> list[str]:
        """The commands that changed something, in short."""
        return [c for c in self.state["calls"] if re.search(r" (create|update|set|provision)\b", c)]

    def run(self, script: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a script of infra/scripts."""
        return subprocess.run(
            [str(SCRIPTS / script), *arguments],
            env={"PATH": self._path, "AZ_STATE": str(self.file), **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def two_vaults(folder: Path) -> Azure:
    """One vault without a topic, and one with a topic that others made."""
    topic = {
        "source": vault_id("KV-two"),
        "name": "theirs",
        "resourceGroup": "other",
        "principal": "theirs",
        "subscriptions": {"somebody-elses": []},
    }
    return Azure(folder, vaults=["kv-one", "kv-two"], topics=[topic])


def test_every_vault_of_a_scope_is_subscribed_once(tmp_path: Path) -> None:
    """Proves topics, rights and subscriptions; an existing topic is used, in whatever case its source is."""
    azure = two_vaults(tmp_path)
    done = azure.run("subscribe-vaults.sh", "--subscription", SUBSCRIPTION, **PUBLIC)
    topics = {t["name"]: t for t in azure.state["topics"]}

    assert 0 == done.returncode, done.stderr
    assert {"rotation-kv-one", "theirs"} == set(topics)
    for name, topic in topics.items():
        made = topic["subscriptions"]["certificate-rotation-x"]
        template = Path(made.pop("template")).resolve()
        assert INFRA / "modules/event-subscription.bicep" == template
        assert set(re.findall(r"^param (\w+)", template.read_text(encoding="utf-8"), re.MULTILINE)) == set(
            made
        )
        assert (name, APP, STORAGE, "dead-letters", "") == tuple(
            made[key]
            for key in ("topicName", "siteId", "storageAccountId", "deadLetterContainer", "queueName")
        )
    assert {"the-app", "theirs", "principal-of-rotation-kv-one"} == {
        g["principal"] for g in azure.state["grants"]
    }


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    """Proves that it can be run every night."""
    azure = two_vaults(tmp_path)
    azure.run("subscribe-vaults.sh", "--subscription", SUBSCRIPTION, **PUBLIC)
    before = azure.changes
    done = azure.run("subscribe-vaults.sh", "--subscription", SUBSCRIPTION, **PUBLIC)

    assert 0 == done.returncode
    assert before == azure.changes
    assert 2 == done.stdout.count("subscribed already")


def test_a_dry_run_changes_nothing_and_says_what_it_would(tmp_path: Path) -> None:
    """Proves that it can be read before it is done."""
    azure = two_vaults(tmp_path)
    done = azure.run("subscribe-vaults.sh", "--subscription", SUBSCRIPTION, "--dry-run", **PUBLIC)

    assert 0 == done.returncode, done.stderr
    assert [] == azure.changes
    assert 1 == done.stdout.count("would run: az eventgrid system-topic create")
    assert 2 == done.stdout.count("would run: az deployment group create")


def test_a_private_app_gets_its_events_through_the_queue(tmp_path: Path) -> None:
    """Proves the destination, and the right to send."""
    azure = Azure(tmp_path, vaults=["kv-one"])
    done = azure.run("subscribe-vaults.sh", "--subscription", SUBSCRIPTION, **PRIVATE)
    (made,) = azure.state["topics"][0]["subscriptions"].values()

    assert 0 == done.returncode, done.stderr
    assert "certificate-events" == made["queueName"]
    assert "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a" in {g["role"] for g in azure.state["grants"]}


def test_a_topic_without_an_identity_fails_alone(tmp_path: Path) -> None:
    """Proves that the other vaults are subscribed all the same, and that the exit code tells."""
    topic = {
        "source": vault_id("kv-one"),
        "name": "bare",
        "resourceGroup": "rg",
        "principal": "",
        "subscriptions": {},
    }
    azure = Azure(tmp_path, vaults=["kv-one", "kv-two"], topics=[topic])
    done = azure.run("subscribe-vaults.sh", "--subscription", SUBSCRIPTION, **PUBLIC)

    assert 1 == done.returncode
    assert "topic bare has no system-assigned identity" in done.stderr
    assert {"bare": [], "rotation-kv-two": ["certificate-rotation-x"]} == {
        t["name"]: list(t["subscriptions"]) for t in azure.state["topics"]
    }


@pytest.mark.parametrize("arguments", [(), ("--resource-group", "rg"), ("--everything",)])
def test_without_a_scope_it_says_how_to_be_called(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Proves that nothing happens by accident."""
    azure = two_vaults(tmp_path)
    done = azure.run("subscribe-vaults.sh", *arguments, **PUBLIC)

    assert 2 == done.returncode
    assert "subscribe-vaults.sh --subscription ID" in done.stderr
    assert [] == azure.state["calls"]


def test_the_second_phase_comes_once(tmp_path: Path) -> None:
    """Proves the hook after a deployment: the flag, then Bicep again; and after that only the hardening."""
    azure = Azure(tmp_path)
    first = azure.run("subscribe.sh", AZURE_FUNCTION_APP_ID=APP, ROTATION_EVENTS_SUBSCRIBED="false")
    calls = azure.state["calls"]
    second = azure.run("subscribe.sh", AZURE_FUNCTION_APP_ID=APP, ROTATION_EVENTS_SUBSCRIBED="true")

    assert (0, 0) == (first.returncode, second.returncode)
    assert ["azd env set DEPLOY_EVENT_SUBSCRIPTIONS true", "azd provision --no-prompt"] == calls[1:]
    assert 1 == len(azure.state["calls"]) - len(calls)


@pytest.mark.parametrize(
    ("environ", "registered", "code"),
    [
        ({}, False, 0),
        ({"ROTATION_MODE": "observe"}, False, 0),
        ({"ROTATION_MODE": "enforce", "SYNC_ROLE": "Wildcard"}, False, 0),
        ({"ROTATION_MODE": "enforce"}, True, 0),
        ({"ROTATION_MODE": "enforce"}, False, 1),
    ],
)
def test_a_role_that_azure_would_refuse_stops_the_deployment_before_it_begins(
    tmp_path: Path, environ: dict[str, str], *, registered: bool, code: int
) -> None:
    """Proves that nobody meets InvalidActionOrNotAction, and that nobody is given more rights unasked."""
    operations = [
        "Microsoft.ApiManagement/service/read",
        "Microsoft.ApiManagement/service/refreshhostnames/action",
    ]
    azure = Azure(tmp_path, operations=operations if registered else operations[:1])
    done = azure.run("check-sync-action.sh", **environ)

    assert code == done.returncode
    assert bool(code) == ("azd env set SYNC_ROLE Wildcard" in done.stderr)


SIGN_IN = {
    "AZURE_ENV_NAME": "prod",
    "AZURE_FUNCTION_APP_URL": "https://func.azurewebsites.net",
    "ROTATION_IDENTITY_PRINCIPAL_ID": "the-app",
}
AUDIENCES = {
    "AzureCloud": "api://AzureADTokenExchange",
    "AzureUSGovernment": "api://AzureADTokenExchangeUSGov",
    "AzureChinaCloud": "api://AzureADTokenExchangeChina",
}


@pytest.mark.parametrize(("cloud", "audience"), AUDIENCES.items())
def test_the_application_to_sign_in_with_is_made_once_and_without_a_secret(
    tmp_path: Path, cloud: str, audience: str
) -> None:
    """Proves the two roles that the code asks for, and that a second run makes nothing."""
    azure = Azure(tmp_path, cloud=cloud)
    first = azure.run("register-sign-in.sh", **SIGN_IN)
    made = azure.state["entra"]
    second = azure.run("register-sign-in.sh", **SIGN_IN)

    assert (0, 0) == (first.returncode, second.returncode), first.stderr
    assert made == azure.state["entra"]
    assert set(Role) == {role["value"] for role in made["app"][0]["roles"]}
    assert "https://func.azurewebsites.net/.auth/login/aad/callback" == made["app"][0]["redirect"]
    assert [
        {
            "name": "function-app",
            "issuer": "https://login.test/the-tenant/v2.0",
            "subject": "the-app",
            "audiences": [audience],
        }
    ] == made["credentials"]
    assert [["the-app"]] == [[one["of"]] for one in made["sp"]]
    assert "azd env set SIGN_IN_CLIENT_ID the-app" in azure.state["calls"]
    assert "ad sp update --id the-sp --set appRoleAssignmentRequired=true" in " ".join(azure.state["calls"])
    assert [] == [call for call in azure.state["calls"] if "credential reset" in call or "password" in call]


def test_the_button_leads_to_the_template_of_its_own_repository(tmp_path: Path) -> None:
    """Proves the page that a release puts beside the compiled template, in whosever copy it is released."""
    compiled = tmp_path / "compiled.json"
    compiled.write_text("{}", encoding="utf-8")
    subprocess.run(
        [SCRIPTS / "template-branch.sh", compiled, tmp_path / "branch"],
        env={"PATH": os.environ["PATH"], "GITHUB_REPOSITORY": "contoso/rotation"},
        check=True,
        timeout=10,
    )
    page = (tmp_path / "branch/README.md").read_text(encoding="utf-8")
    buttons = dict(
        re.findall(r"\(https://(portal\.azure\.\w+)/#create/Microsoft\.Template/uri/([^)]+)\)", page)
    )

    assert {"portal.azure.com", "portal.azure.us", "portal.azure.cn"} == set(buttons)
    assert {"https://raw.githubusercontent.com/contoso/rotation/template/azuredeploy.json"} == {
        unquote(uri) for uri in buttons.values() if "/" not in uri and ":" not in uri
    }
    assert "{}" == (tmp_path / "branch/azuredeploy.json").read_text(encoding="utf-8")
    assert "infra/scripts/template-branch.sh dist/azuredeploy.json template" in text(
        ".github/workflows/release.yml"
    )


@pytest.mark.parametrize("name", ["check-sync-action", "subscribe"])
def test_both_shells_are_told_the_same(name: str) -> None:
    """Proves that the PowerShell script runs the same commands and speaks the same sentences."""
    posix, windows = (text(f"infra/scripts/{name}.{kind}") for kind in ("sh", "ps1"))

    for phrase in (
        "functionsRuntimeAdminIsolationEnabled=true",
        "env set",
        "--no-prompt",
        "provider operation show",
    ):
        assert (phrase in posix) == (phrase in windows), phrase
    said = re.findall(r"^(?:echo|    echo) \"([^\"$]+)\"", posix, re.MULTILINE)
    assert [] == [sentence for sentence in said if sentence not in windows]


SHELL_SCRIPTS = [*sorted(SCRIPTS.glob("*.sh")), PROJECT / ".ci/run"]
POWERSHELL = """
import sys
from tree_sitter import Language, Parser
import tree_sitter_powershell

tree = Parser(Language(tree_sitter_powershell.language())).parse(sys.stdin.buffer.read())
sys.exit(tree.root_node.has_error or tree.root_node.child_count == 0)
"""


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_one_that_its_shell_can_read(path: Path) -> None:
    """Proves the syntax, and that a checkout can run it."""
    shell = "bash" if "bash" in path.read_text().splitlines()[0] else "sh"
    done = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, check=False, timeout=10)

    assert (0, "") == (done.returncode, done.stderr)
    assert os.access(path, os.X_OK)
    assert shutil.which(shell)


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_a_script(path: Path) -> None:
    """Proves that nothing in it is read otherwise than it was meant."""
    shellcheck = Path(infra_python()).with_name("shellcheck")
    done = subprocess.run([shellcheck, path], capture_output=True, text=True, check=False, timeout=30)

    assert (0, "") == (done.returncode, done.stdout)


@pytest.mark.parametrize("path", sorted(SCRIPTS.iterdir()), ids=lambda path: path.name)
def test_az_and_azd_know_every_option_that_a_script_gives(path: Path) -> None:
    """Proves it by what the programs say of themselves, because the stand-in takes any."""
    script = re.sub(r"\\\n *", "", path.read_text(encoding="utf-8"))
    commands = re.sub(r"^ *#.*\n|EOF", "", re.sub(r"\bchange ", "az ", script), flags=re.MULTILINE)
    calls = list(uses(commands))

    assert calls
    assert [] == [(p, words, wrong) for p, words, options in calls if (wrong := unknown(p, words, options))]


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.ps1")), ids=lambda path: path.name)
def test_a_powershell_script_can_be_read(path: Path) -> None:
    """Proves the syntax by a grammar; where PowerShell itself is, the GitHub workflow asks its own parser."""
    done = subprocess.run(
        [infra_python(), "-c", POWERSHELL], input=path.read_bytes(), check=False, timeout=30
    )

    assert 0 == done.returncode


def test_the_scripts_use_outputs_of_the_template() -> None:
    """Proves that what azd leaves in the environment is what the scripts read."""
    outputs = set(
        re.findall(r"^output (\w+)", (INFRA / "main.bicep").read_text(encoding="utf-8"), re.MULTILINE)
    )

    assert set(PRIVATE) <= outputs
    for script in ("subscribe.sh", "subscribe-vaults.sh"):
        read = set(re.findall(r"\$\{?((?:AZURE|ROTATION)_\w+)", text(f"infra/scripts/{script}")))
        assert read <= outputs, script
