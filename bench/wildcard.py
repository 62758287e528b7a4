"""One wildcard certificate on hundreds of services of a subscription: how long until every sync is accepted.

    python -m bench.wildcard [--services 500] [--json FILE] [--quick]

The real app on its host against the sandbox, whose ARM keeps the real one's buckets: 250 reads and 25 a
second, 200 writes and 10 a second, then 429. The certificate is renewed, and one pass by timer does the rest,
with ROTATION_MAX_SYNCS as high as there are services. The budget's own time is what the writes beyond the
bucket take to be given again; the clock runs from the first sync to the last, and the whole pass is told too.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from bench.report import Outcome, arguments, outcomes_table, tell
from sandbox.stage import Stage
from sandbox.world import Hostname, Server, World

BURST, A_SECOND = 200, 10
MOST = 1.2


def fleet(services: int) -> World:
    """Services in one subscription, all with the same certificate; each has one scale unit."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("wildcard", ["*.contoso.com"])
    for number in range(services):
        hostname = Hostname(f"api-{number}.contoso.com", certificate=certificate)
        world.add_service(f"apim-{number}", regions={"West Europe": 1}, hostnames=(hostname,))
    return world


def measure(services: int) -> dict[str, Any]:
    """Renew the certificate and have the timer find it."""
    world = fleet(services)
    world.vaults["kv-contoso"].certificates["wildcard"].renew(announce=False)
    with Stage(world, {"ROTATION_MAX_SYNCS": str(services)}, schema=None) as stage:
        began, moment = time.monotonic(), world.clock.now()
        stage.host.run("check_drift", timeout=300)
        whole = time.monotonic() - began
        decided = stage.status()["report"]["decisions"]
        noted = stage.host.log().count("could not be noted")
    to_arm = [r for r in world.requests if r.server is Server.ARM]
    syncs = [r for r in to_arm if r.path.endswith("/refreshHostnames")]
    accepted = [r.at for r in syncs if r.status == 202] or [moment]
    return {
        "services": services,
        "asked": len(syncs),
        "accepted": len({r.path for r in syncs if r.status == 202}),
        "throttled": sum(r.status == 429 for r in to_arm),
        "others": dict(Counter(each["choice"] for each in decided if each["choice"] != "Sync")),
        "not_noted": noted,
        "answers": dict(Counter(f"{r.method} {r.status}" for r in to_arm)),
        "budget_s": max(0, services - BURST) / A_SECOND,
        "syncs_s": round((max(accepted) - min(accepted)).total_seconds(), 2),
        "first_s": round((min(accepted) - moment).total_seconds(), 2),
        "pass_s": round(whole, 2),
    }


def outcomes(results: Mapping[str, Any]) -> Iterator[Outcome]:
    """What was wanted."""
    where = f"{results['services']} services"
    yield Outcome("accepted, %", where, 100 * results["accepted"] / results["services"], 100, at_least=True)
    yield Outcome("refused for ARM's budget", where, results["throttled"], 0)
    if results["budget_s"]:
        yield Outcome(
            "first sync to last, x the budget's own time",
            where,
            results["syncs_s"] / results["budget_s"],
            MOST,
        )


def document(results: Mapping[str, Any]) -> str:
    """The figures as they stand in docs/performance.md."""
    answers = ", ".join(f"{number:,} x {answer}" for answer, number in results["answers"].items())
    story = (
        f"{results['services']} services, load {results['load']}. ARM's buckets need"
        f" {results['budget_s']:.0f} s for so many syncs; first to last took {results['syncs_s']:.1f} s."
        f" The first was sent {results['first_s']:.1f} s after the pass began, when every service had been"
        f" read and probed; the pass ended after {results['pass_s']:.1f} s. ARM's answers: {answers}."
    )
    others = [f"- not asked: {reason}, {number} services" for reason, number in results["others"].items()]
    lines = [story, *others, "", outcomes_table(outcomes(results))]
    return "\n".join(lines)


def main() -> None:
    """Measure and tell; fails where a service was not asked or ARM had to refuse, never on time."""
    parser = arguments("wildcard", __doc__, quick="230 services: just over what the bucket holds")
    parser.add_argument("--services", type=int, default=500)
    asked = parser.parse_args()
    results = tell(lambda: measure(230 if asked.quick else asked.services), document, asked.json)
    every = results["services"] == results["accepted"] == results["asked"]
    if results["throttled"] or not every:
        raise SystemExit("not every service was asked exactly once and accepted")


if __name__ == "__main__":
    main()
