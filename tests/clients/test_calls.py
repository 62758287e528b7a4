import asyncio
from typing import get_args

import pytest
from yarl import URL

from rotation.clients.calls import Called, called, count, counted
from rotation.model import Calls

ARM = "https://management.azure.com"
SERVICE = "/subscriptions/S/resourceGroups/rg/providers/Microsoft.ApiManagement/service/apim"
WHOSE = {
    ("GET", f"{ARM}/subscriptions/S/providers/Microsoft.ApiManagement/service?api-version=x"): "arm_reads",
    ("GET", f"{ARM}{SERVICE}/operationresults/x"): "arm_reads",
    ("GET", f"{ARM}/Subscriptions/S/resourceGroups/rg"): "arm_reads",
    ("POST", f"{ARM}{SERVICE}/refreshHostnames"): "arm_writes",
    ("PUT", f"{ARM}{SERVICE}"): "arm_writes",
    ("POST", f"{ARM}/providers/Microsoft.ResourceGraph/resources"): "resource_graph_queries",
    ("GET", "https://kv.vault.azure.net/certificates/contoso-com/"): "key_vault_reads",
    ("GET", "https://kv.vault.azure.net/deletedcertificates/contoso-com"): "key_vault_reads",
    ("POST", "https://login.microsoftonline.com/T/oauth2/v2.0/token"): None,
    ("GET", "http://169.254.169.254/metadata/identity/oauth2/token"): None,
    ("GET", "https://st.table.core.windows.net/certificates(PartitionKey='x',RowKey='y')"): None,
    ("POST", "https://topic.westeurope-1.eventgrid.azure.net/api/events"): None,
    ("GET", f"{ARM}/"): None,
}


@pytest.mark.parametrize(("request_", "expected"), WHOSE.items(), ids=[" ".join(one) for one in WHOSE])
def test_a_request_is_drawn_from_the_budget_of(request_: tuple[str, str], expected: str | None) -> None:
    """Each of Azure's budgets is counted apart, and what is none of them is not counted."""
    method, url = request_

    assert expected == called(method, URL(url).path)


def test_what_can_be_counted_is_what_a_report_has() -> None:
    """No name is known to one and not to the other."""
    assert set(get_args(Called)) == set(Calls.__dataclass_fields__)


def test_passes_beside_each_other_count_their_own() -> None:
    """An event and the timer share a process, its clients and its sockets; not their counts."""

    async def call(number: int) -> None:
        for _ in range(number):
            count("arm_reads")
            await asyncio.sleep(0)

    async def run(number: int) -> int:
        with counted() as counter:
            await asyncio.gather(call(number), call(number))
        return counter["arm_reads"]

    async def both() -> list[int]:
        return list(await asyncio.gather(run(2), run(5)))

    assert [4, 10] == asyncio.run(both())


def test_what_nobody_counts_is_no_error() -> None:
    """The command line and the doctor use the same clients."""
    count("handshakes", 3)
