import re
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import jsonschema
import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.identity import ManagedIdentityCredential
from azure.mgmt.apimanagement import ApiManagementClient
from azure.mgmt.apimanagement.models import ApiManagementServiceResource

from sandbox.arm_bodies import service_body
from sandbox.azure import Azure
from sandbox.world import Certificate, Clock, Hostname, Service, World
from tests.sandbox.clients import Answer, api_management, bearer, eventually, fetch

ARM = "https://management.azure.com"
VERSION = "api-version=2025-09-01-preview"


@pytest.fixture
def service(world: World, certificate: Certificate) -> Service:
    """A service with every kind of hostname, in two regions and a virtual network."""
    return world.add_service(
        "apim-Prod",
        regions={"West Europe": 2, "East US 2": 1},
        virtual_network_type="Internal",
        hostnames=[
            Hostname("api.contoso.com", certificate),
            Hostname("portal.contoso.com", certificate, type="DeveloperPortal"),
            Hostname("pinned.contoso.com", pinned_version=certificate.newest),
            Hostname("upload.contoso.com", uploaded=world.ca.issue(["upload.contoso.com"])),
            Hostname("free.contoso.com", managed=True),
        ],
    )


@pytest.fixture
def client(azure: Azure, credential: ManagedIdentityCredential) -> Iterator[ApiManagementClient]:
    """The real SDK."""
    with api_management(azure, credential) as client:
        yield client


def ask(azure: Azure, path: str, method: str = "GET", query: str = VERSION) -> Answer:
    """A request with a good token and without an SDK."""
    return fetch(azure, f"{azure.arm_url}{path}?{query}", method=method, headers=bearer(azure, ARM))


def test_a_service_validates_against_the_schema(
    world: World, service: Service, contract: Callable[[str], Any]
) -> None:
    """What the sandbox shows is a service in the sense of the official types."""
    schema = contract("apim/service-types.2025-09-01-preview.schema.json")
    schema = {**schema, "$ref": "#/definitions/Microsoft.ApiManagement~1service"}

    jsonschema.validate(service_body(service, world.clock.now()), schema)


@pytest.mark.parametrize(
    "example", ["ApiManagementServiceGetService.json", "ApiManagementServiceRefreshKeyVaultHostnames.json"]
)
def test_a_service_has_the_fields_of_the_official_example(
    world: World, service: Service, contract: Callable[[str], Any], example: str
) -> None:
    """A client that reads a field of the real thing finds it here."""
    official = contract(f"apim/examples/{example}")["responses"]["200"]["body"]
    ours = service_body(service, world.clock.now())
    theirs, properties = official["properties"], ours["properties"]

    assert set() == set(official) - set(ours)
    assert set() == set(theirs) - set(properties)
    assert set() == set(theirs["additionalLocations"][0]) - set(properties["additionalLocations"][0])
    for position in range(2):
        official_host, our_host = (each["hostnameConfigurations"][position] for each in (theirs, properties))
        assert set(official_host) == set(our_host)
    address = re.compile(r"https://[^.]+-[a-z0-9]+-01\.regional\.azure-api\.net")
    assert address.fullmatch(theirs["gatewayRegionalUrl"])
    assert (
        (properties["additionalLocations"][0]["gatewayRegionalUrl"])
        == "https://apim-prod-eastus2-01.regional.azure-api.net"
    )


def test_hostnames_show_where_their_certificate_comes_from(
    world: World, service: Service, certificate: Certificate
) -> None:
    """What tells is keyVaultId; certificateSource says Custom for some, as in the official example."""
    shown = service_body(service, world.clock.now())["properties"]["hostnameConfigurations"]

    assert [
        ("apim-prod.azure-api.net", "BuiltIn", None),
        ("api.contoso.com", "KeyVault", certificate.secret_id),
        ("portal.contoso.com", "Custom", certificate.secret_id),
        ("pinned.contoso.com", "KeyVault", certificate.newest.secret_id),
        ("upload.contoso.com", "Custom", None),
        ("free.contoso.com", "Managed", None),
    ] == [(host["hostName"], host["certificateSource"], host.get("keyVaultId")) for host in shown]
    assert certificate.newest.thumbprint == shown[1]["certificate"]["thumbprint"]


def test_the_sdk_pages_through_a_subscription(azure: Azure, client: ApiManagementClient) -> None:
    """A nextLink leads on, on the host that was called, until every service was seen once."""
    azure.world.page_size = 2
    names = [f"apim-{number}" for number in range(5)]
    for name in names:
        azure.world.add_service(name)
    azure.world.add_service("apim-elsewhere", subscription_id=str(uuid.UUID(int=7)))

    listed = [service.name for service in client.api_management_service.list()]
    grouped = [service.name for service in client.api_management_service.list_by_resource_group("RG-APIM")]

    assert (names, names) == (listed, grouped)
    assert len([request for request in azure.world.requests if request.server == "arm"]) == 6


def test_the_sdk_gets_a_service_whatever_the_case_of_its_name(
    client: ApiManagementClient, service: Service
) -> None:
    """ARM's names do not depend on case."""
    found = client.api_management_service.get("Rg-Apim", "APIM-prod")

    assert service.id == found.id
    assert found.properties is not None
    assert str(found.sku.capacity) == "2"


def test_the_sdk_waits_for_a_sync(
    azure: Azure, client: ApiManagementClient, service: Service, certificate: Certificate
) -> None:
    """202 with Location, polls that answer 202, and in the end the service with the new certificate."""
    azure.world.retry_after = 0  # otherwise the SDK sleeps for a minute
    renewed = certificate.renew()
    poller = client.api_management_service.begin_refresh_hostnames("rg-apim", "apim-prod")
    polled = eventually(lambda: any("operationresults" in request.path for request in azure.world.requests))
    done_early = poller.done()
    azure.world.clock.advance(timedelta(minutes=21))

    result = poller.result(timeout=10)

    assert (polled, done_early) == (True, False)
    assert isinstance(result, ApiManagementServiceResource)
    assert result.properties.hostname_configurations is not None
    shown = result.properties.hostname_configurations[1].certificate
    assert shown is not None
    assert renewed.thumbprint == shown.thumbprint
    assert len(service.syncs) == 1


def test_the_sdk_sees_a_locked_service_as_it_was_recorded(
    azure: Azure, client: ApiManagementClient, service: Service, contract: Callable[[str], Any]
) -> None:
    """409 ServiceLocked, without Retry-After; nothing is accepted."""
    service.begin_foreign_update(timedelta(minutes=30))

    with pytest.raises(ResourceExistsError) as caught:
        client.api_management_service.begin_refresh_hostnames("rg-apim", "apim-prod", polling=False)
    answer = ask(azure, f"{service.id}/refreshHostnames", "POST")

    recorded = contract("apim/examples/recorded-409-ServiceLocked.json")["response"]
    text = recorded["body"]["error"]["message"].replace("myservicexxx1", service.name)
    assert caught.value.error is not None
    assert caught.value.error.code == "ServiceLocked"
    assert {"error": recorded["body"]["error"] | {"message": text}} == answer.json()
    assert (answer.status, answer.headers.get("Retry-After")) == (409, None)
    assert recorded["headers"]["Content-Type"] == answer.headers["Content-Type"]
    assert service.syncs == []


def test_an_operation_looks_as_it_was_recorded(
    azure: Azure, service: Service, contract: Callable[[str], Any]
) -> None:
    """An empty 202 that names its own address, a minute to wait, then the service."""
    recorded = contract("apim/examples/recorded-202-operationresults.json")["response"]
    accepted = ask(azure, f"{service.id}/refreshHostnames", "POST")
    location = accepted.headers["Location"]
    headers = bearer(azure, ARM)
    running = fetch(azure, location, headers=headers)
    azure.world.clock.advance(timedelta(minutes=20))
    ended = fetch(azure, location, headers=headers)
    azure.world.operation_ends_with = 204
    ended_otherwise = fetch(azure, location, headers=headers)

    assert (accepted.status, accepted.body) == (202, b"")
    assert (recorded["status"], recorded["body"]) == (running.status, running.body.decode())
    assert (location, recorded["headers"]["Retry-After"]) == (
        running.headers["Location"],
        running.headers["Retry-After"],
    )
    assert (200, service.id) == (ended.status, ended.json()["id"])
    assert (ended_otherwise.status, ended_otherwise.body) == (204, b"")


def test_a_failed_sync_ends_in_400_while_the_service_says_succeeded(
    azure: Azure, client: ApiManagementClient, service: Service
) -> None:
    """Only the operation tells that the vault could not be read."""
    azure.world.retry_after = 0
    service.identity_can_read_vault = False
    poller = client.api_management_service.begin_refresh_hostnames("rg-apim", "apim-prod")
    azure.world.clock.advance(timedelta(minutes=21))

    with pytest.raises(HttpResponseError) as caught:
        poller.result(timeout=10)

    assert caught.value.error is not None
    assert (caught.value.status_code, caught.value.error.code) == (400, "InvalidOperation")
    assert "Failed to access KeyVault Secret" in str(caught.value.error.message)
    assert ask(azure, service.id).json()["properties"]["provisioningState"] == "Succeeded"


def test_a_sync_may_be_answered_with_200_at_once(azure: Azure, service: Service) -> None:
    """The specification allows it; nothing else changes."""
    service.accepts_with = 200

    answer = ask(azure, f"{service.id}/refreshHostnames", "POST")

    assert (answer.status, answer.json()["properties"]["provisioningState"]) == (200, "Updating")


PATH = "/subscriptions/{own}/resourceGroups/rg-apim/providers/Microsoft.ApiManagement/service"


@pytest.mark.parametrize(
    ("target", "query", "refusal"),
    [
        (f"GET {PATH}", "", (400, "MissingApiVersionParameter")),
        (f"GET {PATH}", "api-version=soon", (400, "InvalidApiVersionParameter")),
        (f"GET {PATH}/apim-none", VERSION, (404, "ResourceNotFound")),
        (f"GET {PATH.replace('rg-apim', 'rg-none')}", VERSION, (404, "ResourceGroupNotFound")),
        (f"GET {PATH.replace('{own}', 'unheard-of')}", VERSION, (404, "SubscriptionNotFound")),
        (f"GET {PATH.replace('{own}', '{denied}')}", VERSION, (403, "AuthorizationFailed")),
        (
            f"POST {PATH}/apim-prod/refreshHostnames",
            "api-version=2024-05-01",
            (400, "NoRegisteredProviderFound"),
        ),
        (f"GET {PATH}/apim-prod/operationresults/x", VERSION, (404, "OperationNotFound")),
        (f"DELETE {PATH}/apim-prod", VERSION, (404, "InvalidResourceType")),
    ],
)
def test_a_mistake_is_answered_in_arms_words(
    azure: Azure, service: Service, target: str, query: str, refusal: tuple[int, str]
) -> None:
    """Each refusal has its status and code, and none starts a sync."""
    denied = azure.world.add_service("apim-denied", subscription_id=str(uuid.UUID(int=8))).subscription_id
    azure.world.denied_subscriptions.add(denied)
    method, path = target.format(own=azure.world.subscription_id, denied=denied).split()

    answer = ask(azure, path, method, query)

    assert refusal == (answer.status, answer.json()["error"]["code"])
    assert service.syncs == []


@pytest.mark.parametrize(
    ("resource", "status"),
    [
        (None, 401),
        ("https://vault.azure.net", 401),
        ("https://management.azure.com", 200),
        ("https://management.azure.com/", 200),
        ("https://management.core.windows.net/", 200),
    ],
)
def test_a_token_must_be_for_arm(azure: Azure, service: Service, resource: str | None, status: int) -> None:
    """No token and a token for something else are both refused."""
    headers = bearer(azure, resource) if resource else {}

    answer = fetch(azure, f"{azure.arm_url}{service.id}?{VERSION}", headers=headers)

    assert status == answer.status
    assert (status == 401) == ("WWW-Authenticate" in answer.headers)


def test_a_token_expires(azure: Azure, service: Service) -> None:
    """By the sandbox's clock, when a test gives tokens a real lifetime."""
    azure.world.token_lifetime = timedelta(hours=1)
    headers = bearer(azure, ARM)
    azure.world.clock.advance(timedelta(hours=2))

    answer = fetch(azure, f"{azure.arm_url}{service.id}?{VERSION}", headers=headers)

    assert (answer.status, answer.json()["error"]["code"]) == (401, "ExpiredAuthenticationToken")


def test_answers_carry_the_sandboxs_date_and_arms_headers(azure: Azure, service: Service) -> None:
    """A client may take the service's time from Date, and log the ids."""
    azure.world.clock.advance(timedelta(days=3))

    answer = ask(azure, service.id)

    date = parsedate_to_datetime(answer.headers["Date"])
    assert abs(azure.world.clock.now() - date) < timedelta(seconds=5)
    assert date.timestamp() - time.time() > timedelta(days=2).total_seconds()
    for header in (
        "x-ms-request-id",
        "x-ms-correlation-request-id",
        "x-ms-ratelimit-remaining-subscription-reads",
    ):
        assert answer.headers[header]


class StillClock(Clock):
    """Time passes only where a test lets it."""

    def now(self) -> datetime:
        """Its start and what was advanced."""
        return self._started + self._advanced


def test_a_bucket_of_requests_empties_and_fills_again() -> None:
    """As ARM throttles: 429 with Retry-After, each kind of request by itself."""
    world = World(StillClock())
    service = world.add_service("apim")
    with Azure(world) as azure:
        answers = [ask(azure, f"{service.id}/refreshHostnames", "POST") for _ in range(201)]
        read = ask(azure, service.id)
        world.clock.advance(timedelta(seconds=1))
        later = ask(azure, f"{service.id}/refreshHostnames", "POST")

    header = "x-ms-ratelimit-remaining-subscription-"
    assert [202, *[409] * 199, 429] == [answer.status for answer in answers]
    assert ["199", "0"] == [answers[n].headers[f"{header}writes"] for n in (0, 199)]
    assert "SubscriptionRequestsThrottled" == answers[-1].json()["error"]["code"]
    assert "1" == answers[-1].headers["Retry-After"]
    assert (200, "249") == (read.status, read.headers[f"{header}reads"])
    assert (409, "9") == (later.status, later.headers[f"{header}writes"])
