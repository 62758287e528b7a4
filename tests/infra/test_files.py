"""azure.yaml, host.json, parameters and workflows: the files around the template."""

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.infra.sources import INFRA, PROJECT, infra_python, text
from tools.package import NAME

MAIN = (INFRA / "main.bicep").read_text(encoding="utf-8")
PARAMETERS = json.loads((INFRA / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
DECLARED = dict(re.findall(r"^param (\w+) \w+( = )?", MAIN, re.MULTILINE))
WORKFLOWS = sorted((PROJECT / ".github/workflows").glob("*.yml"))


def one_of(*names: str, **properties: object) -> dict[str, object]:
    """A JSON Schema of an object with these properties and no others; those named first are required."""
    return {
        "type": "object",
        "required": list(names),
        "additionalProperties": False,
        "properties": properties,
    }


_SCRIPT = {
    "type": "object",
    "required": ["shell", "run"],
    "additionalProperties": False,
    "properties": {"shell": {"enum": ["sh", "pwsh"]}, "run": {"type": "string"}},
}
_HOOK = one_of("posix", "windows", posix=_SCRIPT, windows=_SCRIPT)
# No package ships the official schema, which the GitHub workflow fetches; this is the part that is used here:
# https://github.com/Azure/azure-dev/blob/main/schemas/v1.0/azure.yaml.json
AZURE_YAML = one_of(
    *("name", "services", "infra", "hooks"),
    name={"type": "string", "pattern": "^[a-z0-9-]{2,}$"},
    requiredVersions=one_of("azd", azd={"type": "string"}),
    infra=one_of(
        "provider",
        "path",
        "module",
        provider={"const": "bicep"},
        path={"type": "string"},
        module={"const": "main"},
    ),
    services=one_of(
        "rotation",
        rotation=one_of(
            "project",
            "host",
            "language",
            project={"const": "."},
            host={"const": "function"},
            language={"const": "python"},
        ),
    ),
    hooks=one_of("preprovision", "postdeploy", preprovision=_HOOK, postdeploy=_HOOK),
)
# The part of SchemaStore's host.json that is used here; `telemetryMode` is left out on purpose. The whole is
# of no use: its oneOf has two branches that differ in Service Bus only; every other file matches both.
HOST_JSON = one_of(
    *("version", "functionTimeout", "extensionBundle"),
    version={"const": "2.0"},
    functionTimeout={"type": "string", "pattern": r"^\d\d:[0-5]\d:[0-5]\d$"},
    logging=one_of(
        "logLevel",
        logLevel={"type": "object", "additionalProperties": {"enum": ["Information", "Warning", "Error"]}},
        applicationInsights=one_of(
            "samplingSettings",
            samplingSettings=one_of(
                "isEnabled", isEnabled={"type": "boolean"}, excludedTypes={"type": "string"}
            ),
        ),
    ),
    extensionBundle=one_of(
        "id",
        "version",
        id={"const": "Microsoft.Azure.Functions.ExtensionBundle"},
        version={"const": "[4.*, 5.0.0)"},
    ),
    extensions=one_of(
        http=one_of(
            "routePrefix",
            routePrefix={"const": "api"},
            hsts=one_of(
                "isEnabled", isEnabled={"type": "boolean"}, maxAge={"type": "string", "pattern": r"^\d+$"}
            ),
            customHeaders={"type": "object", "additionalProperties": {"type": "string"}},
        ),
        queues={"type": "object"},
    ),
)


@cache
def yaml(name: str) -> Any:
    """A YAML file of the project, read by the Python that has a reader for it."""
    code = "import json, sys, yaml; print(json.dumps(yaml.load(sys.stdin, yaml.BaseLoader)))"
    done = subprocess.run(
        [infra_python(), "-c", code], input=text(name), capture_output=True, text=True, timeout=30, check=True
    )
    return json.loads(done.stdout)


def test_azure_yaml_is_one() -> None:
    """Proves its form, and that its hooks and folders are there."""
    found = yaml("azure.yaml")
    jsonschema.validate(found, AZURE_YAML)

    assert (PROJECT / found["infra"]["path"] / f"{found['infra']['module']}.bicep").is_file()
    for hook in found["hooks"].values():
        assert [] == [s["run"] for s in hook.values() if not (PROJECT / s["run"]).is_file()]
    for name in found["services"]:
        assert f"'azd-service-name': '{name}'" in text("infra/modules/app.bicep")


def test_host_json_is_one() -> None:
    """Proves its form, with nothing in it that we did not mean."""
    jsonschema.validate(json.loads(text("host.json")), HOST_JSON)


@pytest.mark.timeout(400)
def test_the_doctor_of_azure_functions_finds_nothing_that_fails() -> None:
    """Proves with its rules for deployment that the app's folder is one that Azure takes."""
    doctor = Path(infra_python()).with_name("azure-functions-doctor")
    done = subprocess.run(
        [str(doctor), "doctor", "--path", str(PROJECT), "--profile", "deploy"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert " 0 fails" in done.stdout, done.stdout
    assert 0 == done.returncode


def test_the_parameters_are_those_of_the_template() -> None:
    """Proves that azd gives every parameter that has no default, and none that there is not."""
    required = {name for name, default in DECLARED.items() if not default}

    assert required <= set(PARAMETERS) <= set(DECLARED)
    assert {"environmentName", "gatewayResourceGroups", "vaults"} == required


def test_a_default_of_azd_is_the_default_of_the_template() -> None:
    """Proves that both ways to deploy end in the same place."""
    for name, parameter in PARAMETERS.items():
        if name == "settings":
            continue
        (default,) = re.findall(r"^\$\{\w+(?:=(.*))?\}$", parameter["value"])
        declared = re.findall(rf"^param {name} \w+ = (.*)$", MAIN, re.MULTILINE)
        if default or parameter["value"].endswith("=}"):
            assert [default] == [value.strip("'") for value in declared], name


def test_every_setting_can_be_set_by_azd() -> None:
    """Proves that `azd env set ROTATION_…` reaches each setting that the template does not decide."""
    app = text("infra/modules/app.bicep")
    names = re.findall(r"^  (ROTATION_\w+): ''$", app, re.MULTILINE)

    assert {name: f"${{{name}=}}" for name in names} == PARAMETERS["settings"]["value"]


def test_every_parameter_is_described() -> None:
    """Proves that the portal's form, and a reader of a module, know what to write."""
    for path in INFRA.rglob("*.bicep"):
        source = path.read_text(encoding="utf-8")
        described = re.findall(
            r"^@description\('.+'\)\n(?:@(?!description).*\n|  .*\n|\]\)\n)*^param (\w+)",
            source,
            re.MULTILINE,
        )

        assert re.findall(r"^param (\w+)", source, re.MULTILINE) == described, path.name


def test_the_guide_names_every_variable_and_parameter() -> None:
    """Proves that docs/deploy.md is whole."""
    guide = text("docs/deploy.md")
    variables = re.findall(r"\$\{(\w+)", json.dumps({k: v for k, v in PARAMETERS.items() if k != "settings"}))

    assert [] == [name for name in variables if f"`{name}`" not in guide]
    assert [] == [name for name in DECLARED if name not in PARAMETERS and f"`{name}`" not in guide]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_no_more_rights_than_a_job_names(path: Any) -> None:
    """Proves least permissions, pinned actions, and that no expression of others lands in a shell."""
    found = yaml(f".github/workflows/{path.name}")
    steps = [step for job in found["jobs"].values() for step in job.get("steps", [])]
    scripts = [step["run"] for step in steps if "run" in step]

    assert {} == found["permissions"]
    assert all("permissions" in job for job in found["jobs"].values())
    assert [] == [
        s["uses"] for s in steps if "uses" in s and not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", s["uses"])
    ]
    assert [] == [script for script in scripts if "${{" in script]
    assert {"false"} == {
        s["with"]["persist-credentials"] for s in steps if s.get("uses", "").startswith("actions/checkout@")
    }


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ("github-workflows", [f".github/workflows/{path.name}" for path in WORKFLOWS]),
        ("dependabot", [".github/dependabot.yml"]),
    ],
)
def test_what_github_reads_is_as_its_schemas_say(schema: str, names: list[str]) -> None:
    """Proves with the schemas of SchemaStore that check-jsonschema ships that no key is misspelt."""
    done = subprocess.run(
        [Path(infra_python()).with_name("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", *names],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert names
    assert (0, "ok -- validation done\n") == (done.returncode, done.stdout)


def test_ci_tests_every_python_that_the_project_promises() -> None:
    """Proves the matrix against pyproject.toml."""
    assert ["3.11", "3.12", "3.13"] == yaml(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"][
        "python"
    ]
    assert 'requires-python = ">=3.11"' in text("pyproject.toml")
    jobs = yaml(".github/workflows/ci.yml")["jobs"]
    run = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    for command in ("make test", "make lint", "make types", "make bench-quick", "bicep build", "bicep lint"):
        assert command in run


def test_a_release_is_the_package_of_make_checked_and_attested() -> None:
    """Proves that what people deploy is what `make package` gives to everybody."""
    jobs = yaml(".github/workflows/release.yml")["jobs"]
    steps = jobs["release"]["steps"]
    scripts = " ".join(step.get("run", "") for step in jobs["build"]["steps"])
    attested = {s["uses"].partition("@")[0]: s["with"] for s in steps if "attest" in s.get("uses", "")}

    assert "make package-check" in scripts
    assert "make audit" in scripts
    assert "dist/*" == attested["actions/attest-build-provenance"]["subject-path"]
    assert f"dist/{NAME}.zip" == attested["actions/attest-sbom"]["subject-path"]
    assert f"dist/{NAME}.cdx.json" == attested["actions/attest-sbom"]["sbom-path"]
