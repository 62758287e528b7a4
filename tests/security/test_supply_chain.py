"""What comes into a build and what a build may do, read from the repository: no network."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = {
    path.name: path.read_text(encoding="utf-8") for path in (ROOT / ".github/workflows").glob("*.yml")
}
each_workflow = pytest.mark.parametrize("text", WORKFLOWS.values(), ids=WORKFLOWS)


@each_workflow
def test_every_action_is_pinned_to_a_commit_and_says_its_version(text: str) -> None:
    """A tag can be moved by whoever takes over an action; a commit cannot."""
    used = re.findall(r"uses: (\S+)(.*)$", text, re.MULTILINE)
    loose = [
        name
        for name, rest in used
        if not name.startswith("./") and not re.fullmatch(r"\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+", name + rest)
    ]

    assert used
    assert [] == loose


def test_one_action_has_one_version() -> None:
    """Two commits of one action in different workflows would mean that one was forgotten."""
    found = set(re.findall(r"uses: ([\w-]+/[\w-]+)(?:/[\w-]+)?@(\S+)", "".join(WORKFLOWS.values())))

    assert len({name for name, _ in found}) == len(found)


@each_workflow
def test_a_workflow_has_no_rights_that_a_job_does_not_name(text: str) -> None:
    """Nothing by default, no code of a stranger with our rights, no token left in the folder."""
    assert "\npermissions: {}\n" in text
    assert "pull_request_target" not in text
    assert "write-all" not in text
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")
    jobs = text.partition("\njobs:\n")[2]
    assert len(re.findall(r"^  [\w-]+:$", jobs, re.MULTILINE)) == jobs.count("\n    permissions:\n")


def test_only_a_release_and_findings_may_be_written() -> None:
    """The rights to write, all of them."""
    expected = {
        ("codeql.yml", "security-events"),
        ("release.yml", "contents"),
        ("release.yml", "id-token"),
        ("release.yml", "attestations"),
    }
    actual = {
        (name, right)
        for name, text in WORKFLOWS.items()
        for right in re.findall(r"^ +([\w-]+): write", text, re.MULTILINE)
    }

    assert expected == actual


def test_what_builds_may_neither_publish_nor_sign() -> None:
    """The job with the rights runs no package of others: it takes the files, signs and publishes them."""
    jobs = dict(re.findall(r"^  (\w+):\n((?:    .*\n|\n)+)", WORKFLOWS["release.yml"], re.MULTILINE))

    assert "contents: read" in jobs["build"]
    assert ": write" not in jobs["build"]
    assert not re.search(r"make |pip |npm |az |python", jobs["release"])


def test_code_that_runs_is_scanned() -> None:
    """CodeQL knows Python, the page's script, and the workflows themselves."""
    assert "language: [python, javascript-typescript, actions]" in WORKFLOWS["codeql.yml"]
    assert "schedule:" in WORKFLOWS["codeql.yml"]
    assert "make audit" in WORKFLOWS["ci.yml"]


def test_every_file_of_pins_is_kept_up_to_date() -> None:
    """Dependabot looks into each folder with a requirements file, and at the actions."""
    text = (ROOT / ".github/dependabot.yml").read_text(encoding="utf-8")
    (listed,) = re.findall(r"directories: \[(.*)\]", text)
    folders = {
        "/" + path.parent.relative_to(ROOT).as_posix().removeprefix(".")
        for pattern in ("requirements*.txt", "*/requirements.txt")
        for path in ROOT.glob(pattern)
        if not path.parent.name.startswith(".venv")
    }

    assert folders == set(listed.split(", "))
    assert "package-ecosystem: github-actions" in text


def test_what_npm_installs_in_ci_runs_no_script_of_its_own() -> None:
    """Exact versions, and nothing is executed at installation."""
    lines = [line for text in WORKFLOWS.values() for line in text.splitlines() if "npm install" in line]

    assert lines
    assert all("--ignore-scripts" in line and re.search(r"@\d+\.\d+\.\d+$", line) for line in lines)
