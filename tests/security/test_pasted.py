"""Commands that people are given to paste: what stands in them is not ours."""

import shlex

from rotation.cli.inventory import pinned
from rotation.model import Reason, Status
from tests.unit import build

GROUP = "rg(x);$(reboot)`id`'\""


def test_a_command_to_paste_runs_nothing_of_others() -> None:
    """Parentheses are allowed in the name of a resource group; ARM might hold worse."""
    bound = build.binding(pinned="0123456789abcdef0123456789abcdef")
    resource_id = build.GATEWAY_ID.replace(build.GATEWAY_ID.split("/")[4], GROUP)
    gateway = build.gateway(bound, resource_id=resource_id)
    verdict = build.verdict(Status.BLOCKED, Reason.PINNED_VERSION, of=build.evidence(of=bound, at=gateway))

    (pin,) = pinned(build.report([verdict]))
    words = shlex.split(pin.az)

    assert GROUP == words[words.index("--resource-group") + 1]
    assert f"hostnameConfigurations[0].keyVaultId={build.CERTIFICATE.secret_url}" == words[-1]
