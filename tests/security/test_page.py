"""docs/security.md claims nothing that no test holds: names, permissions, hosts, requirements."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rotation.cli.screen import Screen
from rotation.gateways import application_gateway, entities, self_hosted, workspace_gateway
from rotation.settings import CLOUDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ")
]
CALLS = [row for row in ROWS if len(row) == 3 and re.fullmatch(r"`[A-Z]\w+(\.\w+)?`", row[0])]
AS_A_WHOLE = {"ResourceGraph", "TableLedger"}
"""Clients of which every call needs the same."""


def bicep(name: str) -> str:
    """A module of the template."""
    return (ROOT / "infra/modules" / name).read_text(encoding="utf-8")


def all_tests() -> set[str]:
    """The names of all tests."""
    return {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def calls_there_are() -> Iterator[str]:
    """Every way in which the app asks Azure for something: the public coroutines of its clients."""
    for module in (
        "arm",
        "arm_entities",
        "arm_workspace_gateways",
        "network",
        "key_vault",
        "app_insights",
        "notices",
    ):
        tree = ast.parse((ROOT / f"rotation/clients/{module}.py").read_text(encoding="utf-8"))
        for found in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            for node in found.body:
                if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_"):
                    yield f"{found.name}.{node.name}"


def test_every_test_that_the_page_names_is_one() -> None:
    """A control without its test would be a claim."""
    named = set(re.findall(r"`(test_\w+)`", PAGE))

    assert len(named) > 60
    assert set() == named - all_tests()


def test_every_requirement_and_every_threat_has_a_test() -> None:
    """S1 to S20, and each row of STRIDE."""
    requirements = [row for row in ROWS if re.fullmatch(r"S\d+", row[0])]
    threats = [row for row in ROWS if row[0] in {*"STRIDE"} and len(row) == 4]

    assert [f"S{n}" for n in range(1, 21)] == [row[0] for row in requirements]
    assert {*"STRIDE"} == {row[0] for row in threats}
    assert [] == [row for row in (*requirements, *threats) if "`test_" not in row[-1]]


def test_the_calls_of_the_table_are_those_of_the_code() -> None:
    """A new call needs a row, and with it the thought which right it takes."""
    expected = {*calls_there_are(), *AS_A_WHOLE} - {"Arm.ask", "Arm.close", "Network.close"}
    actual = {row[0].strip("`") for row in CALLS}

    assert {name for name in expected if not name.endswith(".close")} == actual


def test_the_permissions_of_the_table_are_those_of_the_template() -> None:
    """What changes something is given by one role, with `enforce` alone; everything else is reading."""
    given = {
        (action, how) for row in CALLS for action in re.findall(r"`([\w./]+)`", row[1]) for how in [row[2]]
    }
    exact = bicep("gateway-rights.bicep").partition("Exact: [")[2].partition("]")[0]
    by_role = {action for action in re.findall(r"'([^']+)'", exact) if not action.endswith("/read")}
    by_kind = {
        self_hosted.KIND.action,
        workspace_gateway.KIND.action,
        application_gateway.KIND.action,
        application_gateway.HEALTH_ACTION,
        *(
            action
            for kind in (entities.CERTIFICATES, entities.NAMED_VALUES)
            for action in (kind.action, entities.in_workspaces(kind).action)
        ),
    }
    (data,) = re.findall(r"dataActions: \[\s*'([^']+)'\s*\]", bicep("vault-rights.bicep"))

    assert by_role == {action for action, how in given if how == "`enforce`"}
    assert by_kind == {action for action, how in given if how == "`enforce`, with the kind"}
    assert {data} == {row[1].split("`")[1] for row in CALLS if row[1].endswith("(data)")}
    assert all(action.endswith("/read") for action, how in given if how == "always")


def test_the_hosts_of_the_page_are_those_of_the_cloud() -> None:
    """Where data and tokens go, and nowhere else."""
    cloud = CLOUDS["AzureCloud"]
    leaving = PAGE.partition("## What leaves")[2].partition("##")[0]
    hosts = set(re.findall(r"`(\*?[\w.]+\.(?:com|net))`", leaving))

    assert {
        cloud.arm_url.removeprefix("https://"),
        cloud.authority.removeprefix("https://"),
        *(f"*.{suffix}" for suffix in (cloud.vault_suffix, cloud.storage_suffix, cloud.topic_suffix)),
    } == hosts


def test_readme_and_contributing_lead_here() -> None:
    """Whoever looks for it finds it."""
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "SECURITY.md" in text, name
        assert "docs/security.md" in text, name


def test_the_record_is_not_sampled() -> None:
    """The host's log in Application Insights is the record of what was refused."""
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    sampling = host["logging"]["applicationInsights"]["samplingSettings"]

    assert {"Request", "Exception", "Trace"} == set(sampling["excludedTypes"].split(";"))


def test_every_answer_of_the_host_is_kept_nowhere_and_taken_for_what_it_says() -> None:
    """JSON too, which the app sends without headers of its own."""
    http = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["extensions"]["http"]

    assert {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} == http["customHeaders"]
    assert http["hsts"]["isEnabled"]


def test_a_field_of_others_stays_in_its_column(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe gets one line for each row, and a tab only between fields."""
    Screen("report", as_json=False).table(["a", "b"], [["x\ty\r\n=cmd|' /C calc'!A0", "z\x1b[2J"]])

    assert "x y  =cmd|' /C calc'!A0\tz [2J\n" == capsys.readouterr().out
