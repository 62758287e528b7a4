import hashlib
import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jsonschema
import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity import ManagedIdentityCredential
from azure.mgmt.resourcegraph import ResourceGraphClient
from azure.mgmt.resourcegraph.models import QueryRequest, QueryRequestOptions

from sandbox.azure import Azure
from sandbox.world import Certificate, Hostname, Recommendation, Service, World
from tests.sandbox.clients import Answer, bearer, fetch

ARM = "https://management.azure.com"
PATH = "/providers/Microsoft.ResourceGraph/resources"
OTHER = str(uuid.UUID(int=7))
QUERY = "resources | where type =~ 'Microsoft.ApiManagement/service' | project id, name | order by name asc"


@pytest.fixture
def service(world: World, certificate: Certificate) -> Service:
    """A service with a hostname that follows a certificate, and nothing that has a tag."""
    return world.add_service("apim-Prod", hostnames=[Hostname("api.contoso.com", certificate)])


def ask(azure: Azure, query: object = QUERY, resource: str | None = ARM, **more: object) -> Answer:
    """A query without an SDK."""
    return fetch(
        azure,
        f"{azure.arm_url}{PATH}?api-version=2021-03-01",
        method="POST",
        headers=bearer(azure, resource) if resource else {},
        data=json.dumps({"query": query, **more}).encode(),
    )


def rows(answer: Answer) -> list[dict[str, Any]]:
    """The rows of a good answer."""
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def refusal(answer: Answer) -> tuple[int, str]:
    """The status of a bad answer, and the code that says more."""
    error = answer.json()["error"]
    return answer.status, (error.get("details") or [error])[0]["code"]


def test_the_sdk_pages_through_all_subscriptions(
    azure: Azure, world: World, credential: ManagedIdentityCredential
) -> None:
    """Each row is seen once, and the last page has no token."""
    world.graph.most_rows = 2
    names = [world.add_service(f"apim-{n}", subscription_id=str(uuid.UUID(int=n + 9))).name for n in range(5)]
    seen: list[str] = []
    token = None
    with ResourceGraphClient(
        credential,
        azure.arm_url,
        credential_scopes=[f"{ARM}/.default"],
        connection_verify=str(azure.ca_file),
        retry_total=0,
    ) as client:
        while True:
            options = QueryRequestOptions(skip_token=token, top=1000)
            page = client.resources(QueryRequest(query=QUERY, options=options))
            data: Any = page.data
            seen += [row["name"] for row in data]
            assert (5, len(data)) == (page.total_records, page.count)
            assert "false" == page.result_truncated
            token = page.skip_token
            if not token:
                break

        with pytest.raises(HttpResponseError, match="InvalidQuery"):
            client.resources(QueryRequest(query="resources | summarize count()"))

    assert names == seen


def test_an_answer_validates_against_the_schema(
    azure: Azure, service: Service, contract: Callable[[str], Any]
) -> None:
    """A QueryResponse or an ErrorResponse, but for `data`, a list that Azure's own schema calls an object."""
    swagger = contract("resourcegraph/resourcegraph.2021-03-01.subset.json")
    definitions = swagger["definitions"]
    definitions["QueryResponse"]["properties"]["data"]["type"] = "array"

    for answer, name in ((ask(azure), "QueryResponse"), (ask(azure, "nonsense"), "ErrorResponse")):
        jsonschema.validate(answer.json(), {"$ref": f"#/definitions/{name}", "definitions": definitions})
    assert service.name == rows(ask(azure))[0]["name"]


def test_a_row_has_the_columns_of_the_table(azure: Azure, service: Service, certificate: Certificate) -> None:
    """Type and resource group are in lower case, the properties are those of ARM, and no tags are null."""
    [row] = rows(ask(azure, "resources"))

    assert ("microsoft.apimanagement/service", "rg-apim", service.subscription_id, None) == (
        row["type"],
        row["resourceGroup"],
        row["subscriptionId"],
        row["tags"],
    )
    shown = row["properties"]["hostnameConfigurations"][1]
    assert (certificate.secret_id, certificate.newest.thumbprint) == (
        shown["keyVaultId"],
        shown["certificate"]["thumbprint"],
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("resources | project name", [{"name": "apim-Prod"}]),
        ("Resources | project a = name, sku.name", [{"a": "apim-Prod", "sku_name": "Premium"}]),
        ("resources | project a = properties.none.such, b = tostring(tags)", [{"a": None, "b": ""}]),
        ("resources | project a = tostring(sku.capacity)", [{"a": "2"}]),
        ("resources | where type == 'Microsoft.ApiManagement/service' | project name", []),
        ("resources | where tostring(sku.name) =~ 'PREMIUM' | project name", [{"name": "apim-Prod"}]),
        ("resources | where name =~ 'other' | project name", []),
        ("advisorresources | project name", []),
    ],
)
def test_what_of_the_language_is_understood(
    azure: Azure, service: Service, query: str, expected: list[dict[str, Any]]
) -> None:
    """As much as it takes to find services."""
    assert service.name == "apim-Prod"
    assert expected == rows(ask(azure, query))


def test_order_by_descends_unless_told_otherwise(azure: Azure, world: World) -> None:
    """Kusto's default, which surprises people used to SQL."""
    names = [world.add_service(f"apim-{n}").name for n in range(4)]

    assert names == [row["name"] for row in rows(ask(azure, "resources | order by name asc"))]
    assert names[::-1] == [row["name"] for row in rows(ask(azure, "resources | order by name"))]


def test_without_an_id_there_is_no_next_page(azure: Azure, world: World) -> None:
    """The answer is truncated and has no token, as the documentation warns."""
    world.graph.most_rows = 1
    for n in range(3):
        world.add_service(f"apim-{n}")

    page = ask(azure, "resources | project name | order by name asc").json()

    assert (3, 1, "true", None) == (
        page["totalRecords"],
        page["count"],
        page["resultTruncated"],
        page.get("$skipToken"),
    )


@pytest.mark.parametrize(
    ("request_body", "code"),
    [
        ({"query": 5}, "InvalidQuery"),
        ({"query": "secrets"}, "InvalidQuery"),
        ({"query": "resources | where name startswith 'x'"}, "InvalidQuery"),
        ({"query": "resources | where name contains 'x' or name startswith 'x'"}, "InvalidQuery"),
        ({"query": "resources | where substring(hash_md5(tolower(id)), 0, 2) in ('00')"}, "InvalidQuery"),
        ({"query": "resources | project"}, "InvalidQuery"),
        ({"query": "resources | project strcat(name)"}, "InvalidQuery"),
        ({"query": "resources | take 5"}, "InvalidQuery"),
        ({"options": {"$top": 1001}}, "InvalidQuery"),
        ({"options": {"$top": 0}}, "InvalidQuery"),
        ({"options": {"resultFormat": "table"}}, "InvalidQuery"),
        ({"options": {"$skipToken": "x"}}, "InvalidSkipToken"),
        ({"subscriptions": ["x"]}, "SubscriptionsContainInvalidGuids"),
        ({"subscriptions": [OTHER]}, "NoValidSubscriptionsInQueryRequest"),
    ],
)
def test_what_is_not_understood_is_refused(
    azure: Azure, service: Service, request_body: dict[str, Any], code: str
) -> None:
    """A wrong query never looks like an empty answer."""
    assert service.name
    assert (400, code) == refusal(ask(azure, **{"query": QUERY, **request_body}))


def test_a_skip_token_is_for_its_own_query(azure: Azure, world: World) -> None:
    """It carries the context of the query."""
    world.graph.most_rows = 1
    for n in range(3):
        world.add_service(f"apim-{n}")
    token = ask(azure).json()["$skipToken"]

    assert [200, 400] == [
        ask(azure, query, options={"$skipToken": token}).status for query in (QUERY, "resources")
    ]


def test_what_may_not_be_read_is_left_out_in_silence(azure: Azure, service: Service) -> None:
    """An unreadable subscription looks like an empty one, as long as another can be read."""
    azure.world.add_service("apim-denied", subscription_id=OTHER)
    azure.world.denied_subscriptions.add(OTHER)

    both = ask(azure, subscriptions=[OTHER, service.subscription_id])

    assert [service.name] == [row["name"] for row in rows(both)]
    assert (400, "NoValidSubscriptionsInQueryRequest") == refusal(ask(azure, subscriptions=[OTHER]))


def test_it_can_be_denied(azure: Azure) -> None:
    """With ARM's own error."""
    azure.world.graph.denied = True

    assert (403, "AuthorizationFailed") == refusal(ask(azure))


def test_a_token_is_needed(azure: Azure) -> None:
    """As everywhere at ARM."""
    assert [401, 401, 200] == [
        ask(azure, resource=resource).status for resource in (None, "https://vault.azure.net", ARM)
    ]


def test_rows_lag_behind(azure: Azure, service: Service) -> None:
    """New services are not there yet, deleted ones still are, and a change is seen later than at ARM."""
    query = "resources | project name, state = properties.provisioningState | order by name asc"
    azure.world.graph.lag = timedelta(minutes=1)
    assert [] == rows(ask(azure, query))

    azure.world.clock.advance(timedelta(minutes=2))
    service.begin_sync()
    other = azure.world.add_service("apim-zero")
    assert [{"name": "apim-Prod", "state": "Succeeded"}] == rows(ask(azure, query))

    azure.world.clock.advance(timedelta(minutes=2))
    azure.world.remove_service(other)
    two = [{"name": "apim-Prod", "state": "Updating"}, {"name": "apim-zero", "state": "Succeeded"}]
    assert two == rows(ask(azure, query))

    azure.world.clock.advance(timedelta(minutes=2))
    assert two[:1] == rows(ask(azure, query))


def test_fields_can_be_hidden(azure: Azure, service: Service) -> None:
    """In each element of a list; the rest of the row stays, and ARM shows all of it."""
    azure.world.graph.hidden |= {"sku.capacity", "properties.hostnameConfigurations.keyVaultId", "tags.x.y"}

    [row] = rows(ask(azure, "resources"))

    assert {"name": "Premium"} == row["sku"]
    hostnames = row["properties"]["hostnameConfigurations"]
    assert [False, False] == ["keyVaultId" in hostname for hostname in hostnames]
    assert "api.contoso.com" == hostnames[1]["hostName"]
    whole = fetch(
        azure, f"{azure.arm_url}{service.id}?api-version=2024-05-01", headers=bearer(azure, ARM)
    ).json()
    assert "keyVaultId" in whole["properties"]["hostnameConfigurations"][1]


def test_a_user_has_a_quota(azure: Azure) -> None:
    """The headers tell what is left; who does not listen gets 429, and the next window is a new start."""
    azure.world.graph.quota = 2
    azure.world.graph.window = timedelta(seconds=50)

    answers = [ask(azure) for _ in range(3)]
    azure.world.clock.advance(timedelta(seconds=51))
    later = ask(azure)

    left = "x-ms-user-quota-remaining"
    assert [(200, "1"), (200, "0"), (429, "0")] == [(each.status, each.headers[left]) for each in answers]
    assert (200, "1") == (later.status, later.headers[left])
    refused = answers[-1]
    hours, minutes, seconds = refused.headers["x-ms-user-quota-resets-after"].split(":")
    assert ("00", "00", refused.headers["Retry-After"]) == (hours, minutes, str(int(seconds)))
    assert (429, "RateLimiting") == refusal(refused)


def test_advisor_recommends(azure: Azure, service: Service) -> None:
    """In a table of its own, by the id of the recommendation's type, about a resource in lower case."""
    azure.world.add_service("apim-fine")
    service.recommendations = set(Recommendation)
    wanted = Recommendation.HOSTNAME_CERT_ROTATION_FAIL

    found = rows(
        ask(
            azure,
            "advisorresources | where type =~ 'microsoft.advisor/recommendations'"
            f" | where tostring(properties.recommendationTypeId) =~ '{wanted.upper()}'"
            " | project about = properties.resourceMetadata.resourceId,"
            " problem = properties.shortDescription.problem",
        )
    )

    assert [{"about": service.id.lower(), "problem": "Hostname certificate rotation failed"}] == found


def test_services_can_be_counted_found_by_a_hash_and_by_a_part_of_their_text(
    azure: Azure, world: World
) -> None:
    """What a fleet in shards asks for, as Kusto says it."""
    services = [world.add_service(f"apim-{n}") for n in range(6)]
    beginnings = {hashlib.sha256(s.id.lower().encode()).hexdigest()[:2]: s.id for s in services}
    some = sorted(beginnings)[:2]
    literals = ", ".join(f"'{each}'" for each in some)
    hashed = f"resources | where substring(hash_sha256(tolower(id)), 0, 2) in ({literals}) | project id"
    contains = (
        "resources | where tostring(properties) contains 'APIM-3' or name contains 'im-5' | project name"
    )
    counted = "resources | summarize services = count() by subscriptionId"

    def rows(query: str) -> Any:
        return ask(azure, query=query).json()["data"]

    assert {beginnings[each] for each in some} == {row["id"] for row in rows(hashed)}
    assert ["apim-3", "apim-5"] == sorted(row["name"] for row in rows(contains))
    assert [6] == [row["services"] for row in rows(counted)]
