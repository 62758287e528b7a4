"""What only a tenant can answer, both ways: the same rotation under whatever Azure may turn out to answer.

The open points are those of the operation: 200 or 202, whether it locks the service, whether ARM shows the
new thumbprint before the units serve it, and how its end looks.
"""

from datetime import timedelta
from itertools import product

import pytest

from sandbox.stage import Stage
from sandbox.world import Hostname, World

HOST = "api.contoso.com"
# Half of the combinations, chosen so that every three of the four points meet in every way.
ANSWERS = [
    (status, locks, shown, 200 if (status == 200) ^ locks ^ (shown == "at_once") else 204)
    for status, locks, shown in product((200, 202), (True, False), ("update_ends", "at_once"))
]


@pytest.mark.parametrize(("accepts_with", "sets_updating", "configured_when", "ends_with"), ANSWERS)
def test_a_rotation_is_proven_with_one_sync_whatever_azure_answers(
    accepts_with: int, *, sets_updating: bool, configured_when: str, ends_with: int
) -> None:
    """Never green before the last unit serves it, never a second sync while the first is under way."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    regions = {"West Europe": 2, "North Europe": 1}
    service = world.add_service("apim", regions=regions, hostnames=(Hostname(HOST, certificate=certificate),))
    service.accepts_with = 200 if accepts_with == 200 else 202
    service.sets_updating = sets_updating
    service.configured_when = "at_once" if configured_when == "at_once" else "update_ends"
    service.lag = {"North Europe": timedelta(minutes=4)}
    world.operation_ends_with = 200 if ends_with == 200 else 204
    with Stage(world) as stage:
        new = certificate.renew().thumbprint
        stage.settle()
        for _ in range(6):
            verdict = stage.tick()[HOST]
            leaves = {leaf for region in regions for leaf in stage.handshakes(service, region, HOST)}
            assert ("IN_SYNC" if leaves == {new} else "SYNCING") == verdict["status"], verdict["message"]
            world.clock.advance(timedelta(minutes=5))

        assert "IN_SYNC" == stage.tick()[HOST]["status"]
        assert len(service.syncs) == 1
        assert 1 == len(world.custom_events("RotationProven"))
