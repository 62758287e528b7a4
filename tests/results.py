"""The figures of the last long runs, kept beside the programs that made them.

docs/reliability.md has them as `render` puts them, which a test compares.
"""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "tests/results.json"

Figures = Mapping[str, Any]


def kept(run: str, where: Path = KEPT) -> Figures:
    """The figures of the last such run; none where it was not kept."""
    runs: dict[str, Figures] = json.loads(where.read_text(encoding="utf-8")) if where.exists() else {}
    return runs.get(run, {})


def keep(run: str, figures: Figures, where: Path = KEPT) -> None:
    """Keep the figures of a run in place of its last ones, with when, on what and from what they are."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    made = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "commit": commit.stdout.strip() or "unknown",
    }
    runs = json.loads(where.read_text(encoding="utf-8")) if where.exists() else {}
    text = json.dumps({**runs, run: {**made, **figures}}, indent=1)
    where.write_text(f"{text}\n", encoding="utf-8")


def render(runs: Mapping[str, Figures]) -> str:
    """The table of docs/reliability.md."""
    rows = ["| run | on | figures |", "|---|---|---|"]
    said_of = {"soak": _soak, "kills": _kills, "hangs": _hangs, "fuzz": _fuzz, "load": _load}
    for name, run in runs.items():
        command, figures = said_of[name](run)
        rows.append(f"| {command} | {run['date']}, {run['machine']}, {run['commit']} | {figures} |")
    return "\n".join(rows)


def _soak(run: Figures) -> tuple[str, str]:
    return f"`make soak SCHEDULES={run['schedules']}`", (
        f"{run['schedules']:,} schedules, {run['passes']:,} passes, {run['troubles']:,} faults,"
        f" {run['died']:,} workers killed; {run['verdicts_judged']:,} verdicts judged:"
        f" {run['false_in_sync']} false `IN_SYNC`, {run['false_stale']} false `STALE`,"
        f" {run['other_unfounded']} otherwise unfounded; {run['silent']} silent; {run['posts']:,} syncs asked"
        f" for, at most {run['worst_syncs_in_24_h']} of a version in 24 h, {run['before_retry_after']} before"
        f" a `Retry-After` had passed; {run['never_told']} of {run['owed']:,} events never told;"
        f" {run['sampled_missed']} of {run['sampled_rollouts']:,} looks at a rollout missed it"
    )


def _kills(run: Figures) -> tuple[str, str]:
    every = run["scenarios"]["all"]
    return "`make kills`", (
        f"{every['kills']} kills at every request, connection and ledger write of"
        f" {len(run['scenarios']) - 1} scenarios: {every['recovered']} recovered, {every['in_one_tick']} in"
        f" one tick, {every['in_two_ticks']} in two"
    )


def _hangs(run: Figures) -> tuple[str, str]:
    return f"`make hangs SERVICES={run['services']}`", (
        f"{run['services']:,} services use the renewed certificate; {run['events']:,} events answered in"
        f" {run['combinations']} combinations of what hangs, p99.9 {run['p99_9_seconds']} s, the longest"
        f" {run['max_seconds']} s"
    )


def _fuzz(run: Figures) -> tuple[str, str]:
    doors = run["doors"]
    total, exceptions, outside = (sum(d[name] for d in doors) for name in ("cases", "exceptions", "outside"))
    return "`make fuzz`", (
        f"{total:,} hostile inputs at {len(doors)} doors, at least {run['cases']:,} at each: {exceptions}"
        f" unhandled exceptions, {outside} connections outside of loopback, the slowest case"
        f" {max(d['slowest_seconds'] for d in doors)} s, at most"
        f" {max(d['growth_mib'] for d in doors)} MiB more memory"
    )


def _load(run: Figures) -> tuple[str, str]:
    return f"`make load`, {run['seconds']:.0f} s", (
        f"{run['events']:,} events and {run['hostile']:,} hostile ones, {run['in_arrays']:,} more in arrays"
        f" of 5,000, {run['pages']:,} requests for the page and the status, beside 20 slow clients:"
        f" {run['failed']} failed; {run['renewals']} renewals meanwhile, {run['lost']} lost; an event was"
        f" answered in {run['event_p50']} s (p99 {run['event_p99']} s, the longest {run['event_max']} s),"
        f" the page in {run['page_p50']} s (p99 {run['page_p99']} s); memory {run['memory_early']} MiB,"
        f" at the end {run['memory_late']} MiB"
    )
