"""Draws the two pictures of the documents: how the app works, and what happens in one rotation.

    python docs/images/draw.py

writes how-it-works.svg and rotation.svg beside this file. Both follow the reader's light or dark scheme.
"""

from collections.abc import Iterator
from html import escape
from pathlib import Path

HERE = Path(__file__).parent

STYLE = """
  svg { --back: #f8fafc; --box: #fff; --line: #94a3b8; --ink: #0f172a; --soft: #475569; --app: #eef2ff;
    --accent: #4f46e5; --old: #f59e0b; --new: #16a34a; --quiet: #cbd5e1; --on: #fff; --on-old: #1c1003 }
  @media (prefers-color-scheme: dark) {
    svg { --back: #0f172a; --box: #1e293b; --line: #64748b; --ink: #f1f5f9; --soft: #a8b6c9; --app: #1e1b4b;
      --accent: #818cf8; --old: #d97706; --new: #22c55e; --quiet: #334155; --on: #0b1020; --on-old: #1c1003 }
  }
  text { fill: var(--ink); font: 14px system-ui, sans-serif }
  .head { font-weight: 600 } .soft { fill: var(--soft); font-size: 13px } .small { font-size: 12px }
  .mid { text-anchor: middle } .end { text-anchor: end }
  .on { fill: var(--on) } .on-old { fill: var(--on-old) }
  .box { fill: var(--box); stroke: var(--line); stroke-width: 1.5 }
  .app { fill: var(--app); stroke: var(--accent); stroke-width: 1.5 }
  .part { fill: var(--box); stroke: var(--accent); stroke-width: 1.2 }
  .core { fill: var(--accent) } .quiet { fill: var(--quiet) }
  .old { fill: var(--old) } .new { fill: var(--new) }
  .arrow { fill: none; stroke: var(--soft); stroke-width: 1.6; marker-end: url(#head) }
  .guide { stroke: var(--line); stroke-width: 1; stroke-dasharray: 3 4 } .axis { stroke: var(--line) }
"""

ARROW_HEAD = (
    '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 L10 5 L0 10 z" fill="var(--soft)"/></marker>'
)


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """One line of words; `kind` names its classes."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A rounded box."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" class="{kind}"/>'


def arrow(path: str) -> str:
    """A line with a head at its end."""
    return f'<path d="{path}" class="arrow"/>'


def box(x: float, y: float, head: str, *lines: str, width: float = 190, kind: str = "box") -> str:
    """A box with a heading and soft lines below it, centred."""
    height = 30 + 19 * len(lines) + (6 if lines else 4)
    middle = x + width / 2
    words = [text(middle, y + 23, head, "mid head")]
    words += [text(middle, y + 43 + 19 * n, line, "mid soft") for n, line in enumerate(lines)]
    return rect(x, y, width, height, kind) + "".join(words)


def picture(width: int, height: int, label: str, parts: Iterator[str]) -> str:
    """The whole SVG; `label` is read to those who do not see it."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(label)}">\n<style>{STYLE}</style>\n<defs>{ARROW_HEAD}</defs>\n'
        f'<rect width="{width}" height="{height}" rx="12" fill="var(--back)"/>\n{body}\n</svg>\n'
    )


def how_it_works() -> str:
    """Who tells the app what, and what it asks of whom."""

    def parts() -> Iterator[str]:
        yield box(24, 40, "Key Vault", "renews the certificate")
        yield box(24, 152, "Timer", "every five minutes")
        yield box(24, 264, "You", "page, API, command line")
        yield rect(318, 24, 284, 336, "app")
        yield text(460, 50, "Azure Functions app", "mid head")
        for y, name in ((66, "on_certificate_event"), (110, "check_drift"), (154, "resync")):
            yield rect(338, y, 244, 34, "part") + text(460, y + 22, name, "mid")
        yield rect(338, 226, 244, 114, "core")
        yield text(460, 252, "reconcile", "mid head on")
        for n, line in enumerate(("inventory → expected → served", "→ judge → plan → act", "→ report")):
            yield text(460, 277 + 22 * n, line, "mid on")
        yield box(722, 40, "API Management", "every hostname, region", "and scale unit")
        yield box(722, 164, "Application Insights", "verdicts, proofs, alerts")
        yield box(722, 276, "Attempt ledger", "a table: what was asked,", "and when next")

        yield arrow("M214 72 H336") + text(222, 64, "1 Event Grid", "small soft")
        yield arrow("M214 186 C270 186 270 127 336 127") + text(222, 203, "5 anyway", "small soft")
        yield arrow("M214 298 C282 298 278 171 336 171") + text(222, 315, "by hand", "small soft")
        yield arrow("M460 190 V224")
        yield arrow("M582 246 C660 246 640 62 720 62") + text(606, 30, "2 refreshHostnames", "small soft")
        yield arrow("M582 262 C676 262 656 100 720 100")
        yield text(724, 132, "3 TLS handshakes", "small soft")
        yield arrow("M582 280 C656 280 650 198 720 198") + text(724, 238, "4 results", "small soft")
        yield arrow("M582 316 H720") + text(610, 334, "intent before act", "small soft")
        words = "A lost, late or doubled event changes when the app looks, never what it concludes."
        yield text(460, 388, words, "mid soft")

    label = (
        "Key Vault announces a new version through Event Grid, a timer looks every five minutes, people ask"
        " by hand. Each leads to one reconcile, which tells API Management to read its certificates anew,"
        " proves by TLS handshake what every region serves, writes results to Application Insights and keeps"
        " its attempts in a ledger."
    )
    return picture(936, 408, label, parts())


MINUTES = 35
TICKS = range(5, MINUTES + 1, 5)
UNITS = (("West Europe, unit 1", 18.0), ("West Europe, unit 2", 22.0), ("North Europe", 28.0))
"""When each of them switches: one after the other, minutes after the version was created."""

AT_ONCE = (0.0, 0.6, 1.2)
"""t0, t1 and t2, drawn further apart than they are."""

LEFT, SCALE = 190.0, 20.0


FIRST, LAST = min(switch for _, switch in UNITS), max(switch for _, switch in UNITS)
SERVED, PROVEN = (next(float(tick) for tick in TICKS if tick >= when) for when in (FIRST, LAST))
"""When the timer first meets the new certificate, and when it meets nothing else."""


def at(minute: float) -> float:
    """Where a minute is."""
    return LEFT + minute * SCALE


def bar(y: float, height: float, start: float, end: float, kind: str) -> str:
    """A span of minutes."""
    return rect(at(start), y, (end - start) * SCALE, height, kind)


def moments() -> Iterator[str]:
    """t0 to t4."""
    yield text(at(0), 62, "t0  t1  t2", "head")
    yield text(at(0), 79, "created, event, sync accepted: seconds", "small soft")
    for name, words, minute in (("t3", "first served", SERVED), ("t4", "proven everywhere", PROVEN)):
        yield text(at(minute), 62, name, "mid head") + text(at(minute), 79, words, "mid small soft")
    for minute in (*AT_ONCE, SERVED, PROVEN):
        yield f'<line x1="{at(minute):g}" x2="{at(minute):g}" y1="84" y2="290" class="guide"/>'


def lanes() -> Iterator[str]:
    """What each unit serves."""
    for row, (name, switch) in enumerate(UNITS):
        y = 96 + 34 * row
        yield text(LEFT - 14, y + 15, name, "end soft")
        yield bar(y, 22, 0, switch, "old") + bar(y, 22, switch, MINUTES, "new")
    yield text(at(0) + 10, 111, "serves the old certificate", "small on-old")
    yield text(at(FIRST) + 10, 111, "serves the new one", "small on")


def looks() -> Iterator[str]:
    """What handshakes meet: the old certificate, both, or the new one."""
    yield text(LEFT - 14, 231, "handshakes", "end soft")
    for minute in (AT_ONCE[1], *TICKS):
        x, new = at(minute), sum(switch <= minute for _, switch in UNITS)
        kind = "new" if new == len(UNITS) else "old"
        yield f'<circle cx="{x:g}" cy="226" r="7" class="{kind}"/>'
        if kind == "old" and new:
            yield f'<path d="M{x:g} 219 A7 7 0 0 1 {x:g} 233 z" class="new"/>'


def verdicts() -> Iterator[str]:
    """What the app says."""
    yield text(LEFT - 14, 273, "verdict", "end soft")
    yield bar(256, 26, AT_ONCE[2], PROVEN, "quiet") + bar(256, 26, PROVEN, MINUTES, "new")
    yield text(at((AT_ONCE[2] + PROVEN) / 2), 274, "SYNCING", "mid small head")
    yield text(at((PROVEN + MINUTES) / 2), 274, "IN_SYNC", "mid small head on")


def rotation() -> str:
    """From t0 to t4: what is served, what the timer meets, what is said."""

    def parts() -> Iterator[str]:
        yield text(24, 34, "One rotation", "head")
        yield text(
            134, 34, "minutes after Key Vault has created the version; the app looks every five", "soft"
        )
        for lane in (moments, lanes, looks, verdicts):
            yield from lane()
        yield f'<line x1="{at(0):g}" x2="{at(MINUTES):g}" y1="304.5" y2="304.5" class="axis"/>'
        for minute in range(0, MINUTES + 1, 5):
            yield text(at(minute), 322, str(minute), "mid small soft")
        yield text(LEFT - 14, 355, "without the app", "end soft") + bar(340, 22, 0, MINUTES, "old")
        words = "the old certificate, for 1-2 days, and nobody sees whether it switched"
        yield text(at(0) + 10, 355, words, "small on-old")

    label = (
        f"One rotation on a line of {MINUTES} minutes. Event and sync come seconds after the new version."
        f" Scale units and regions switch one after the other, from minute {FIRST:g} to minute {LAST:g}."
        f" Handshakes every five minutes meet the new certificate first at minute {SERVED:g}; at minute"
        f" {PROVEN:g} all do, and the verdict goes from SYNCING to IN_SYNC. Without the app the old"
        " certificate is served for 1-2 days."
    )
    return picture(936, 380, label, parts())


PICTURES = {"how-it-works.svg": how_it_works, "rotation.svg": rotation}


def main() -> None:
    """Write both beside this file."""
    for name, draw in PICTURES.items():
        (HERE / name).write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
