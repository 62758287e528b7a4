"""What ARM says of rights, vaults, topics and networks, in the shapes of the official references."""

from typing import Any

from sandbox.azure import Azure
from sandbox.world import Certificate, Hostname, Vault, World
from tests.sandbox.clients import bearer, fetch

ARM = "https://management.azure.com"
AUTHORIZATION = "providers/Microsoft.Authorization"
READS_SECRETS = "4633458b-17de-408a-b874-0445c86b69e6"


def ask(azure: Azure, path: str, query: str = "") -> Any:
    """The body of an answer."""
    url = f"{azure.arm_url}{path}?api-version=2022-04-01{query}"
    return fetch(azure, url, headers=bearer(azure, ARM)).json()


def test_a_reader_of_secrets_has_a_role_or_an_access_policy(
    world: World, vault: Vault, certificate: Certificate, azure: Azure
) -> None:
    """By the vault's permission model, and neither where access was taken away."""
    service = world.add_service("apim-prod", hostnames=[Hostname("api.contoso.com", certificate)])
    principal = service.guid("principal")
    path = f"{vault.id}/{AUTHORIZATION}/roleAssignments"
    query = f"&$filter=assignedTo('{principal}')"
    vaults = f"/subscriptions/{world.subscription_id}/providers/Microsoft.KeyVault/vaults"

    assigned = ask(azure, path, query)["value"]
    others = ask(azure, path, "&$filter=assignedTo('00000000-0000-0000-0000-000000000000')")["value"]
    vault.role_based = False
    policies = ask(azure, vaults)["value"][0]["properties"]["accessPolicies"]
    service.identity_can_read_vault = False
    without = ask(azure, vaults)["value"][0]["properties"]["accessPolicies"]

    assert assigned[0]["properties"]["roleDefinitionId"].endswith(READS_SECRETS)
    assert (principal, []) == (assigned[0]["properties"]["principalId"], others)
    assert [(principal, ["get"])] == [(p["objectId"], p["permissions"]["secrets"]) for p in policies]
    assert [] == without
    assert "UnsupportedQuery" == ask(azure, path, "&$filter=atScope()")["error"]["code"]


def test_a_vault_has_a_topic_with_the_apps_event_subscription(
    world: World, vault: Vault, azure: Azure
) -> None:
    """None of both where nobody subscribed."""
    topics = f"/subscriptions/{world.subscription_id}/providers/Microsoft.EventGrid/systemTopics"

    topic = ask(azure, topics)["value"][0]
    subscription = ask(azure, f"{topic['id']}/eventSubscriptions")["value"][0]["properties"]
    vault.subscribed = None
    without = ask(azure, topics)["value"]

    assert vault.id == topic["properties"]["source"]
    assert "Microsoft.KeyVault.CertificateNewVersionCreated" in subscription["filter"]["includedEventTypes"]
    assert "AzureFunction" == subscription["destination"]["endpointType"]
    assert [] == without


def test_the_provider_lists_the_sync_and_the_caller_may_ask_for_it(world: World, azure: Azure) -> None:
    """Both are the world's to take away."""
    service = world.add_service("apim-prod")
    action = "Microsoft.ApiManagement/service/refreshHostnames/action"
    operations = f"/{AUTHORIZATION}/providerOperations/Microsoft.ApiManagement"

    listed = ask(azure, operations)["resourceTypes"][0]["operations"]
    granted = ask(azure, f"{service.id}/{AUTHORIZATION}/permissions")["value"][0]["actions"]
    world.registers_sync = False
    unlisted = ask(azure, operations)["resourceTypes"][0]["operations"]

    assert action in {operation["name"] for operation in listed}
    assert action in granted
    assert action not in {operation["name"] for operation in unlisted}


def test_a_service_tells_of_its_way_to_the_vault_region_by_region(
    world: World, certificate: Certificate, azure: Azure
) -> None:
    """NetworkStatus_ListByService answers with a bare array."""
    hostnames = [Hostname("api.contoso.com", certificate)]
    service = world.add_service("apim-prod", hostnames=hostnames, regions={"West Europe": 1, "East US": 1})

    status = ask(azure, f"{service.id}/networkstatus")

    assert ["West Europe", "East US"] == [place["location"] for place in status]
    checks = status[0]["networkStatus"]["connectivityStatus"]
    assert [(certificate.vault.host, "success")] == [(check["name"], check["status"]) for check in checks]
