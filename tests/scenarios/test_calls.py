"""What a run says that it has called is what has arrived."""

from collections import Counter
from datetime import timedelta

import pytest

from sandbox.stage import Stage
from sandbox.world import CustomEvent, Fault, Hostname, Request, Server, World


def arrived(requests: list[Request]) -> Counter[str]:
    """What Azure's side has counted, by the names of the event."""
    counted = Counter[str]()
    for request in requests:
        if request.server is Server.VAULT:
            counted["key_vault_reads"] += 1
        elif request.server is Server.ARM and "Microsoft.ResourceGraph" in request.path:
            counted["resource_graph_queries"] += 1
        elif request.server is Server.ARM:
            counted["arm_reads" if request.method == "GET" else "arm_writes"] += 1
    return counted


def told(run: CustomEvent) -> Counter[str]:
    """What the run has counted, without its handshakes."""
    names = ("arm_reads", "arm_writes", "resource_graph_queries", "key_vault_reads")
    return Counter({name: int(run.measurements[name]) for name in names if run.measurements[name]})


@pytest.mark.parametrize("fault", [None, Server.VAULT, Server.ARM])
def test_every_request_of_a_run_is_counted(fault: Server | None) -> None:
    """Proves it on both sides of the wire, through a sync, and with a request that has to be sent again."""
    world = World()
    certificate = world.add_vault("kv-contoso").add_certificate("contoso-com", ["*.contoso.com"])
    world.add_service(
        "apim-contoso",
        regions={"West Europe": 2},
        hostnames=(Hostname("api.contoso.com", certificate=certificate),),
    )
    with Stage(world, schema=None) as stage:
        certificate.renew()
        world.clock.advance(timedelta(minutes=30))
        if fault:
            world.faults.append(Fault(fault, status=503))
        before = len(world.requests)
        stage.tick()
        requests = world.requests[before:]
        run = stage.timer_runs()[-1]
        connections = [e.measurements["connections"] for e in world.custom_events("CertificateVerified")]

    assert 1.0 == run.measurements["syncs"] == run.measurements["arm_writes"]
    assert arrived(requests) == told(run)
    assert 7 <= sum(connections) == run.measurements["handshakes"]


def test_an_event_connects_to_each_hostname_no_more_often_than_it_says() -> None:
    """What was seen beside the other reads is not looked at again, nor a settled neighbour proven."""
    world = World()
    vault = world.add_vault("kv-contoso")
    renewed, other = (vault.add_certificate(name, [f"{name}.contoso.com"]) for name in ("api", "www"))
    hostnames = [Hostname(f"{each.name}.contoso.com", certificate=each) for each in (renewed, other)]
    world.add_service("apim-contoso", regions={"West Europe": 2}, hostnames=tuple(hostnames))
    with Stage(world) as stage:
        stage.tick()
        before = len(world.custom_events("CertificateVerified"))
        renewed.renew()
        stage.settle()
        seen = world.custom_events("CertificateVerified")[before:]
        run = world.custom_events("RunCompleted")[-1]

    connections = {e.properties["hostname"]: e.measurements["connections"] for e in seen}
    assert (3, 7) == (len(connections), connections["api.contoso.com"])
    assert connections["www.contoso.com"] in {1, 7}  # once an hour it is proven again
    assert ("event", 1.0) == (run.properties["trigger"], run.measurements["syncs"])
    assert sum(connections.values()) == run.measurements["handshakes"]
