"""The questions that alerts and the workbook ask: they parse, they bind, and they know the telemetry."""

import json
import os
import re
import shutil
import subprocess
from functools import cache

import pytest

from rotation.model import Reason, Status, SyncOutcome, Trigger
from tests.infra.sources import INFRA, MODULES, PROJECT, RUNBOOKS, loaded_queries, objects, queries, tool

ALERTS = (MODULES / "alerts.bicep").read_text(encoding="utf-8")
TOPIC_ALERTS = (MODULES / "topic-alerts.bicep").read_text(encoding="utf-8")
RULES = {
    re.findall(r"^    name: '([^']+)'", rule, re.MULTILINE)[0]: rule for rule in objects(ALERTS, "rules")
}
WINDOWS = {"PT15M": 15, "PT1H": 60, "PT6H": 360, "P1D": 1440, "P2D": 2880}
SCHEMA = json.loads((PROJECT / "docs/telemetry.schema.json").read_text(encoding="utf-8"))
PUBLISHED: dict[str, dict[str, set[str]]] = {
    event["title"]: {
        part: set(event["properties"][part]["properties"]) for part in ("properties", "measurements")
    }
    for event in SCHEMA["oneOf"]
}
KUSTO = os.environ.get("KUSTO", str(PROJECT / ".kusto/node_modules"))


@cache
def columns() -> dict[str, dict[str, str]]:
    """The result columns of every query with their types, by Microsoft's parser; fails on any diagnostic."""
    node, script = shutil.which("node"), tool("kql_check.js")
    if node is None:
        pytest.skip("node is not there")
    if not os.path.isdir(f"{KUSTO}/@kusto"):  # noqa: PTH112 - the one place that asks
        pytest.skip(
            "Microsoft's parser is not there:"
            " npm install --prefix .kusto --ignore-scripts @kusto/language-service-next@12.4.1"
        )
    files = {name: str(INFRA / "queries" / name) for name in queries()}
    done = subprocess.run(
        [node, str(script), *files.values()],
        env={**os.environ, "NODE_PATH": KUSTO},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    found = dict(re.findall(r"^(\S+) ok -> (.*)$", done.stdout, re.MULTILINE))
    return {name: dict(c.split(":") for c in found[path].split(", ")) for name, path in files.items()}


def test_every_query_parses_and_binds() -> None:
    """Proves it with Microsoft's own parser and the tables of Log Analytics."""
    assert set(queries()) == set(columns())


def parts(query: str) -> list[tuple[str, str]]:
    """The name of the event and the text of every part of a query that reads events."""
    return [
        (re.findall(r'Name == "(\w+)"', part)[0], part)
        for part in query.split("AppEvents")[1:]
        if "Name ==" in part
    ]


@pytest.mark.parametrize("name", sorted(set(loaded_queries())))
def test_a_query_asks_for_what_is_published(name: str) -> None:
    """Proves that no field is misspelt: to Kusto it would only be empty."""
    for event, part in parts(queries()[name]):
        assert set(re.findall(r"Properties\.(\w+)", part)) <= PUBLISHED[event]["properties"], event
        assert set(re.findall(r"Measurements\.(\w+)", part)) <= PUBLISHED[event]["measurements"], event


@pytest.mark.parametrize("name", sorted(set(loaded_queries())))
def test_a_query_counts_nothing_twice(name: str) -> None:
    """Proves that an event that may be written again is reduced to its newest before it is counted."""
    for event, part in parts(queries()[name]):
        if "event_id" in PUBLISHED[event]["properties"]:
            assert re.search(r"summarize arg_max\(TimeGenerated,[^)]*\) by (event_id|gateway_id)", part), (
                event
            )


def test_the_words_in_queries_are_words_of_the_app() -> None:
    """Proves that a status, reason, outcome or trigger in a query exists."""
    words = {*Status, *Reason, *SyncOutcome, *Trigger, "everything", "true", "attempts exhausted"}
    used = {
        word
        for query in queries().values()
        for word in re.findall(r'"([^"]+)"', re.sub(r'Name == "\w+"', "", query))
    }

    assert used
    assert used <= words


def test_every_query_is_used() -> None:
    """Proves that alerts and workbook read these files and no others."""
    assert set(queries()) == set(loaded_queries())


def test_every_alert_has_a_query_of_its_name() -> None:
    """Proves the one-to-one, and that the workbook shows what alerts say."""
    assert {f"alerts/{name}.kql" for name in RULES} == {n for n in queries() if n.startswith("alerts/")}
    for name, rule in RULES.items():
        assert f"loadTextContent('../queries/alerts/{name}.kql')" in rule


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """Proves that whoever is called at night knows what to do."""
    metrics = re.findall(r"^    name: '([^']+)'", TOPIC_ALERTS, re.MULTILINE)
    assert ["events-dead-lettered", "events-dropped", "deliveries-failing"] == metrics
    assert {*RULES, *metrics, "messages-stuck"} == {path.stem for path in RUNBOOKS.glob("*.md")}
    assert "'${runbooks}/messages-stuck.md'" in ALERTS


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_a_runbook_says_what_it_means_what_to_check_and_what_to_do(path: object) -> None:
    """Proves the form, so that a reader in a hurry finds it."""
    page = RUNBOOKS.joinpath(str(path)).read_text(encoding="utf-8")

    assert ["## What it means", "## Check, in this order", "## Do", "## It is over when"] == re.findall(
        r"^## .*$", page, re.MULTILINE
    )


@pytest.mark.parametrize("name", sorted(RULES))
def test_the_dimensions_of_an_alert_are_columns_of_its_query(name: str) -> None:
    """Proves that Azure can make one alert per binding and cause."""
    listed = re.search(r"dimensions: \[(.*?)\]", RULES[name], re.DOTALL)
    assert listed
    variables = listed[1].split()
    names = {v: re.findall(rf"^var {v} = \{{\n  name: '(\w+)'", ALERTS, re.MULTILINE)[0] for v in variables}
    found = columns()[f"alerts/{name}.kql"]

    assert ["string"] * len(names) == [found.get(column, "missing") for column in names.values()]
    assert ("gateway" in found) == ("gateway" in names.values())
    assert ("hostname" in found) == ("hostname" in names.values())


def test_the_page_of_alerts_says_what_the_rules_say() -> None:
    """Proves severity, frequency and dimensions in docs/alerts.md, so that nobody is surprised at night."""
    page = (PROJECT / "docs/alerts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[([\w-]+)\]\([^)]+\) \| (\d) \| ([\w ]+?) \|(.*?)\|", page, re.MULTILINE)
    shown = {
        name: (severity, every, per.count(",") + bool(per.strip())) for name, severity, every, per in rows
    }
    every = {"PT15M": "15 min", "PT1H": "1 h"}
    for name, rule in RULES.items():
        severity, frequency = re.findall(r"severity: (\d)\n +frequency: '(\w+)'", rule)[0]
        listed = re.search(r"dimensions: \[(.*?)\]", rule, re.DOTALL)
        assert listed
        assert (severity, every[frequency], len(listed[1].split())) == shown[name], name

    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(shown)


def test_the_costs_count_the_alerts_that_there_are() -> None:
    """Proves the numbers of rules in docs/deploy.md, which are billed one by one."""
    page = (PROJECT / "docs/deploy.md").read_text(encoding="utf-8")

    assert f"{len(RULES)} log alerts, {len(objects(TOPIC_ALERTS, 'rules'))} metric alerts a vault" in page


SECTIONS = {
    "Fleet now": {"status-now", "fleet-now"},
    "What needs somebody": {"drift", "blocked", "cached-certificate", "unobserved", "rotation-failed"},
    "Rotations": {"time-to-served", "caught-by", "rotations", "syncs", "changes"},
    "Expiry calendar, 90 days": {"expiry-calendar"},
    "Health of events and runs": {"runs", "availability"},
}


def test_the_workbook_has_its_sections() -> None:
    """Proves the items, as the portal wants them: texts and queries, each with a name of its own."""
    source = (MODULES / "workbook.bicep").read_text(encoding="utf-8")
    sections: dict[str, set[str]] = {}
    names = []
    for item in objects(source, "items"):
        fields = dict(re.findall(r"^ +(\w+): '?(.*?)'?$", item, re.MULTILINE))
        names.append(fields["name"])
        if fields["type"] == "1":
            heading = fields["json"].removeprefix("## ")
            sections[heading] = set()
        else:
            assert ("3", "KqlItem/1.0", "0") == (fields["type"], fields["version"], fields["queryType"])
            assert fields["resourceType"] == "microsoft.operationalinsights/workspaces"
            assert fields["visualization"] in {"table", "piechart", "barchart", "timechart"}
            assert int(fields["durationMs"]) >= 3_600_000
            assert f"/{fields['name']}.kql')" in fields["query"]
            sections[heading].add(fields["name"])

    assert SECTIONS == sections
    assert len(set(names)) == len(names)


def test_alerts_are_stateful_and_ask_often_enough() -> None:
    """Proves settings that Azure accepts: windows of its list, longer than the time between questions."""
    for source in (ALERTS, TOPIC_ALERTS):
        made = re.findall(r"'Microsoft\.Insights/(?:scheduledQueryRules|metricAlerts)@", source)
        assert (
            len(made)
            == source.count("autoMitigate: true")
            == source.count("enabled: true") - source.count("'Microsoft.Insights/actionGroups@")
        )
        assert "muteActionsDuration" not in source
    for name, rule in RULES.items():
        frequency, window = (re.findall(rf"{key}: '(\w+)'", rule)[0] for key in ("frequency", "window"))
        assert WINDOWS[frequency] < WINDOWS[window], name
        assert 0 <= int(re.findall(r"severity: (\d)", rule)[0]) <= 3


@pytest.mark.parametrize("name", sorted(n for n, rule in RULES.items() if "replace(" in rule))
def test_a_number_that_is_exchanged_stands_in_the_query(name: str) -> None:
    """Proves that a parameter reaches its query, and that the query alone has the parameter's default."""
    main = (INFRA / "main.bicep").read_text(encoding="utf-8")
    pairs = re.findall(r"'(let \w+ = )([\d.]+)(;)', '\1\$\{(\w+)\}(?:\.0)?;'", RULES[name])

    assert RULES[name].count("replace(") == len(pairs)
    for let, number, end, parameter in pairs:
        default = re.findall(rf"^param {parameter} int = (\d+)$", main, re.MULTILINE)[0]
        assert f"{let}{number}{end}\n" in queries()[f"alerts/{name}.kql"]
        assert float(default) == float(number)


def test_the_two_severities_of_an_expiry_are_disjoint() -> None:
    """Proves that one certificate makes one alert: the critical range ends where the other begins."""
    critical, soon = queries()["alerts/expires-critical.kql"], queries()["alerts/expires-soon.kql"]
    numbers = [dict(re.findall(r"let (\w+) = ([-\d.]+);", query)) for query in (critical, soon)]

    assert numbers[0]["to_days"] == numbers[1]["from_days"]
    assert critical.split(";\n")[-1] == soon.split(";\n")[-1]
    assert "days_to_expiry >= from_days and days_to_expiry < to_days" in soon
