"""A pretend Azure for each test, in the environment of an app."""

from collections.abc import Iterator

import pytest

from sandbox.azure import Azure
from sandbox.world import Certificate, Vault, World


@pytest.fixture
def world() -> World:
    """A world without anything in it."""
    return World()


@pytest.fixture
def vault(world: World) -> Vault:
    """A vault without certificates."""
    return world.add_vault("kv-gateways")


@pytest.fixture
def certificate(vault: Vault) -> Certificate:
    """A certificate with one version."""
    return vault.add_certificate("api-contoso-com", ["api.contoso.com", "*.contoso.com"])


@pytest.fixture
def azure(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    """The world on the wire, and the environment that leads to it."""
    with Azure(world) as azure:
        for name, value in azure.app_settings().items():
            monkeypatch.setenv(name, value)
        yield azure
