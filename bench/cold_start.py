"""What an idle worker costs beside a hello-world app, and what the first trigger adds.

    python -m bench.cold_start [--rounds 5] [--json FILE] [--quick]

Each start is a process of its own. `index` imports function_app.py and indexes it as a worker does; `worker`
is Microsoft's azure-functions-runtime (3.13 and newer; else the sandbox's host) from its start to functions
loaded. Every virtual environment in this folder whose Python has the dependencies is measured. The two apps
take turns, and the least of each counts, since other work on the machine can only add. Without byte code
means that of packages and app: Python's own library always has it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.report import PROJECT, Outcome, keep, outcomes_table

HELLO = PROJECT / "bench/hello"
APPS = {"hello": HELLO, "app": PROJECT}
MOST = 1.3

_NO_BYTE_CODE = """
import importlib._bootstrap_external as machinery
own = machinery.cache_from_source
def cache_from_source(path, *args, **kwargs):
    if "site-packages" in path or path.startswith(PLACES):
        raise NotImplementedError
    return own(path, *args, **kwargs)
machinery.cache_from_source = cache_from_source
"""
_COST = """
import json, sys, time
def told(began=(time.process_time(), time.perf_counter())):
    with open("/proc/self/status") as status:
        mib = int(status.read().partition("VmHWM:")[2].split()[0]) / 1024
    cpu, wall = time.process_time() - began[0], time.perf_counter() - began[1]
    return {"cpu_ms": cpu * 1e3, "wall_ms": wall * 1e3, "mib": mib}
"""
_INDEX = """
sys.path.insert(0, sys.argv[1])
import function_app
functions = [f.get_raw_bindings() for f in function_app.app.get_functions()]
print(json.dumps({**told(), "functions": len(functions)}))
"""
_FIRST = """
sys.path.insert(0, sys.argv[1])
import function_app
function_app.app.get_functions()
idle, began = told(), (time.process_time(), time.perf_counter())
for module in json.loads(sys.argv[2]):
    __import__(module)
print(json.dumps({**told(began), "idle_mib": idle["mib"], "functions": 0}))
"""
FIRST_TRIGGER = (
    "rotation.app",
    "azure.identity.aio",
    "rotation.clients.arm",
    "rotation.clients.http",
    "rotation.clients.key_vault",
    "rotation.clients.resource_graph",
    "rotation.clients.table_ledger",
    "rotation.clients.tls",
    "rotation.gateways.api_management",
    "azure.monitor.opentelemetry.exporter",
)
"""What the first event or tick imports: `app.build`, a ledger in a table, the first results written."""

IMPORTS = {
    "aiohttp": "aiohttp",
    "azure-core": "azure.core.pipeline.transport",
    "azure-data-tables": "azure.data.tables.aio",
    "azure-eventgrid": "azure.eventgrid.aio",
    "azure-functions": "azure.functions",
    "azure-identity": "azure.identity.aio",
    "azure-keyvault-certificates": "azure.keyvault.certificates.aio",
    "azure-mgmt-apimanagement": "azure.mgmt.apimanagement.aio",
    "azure-mgmt-resourcegraph": "azure.mgmt.resourcegraph.aio",
    "azure-monitor-opentelemetry-exporter": "azure.monitor.opentelemetry.exporter",
    "cryptography": "cryptography.x509",
    "jinja2": "jinja2",
    "markupsafe": "markupsafe",
    "opentelemetry-api": "opentelemetry.trace",
    "opentelemetry-sdk": "opentelemetry.sdk._logs.export",
    "yarl": "yarl",
}
"""Of each runtime dependency, the module that we import."""

Costs = dict[str, float]


def environments() -> Iterator[tuple[str, str, bool]]:
    """Version and path of each Python to measure, and whether it has Microsoft's runtime; this one first."""
    code = (
        "import sys, azure.functions; from importlib.util import find_spec;"
        "version = '.'.join(map(str, sys.version_info[:3]));"
        "print(version, find_spec('azure_functions_runtime') is not None)"
    )
    seen = set()
    for python in [sys.executable, *map(str, sorted(PROJECT.glob(".venv*/bin/python")))]:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        version, _, runtime = done.stdout.strip().partition(" ")
        if done.returncode == 0 and version not in seen:
            seen.add(version)
            yield version, python, runtime == "True"


def run_code(python: str, code: str, *arguments: str, byte_code: bool = True) -> Costs:
    """What a program says of itself, in a process of its own."""
    without = "" if byte_code else f"PLACES = {str(PROJECT)!r}\n{_NO_BYTE_CODE}"
    command = [python, "-c", f"{without}{_COST}{code}", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, cwd=PROJECT / "bench"
    )
    costs: Costs = json.loads(done.stdout)
    return costs


def run_worker(python: str, app: Path, backend: str) -> Costs:
    """A worker from its start to functions loaded: the process's own time and memory."""
    runner = PROJECT / "tests/host/runtime_runner.py"
    began = time.perf_counter()
    with subprocess.Popen(
        [python, str(runner), str(app), "--backend", backend],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        answer = json.loads(process.stdout.read())
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    return {
        "cpu_ms": (used.ru_utime + used.ru_stime) * 1e3,
        "wall_ms": wall * 1e3,
        "mib": used.ru_maxrss / 1024,
        "functions": len(answer.get("functions", ())),
    }


def least(found: Sequence[Costs]) -> Costs:
    """Of every cost the least; other work on the machine can only add."""
    return {name: round(min(each[name] for each in found), 2) for name in found[0]}


def measure(python: str, *, runtime: bool, rounds: int) -> Iterator[dict[str, Any]]:
    """Every kind of start with one Python."""
    backend = "runtime" if runtime else "sdk"
    kinds: dict[tuple[str, bool], Callable[[Path], Costs]] = {
        ("index", True): lambda app: run_code(python, _INDEX, str(app)),
        ("worker", True): lambda app: run_worker(python, app, backend),
        ("index", False): lambda app: run_code(python, _INDEX, str(app), byte_code=False),
    }
    for (what, byte_code), start in kinds.items():
        found: dict[str, list[Costs]] = {name: [] for name in APPS}
        for number in range(rounds):
            for name in list(APPS)[:: 1 if number % 2 else -1]:
                found[name].append(start(APPS[name]))
        costs = {name: least(each) for name, each in found.items()}
        yield {"what": what, "byte_code": byte_code, "backend": backend, "apps": costs}


def first_trigger(python: str, rounds: int) -> dict[str, Costs]:
    """What the first event imports, with byte code and without."""
    modules = json.dumps(FIRST_TRIGGER)
    return {
        name: least(
            [run_code(python, _FIRST, str(PROJECT), modules, byte_code=byte_code) for _ in range(rounds)]
        )
        for name, byte_code in (("with", True), ("without", False))
    }


def imports(python: str, rounds: int) -> dict[str, Costs]:
    """Each dependency alone, in a process of its own; they overlap."""
    code = (
        "before = told(); import {0}; after = told();"
        "print(json.dumps({{k: after[k] - before[k] for k in after}}))"
    )
    return {
        name: least([run_code(python, code.format(module)) for _ in range(rounds)])
        for name, module in IMPORTS.items()
    }


def outcomes(results: Mapping[str, Any]) -> Iterator[Outcome]:
    """What was wanted: no more than a hello-world app and a third."""
    for python, runs in results["pythons"].items():
        for run in runs["starts"]:
            if not run["byte_code"]:
                continue
            apps, where = run["apps"], f"Python {python}, {run['what']}"
            cpu = apps["app"]["cpu_ms"] / apps["hello"]["cpu_ms"]
            yield Outcome("CPU, x hello-world", where, cpu, MOST)
            wall = apps["app"]["wall_ms"] / apps["hello"]["wall_ms"]
            yield Outcome("wall, x hello-world", where, wall, MOST)
            yield Outcome("memory, x hello-world", where, apps["app"]["mib"] / apps["hello"]["mib"], MOST)


def document(results: Mapping[str, Any]) -> str:
    """The figures as they stand in docs/performance.md."""
    lines = [
        f"Rounds: {results['rounds']}, load {results['load']}. Costs are ms of CPU / ms of wall / MiB.\n",
        outcomes_table(outcomes(results)),
        "| Python | start | hello-world | the app |",
        "|---|---|---|---|",
    ]
    for python, runs in results["pythons"].items():
        for run in runs["starts"]:
            host = "azure-functions-runtime" if run["backend"] == "runtime" else "the sandbox's host"
            start = "import and index" if run["what"] == "index" else f"worker to functions loaded ({host})"
            start += "" if run["byte_code"] else ", without byte code"
            hello, app = run["apps"]["hello"], run["apps"]["app"]
            lines.append(f"| {python} | {start} | {_costs(hello)} | {_costs(app)} |")
        for name, first in runs["first_trigger"].items():
            more = {**first, "mib": first["mib"] - first["idle_mib"]}
            what = f"what the first trigger imports, {name} byte code"
            lines.append(f"| {python} | {what} | | {_costs(more)} more |")
    absent = [f"- absent: Python {version}; {remedy}" for version, remedy in results["absent"].items()]
    return "\n".join([*lines, *([""] if absent else []), *absent, ""])


def imports_table(results: Mapping[str, Any]) -> str:
    """What each dependency costs at import, as it stands in docs/dependencies.md."""
    python = next(iter(results["imports"]))
    lines = [f"| package | Python {python}: CPU, ms | MiB |", "|---|---|---|"]
    lines += [
        f"| {name} | {cost['cpu_ms']:.0f} | {cost['mib']:.1f} |"
        for name, cost in results["imports"][python].items()
    ]
    return "\n".join([*lines, ""])


def _costs(costs: Costs) -> str:
    return f"{costs['cpu_ms']:.0f} / {costs['wall_ms']:.0f} / {costs['mib']:.1f}"


def main() -> None:
    """Measure and tell; fails where an app was not indexed, never on time."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cold_start", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="keep the results in this file")
    parser.add_argument("--quick", action="store_true", help="two rounds of each with this Python")
    options = parser.parse_args()
    rounds = 2 if options.quick else options.rounds
    before = os.getloadavg()[0]
    pythons: dict[str, Any] = {}
    found = list(environments())
    for version, python, runtime in found[: 1 if options.quick else None]:
        starts = list(measure(python, runtime=runtime, rounds=rounds))
        pythons[version] = {"starts": starts, "first_trigger": first_trigger(python, rounds)}
    absent = {
        wanted: f"make .venv-{wanted}/ready VENV=.venv-{wanted} PYTHON=python{wanted}"
        for wanted in ("3.11", "3.13")
        if not options.quick and not any(version.startswith(f"{wanted}.") for version in pythons)
    }
    version, python, _ = max(found, key=lambda each: tuple(map(int, each[0].split("."))))
    results = {
        "rounds": rounds,
        "load": f"{before:.1f} to {os.getloadavg()[0]:.1f}",
        "pythons": pythons,
        "absent": absent,
        "imports": {version: imports(python, 1 if options.quick else max(3, rounds // 2))},
    }
    print(document(results))
    print(imports_table(results))
    keep(options.json, results)
    starts = [run for runs in pythons.values() for run in runs["starts"]]
    if wrong := [
        run
        for run in starts
        if run["apps"]["hello"]["functions"] != 1 or run["apps"]["app"]["functions"] < 10
    ]:
        raise SystemExit(f"not every function was indexed: {wrong}")


if __name__ == "__main__":
    main()
