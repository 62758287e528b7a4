"""`make sandbox`: the app and its pretend Azure, kept running until Ctrl-C, to be played with by hand."""

import signal
import sys
import threading

from sandbox.demo import contoso
from sandbox.stage import Stage


def main() -> int:
    """Run until SIGINT or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    print("Starting …", flush=True)
    with Stage(contoso().world, timers=True) as stage:
        print(_guide(stage), flush=True)
        stop.wait()
        print("\nStopping …", flush=True)
    return 0


def _guide(stage: Stage) -> str:
    host, control = stage.host, stage.azure.control_url
    key = f"-H 'x-functions-key: {host.keys['function']}'"
    event_grid = host.event_grid_url("on_certificate_event")
    return f"""
The app       {host.url}/api/status    (functions: {", ".join(host.functions)})
Azure         ARM {stage.azure.arm_url}, control {control}/

Renew         curl -X POST '{control}/renew?vault=kv-contoso&certificate=contoso-com'
Lose events   curl -X POST '{control}/drop-next?count=1'
Pass time     curl -X POST '{control}/advance?minutes=5'
What is so    curl -s {control}/
App Insights  curl -s {control}/telemetry

Page          {host.url}/api/page?code={host.keys["function"]}
Status        curl -s {key} {host.url}/api/status
Dry run       curl -s {key} --json '{{"all": true, "dry_run": true}}' {host.url}/api/resync
Resync        curl -s {key} --json '{{"hostname": "api.contoso.com"}}' {host.url}/api/resync
Timer now     curl -s -H 'x-functions-key: {host.keys["master"]}' --json '{{"input": ""}}' \\
                {host.url}/admin/functions/check_drift
Any event     curl -s -H 'aeg-event-type: Notification' --json @event.json \\
                '{event_grid}'

The timer follows the sandbox's clock: every five minutes, or when you pass time. Ctrl-C ends everything."""


if __name__ == "__main__":
    sys.exit(main())
