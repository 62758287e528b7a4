"""What the documents claim is so: output, tables, names and numbers are compared with the code."""

import inspect
import json
import re
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rotation import model, plan, registration, settings, verdict

PROJECT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path for path in (*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")) if ".venv" not in path.parts
)

VARIES = (
    (r"\b[0-9a-f]{32}\b", "VERSION"),
    (r"\b[0-9A-F]{10}…", "THUMBPRINT…"),
    (r"\b20\d\d-\d\d-\d\d\b", "DATE"),
    (r"\b\d\d:\d\d(:\d\d)?\b", "TIME"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"\(\d+ s\)", "(N s)"),
    (r"\b[1-6] of 7\b", "SOME of 7"),
    (r"\b(\d) of \1 connections", "ALL connections"),  # in its slot of the hour, or sampled
    (r"\s+", " "),
)


def text(name: str) -> str:
    """A document of the project."""
    return (PROJECT / name).read_text(encoding="utf-8")


def steady(story: str) -> str:
    """A story without what differs from one telling to the next."""
    for pattern, replacement in VARIES:
        story = re.sub(pattern, replacement, story)
    return story.strip()


def first_column(document: str, heading: str) -> list[str]:
    """The code names in the first column of the first table below a heading."""
    below = document.split(heading, 1)[1]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table, heading
    cells = (row.split("|")[1] for row in table[0].splitlines()[2:])
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_the_output_of_the_demo_in_the_readme_is_what_the_demo_prints() -> None:
    """`make demo` as shown; times, thumbprints, versions and ports differ."""
    demo = subprocess.run(
        [sys.executable, "-m", "sandbox.demo"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    shown = re.search(r"```text\n(.*?)```", text("README.md"), re.DOTALL)

    assert (0, "") == (demo.returncode, demo.stderr)
    assert shown
    assert steady(shown[1]) == steady(demo.stdout)


def test_a_demo_that_would_say_something_untrue_ends_with_another_exit_code() -> None:
    """The same story told of an app that only observes: the sync never comes, and the demo says so."""
    script = 'import sys; from sandbox.demo import main; sys.exit(main({"ROTATION_MODE": "observe"}))'
    demo = subprocess.run(
        [
            sys.executable,
            "-c",
            script,
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 1 == demo.returncode
    assert "Not true: API Management is Succeeded, one sync counted" in demo.stderr


def test_the_commands_of_the_readme_exist() -> None:
    """Every make target that a document names is one."""
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    named = {
        name
        for path in DOCUMENTS
        for name in re.findall(r"`?make ([a-z]+)", path.read_text(encoding="utf-8"))
    }

    assert {"demo", "test", "sandbox", "lint", "types", "format", "lock"} <= targets
    assert set() == {name for name in named if f"`make {name}`" in text("README.md")} - targets


def test_the_table_of_rules_is_the_list_of_rules() -> None:
    """docs/verdicts.md lists RULES in their order, and every status and reason."""
    document = text("docs/verdicts.md")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| `(\w+)`", document, re.MULTILINE)

    assert [(str(n), rule.__name__) for n, rule in enumerate(verdict.RULES, 1)] == [row[:2] for row in rows]
    assert [status.value for status in model.Status] == first_column(document, "message that names")
    assert [] == [reason for reason in model.Reason if f"`{reason}`" not in document]
    assert [choice.value for choice in model.Choice] == sorted(
        first_column(document, "## What is done about a gateway"), key=[c.value for c in model.Choice].index
    )


def test_the_rules_speak_with_the_verdicts_that_their_rows_show() -> None:
    """Each row names every status and reason that the rule's source mentions."""
    rows = dict(re.findall(r"^\| \d+ \| `(\w+)` \| ([^|]+) \|", text("docs/verdicts.md"), re.MULTILINE))
    for rule in verdict.RULES:
        source = inspect.getsource(rule)
        words = {model.Status[name].value for name in re.findall(r"Status\.([A-Z_]+)", source)}
        words |= {model.Reason[name].value for name in re.findall(r"Reason\.([A-Z_]+)", source)}

        assert words == set(re.findall(r"`(\w+)`", rows[rule.__name__])), rule.__name__


def test_the_statuses_of_the_readme_are_the_statuses() -> None:
    """The short table names the same six."""
    assert [status.value for status in model.Status] == first_column(
        text("README.md"), "## What the verdicts mean"
    )


def test_the_numbers_of_connections_in_the_documents_are_those_of_the_formula() -> None:
    """7 for 2 units, 17 for 4, 44 for 10."""
    numbers = {int(u): int(n) for n, u in re.findall(r"(\d+) for (\d+)", text("docs/verdicts.md"))}
    numbers |= {2: 7} if "7 for 2 units" in text("docs/verdicts.md") else {}

    assert {units: verdict.connections_needed(units) for units in (2, 4, 10)} == numbers


def test_the_attempts_in_the_documents_are_those_of_the_plan() -> None:
    """At once, +30 min, +2 h, +6 h, +12 h, then daily: five in the first day."""
    at, times = 0.0, [0.0]
    for attempt in range(1, 6):
        at += plan.attempt_gap(attempt).total_seconds() / 60
        times.append(at)

    assert [0, 30, 120, 360, 720, 2160] == times
    assert "at once, +30 min, +2 h, +6 h, +12 h, then daily" in text("docs/verdicts.md")


def test_every_setting_is_documented_with_its_default() -> None:
    """docs/settings.md and settings.py know the same variables."""
    source = inspect.getsource(settings.load)
    known = [registration.PREFIX + name for name in re.findall(r'take\(\s*"([A-Z_]+)"', source)]
    rows = dict(re.findall(r"^\| `(ROTATION_\w+)` \| ([^|]+) \|", text("docs/settings.md"), re.MULTILINE))

    assert sorted(known) == sorted(rows)
    defaults = settings.load({"ROTATION_SUBSCRIPTIONS": "00000000-0000-0000-0000-000000000000"})
    assert isinstance(defaults, settings.Settings)
    shown = {name: cell.strip().strip("`") for name, cell in rows.items()}
    assert ("observe", defaults.cloud_name) == (shown["ROTATION_MODE"], shown["ROTATION_CLOUD"])
    assert (defaults.schedule, defaults.api_version) == (
        shown["ROTATION_SCHEDULE"],
        shown["ROTATION_API_VERSION"],
    )
    spans = {
        "ROTATION_DRIFT_AFTER_MINUTES": defaults.limits.drift_after.total_seconds() / 60,
        "ROTATION_EXPIRES_SOON_DAYS": float(defaults.limits.expires_soon.days),
        "ROTATION_PROBE_TIMEOUT_SECONDS": defaults.probe_timeout.total_seconds(),
        "ROTATION_EVENT_BUDGET_SECONDS": defaults.event_budget.total_seconds(),
    }
    assert spans == {name: float(shown[name]) for name in spans}


def test_the_example_of_local_settings_is_accepted() -> None:
    """What a newcomer copies has no mistake in it."""
    values = json.loads(text("local.settings.json.example"))["Values"]

    assert isinstance(settings.load(values), settings.Settings)


SCHEMA = json.loads(text("docs/telemetry.schema.json"))


@pytest.mark.parametrize("event", SCHEMA["oneOf"], ids=[event["title"] for event in SCHEMA["oneOf"]])
def test_every_field_of_an_event_is_documented(event: dict[str, Any]) -> None:
    """docs/telemetry.md names the fields of the contract, and no others."""
    start, *sections = re.split(r"^## ", text("docs/telemetry.md"), flags=re.MULTILINE)
    described = next(part for part in sections if part.startswith(f"`{event['title']}`"))
    fields = {name for part in event["properties"].values() for name in part.get("properties", ())}
    rows = re.findall(r"^\| `(\w+)` \|", start + described, re.MULTILINE)

    assert fields == set(rows)


def test_queries_name_only_fields_of_the_contract() -> None:
    """A field that is renamed breaks no alert unnoticed."""
    known = {
        name
        for event in SCHEMA["oneOf"]
        for part in event["properties"].values()
        for name in part.get("properties", ())
    }
    for path in (PROJECT / "infra/queries").glob("*.kql"):
        fields = re.findall(r"(?:Properties|Measurements)\.(\w+)", path.read_text(encoding="utf-8"))

        assert set() == set(fields) - known, path.name


def test_every_name_that_the_architecture_walks_through_exists() -> None:
    """A function or class named in ARCHITECTURE.md is defined somewhere."""
    code = "\n".join(p.read_text(encoding="utf-8") for p in (PROJECT / "rotation").rglob("*.py")) + text(
        "function_app.py"
    )
    walk = text("ARCHITECTURE.md").split("## A walk through one rotation")[1].split("## Decisions")[0]
    names = {name.rpartition(".")[2] for name in re.findall(r"`([A-Za-z_.]+)`", walk)}
    missing = {
        name for name in names if not re.search(rf"(def|class) {name}\b|^ *{name} = ", code, re.MULTILINE)
    }

    assert {"Date"} == missing


def anchors(path: Path) -> set[str]:
    """What a page can be linked at: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere() -> None:
    """Relative links in the documents point to files that exist, and to headings in them."""
    broken = []
    for path in DOCUMENTS:
        for target, _, heading in (
            link.partition("#") for link in re.findall(r"\]\(([^):]+)\)", path.read_text(encoding="utf-8"))
        ):
            if target.endswith("../../tree/template"):
                continue  # a branch that a release makes, as GitHub shows it
            place = path.parent / target if target else path
            if not place.exists() or (heading and heading not in anchors(place)):
                broken.append(f"{path.name}: {target}#{heading}")

    assert [] == broken


def test_the_pictures_are_those_that_the_script_draws() -> None:
    """Byte for byte: whoever changes one side has to run docs/images/draw.py."""
    draw = runpy.run_path(str(PROJECT / "docs/images/draw.py"))
    pictures = {path.name for path in (PROJECT / "docs/images").glob("*.svg")}

    assert pictures == set(draw["PICTURES"])
    assert [] == [
        name for name, picture in draw["PICTURES"].items() if picture() != text(f"docs/images/{name}")
    ]


def test_getting_started_takes_the_minutes_that_its_steps_take() -> None:
    """Fifteen together, of which the deployment takes what its own page says."""
    page, deploy = text("docs/getting-started.md"), text("docs/deploy.md")
    steps = [int(n) for n in re.findall(r"^## \d\. .*\((\d+) minutes?", page, re.MULTILINE)]
    observe = [int(n) for n in re.findall(r"^\*\*[123]\. .*\*\* \((\d+) min\)", deploy, re.MULTILINE)]

    assert 15 == sum(steps)
    assert steps[2] == sum(observe)


def test_the_picture_of_a_rotation_says_what_the_documents_say() -> None:
    """Events in seconds, a look every five minutes, 15 to 45 minutes at API Management."""
    draw = runpy.run_path(str(PROJECT / "docs/images/draw.py"))

    assert {5} == {later - sooner for sooner, later in pairwise(draw["TICKS"])}
    assert 15 <= draw["FIRST"] <= draw["LAST"] <= 45
    assert draw["LAST"] <= draw["PROVEN"] < draw["LAST"] + 5


def test_every_page_is_linked_from_the_readme() -> None:
    """Whoever comes by the README finds all of them; runbooks are found by the alerts."""
    readme, alerts = text("README.md"), text("docs/alerts.md")
    pages = [path.name for path in (PROJECT / "docs").glob("*.md")]
    runbooks = [path.name for path in (PROJECT / "docs/runbooks").glob("*.md")]

    assert [] == [name for name in pages if f"(docs/{name})" not in readme]
    assert [] == [name for name in runbooks if f"(runbooks/{name})" not in alerts]


def test_the_pictures_of_the_readme_are_made_by_the_tests_or_by_the_script() -> None:
    """No picture that nobody can make again."""
    shown = {Path(target).name for target in re.findall(r"!\[[^]]*\]\(([^:)]+)\)", text("README.md"))}
    taken = text("tests/browser/test_pictures.py")
    made = {name for name in shown if name.endswith(".svg") or f'"{name.removesuffix(".png")}"' in taken}
    kept = {path.name for path in (PROJECT / "docs/images").iterdir() if path.suffix in {".svg", ".png"}}

    assert shown == made
    assert shown <= kept


def test_the_figures_of_the_reliability_page_are_those_of_the_tests() -> None:
    """The sizes and bounds that docs/reliability.md names stand in the programs that hold them."""
    page = text("docs/reliability.md")
    soak = text("tests/simulation/test_soak.py")

    schedules = re.search(r"^SCHEDULES = ([0-9_]+)$", soak, re.MULTILINE)
    assert schedules
    assert f"{int(schedules[1]):,} schedules" in page
    assert "0 false `IN_SYNC`, 0 false `STALE`" in page
    assert "assert (0, 0, 0) == (figures.false_in_sync, figures.false_stale, figures.other_unfounded)" in soak
    assert "SCHEDULES ?= 100000" in text("Makefile")
    assert "make soak SCHEDULES=10000" in text(".ci/run")
    assert "LEAST_VERDICTS = 100\n" in text("tests/simulation/soak.py")
    assert "`.ci/run` runs 10,000 schedules more: at least 1,000,000 verdicts" in page
    assert "CASES = 200\n" in text("tests/fuzz/test_fuzz.py")
    assert "200 inputs a door" in page
    assert "CASES ?= 100000" in text("Makefile")
    load = text("tests/load/run.py")
    assert "SLOW_CLIENTS = 20\n" in load
    assert "HOSTILE_EVERY = 4\n" in load
    assert "ARRAY = 5000\n" in load
    outbox = text("tests/simulation/test_outbox.py")
    assert "KILLS = range(20)" in outbox
    assert "20 kills" in page
    assert "AWAY = timedelta(hours=6)" in outbox
    assert "assert 5 == figures.worst_syncs_in_24_h" in soak
    assert "at most 5 syncs of a version in 24 hours" in page
