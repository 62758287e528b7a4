"""A pretend Azure for each test, and the official payloads to compare it with."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.identity import ManagedIdentityCredential

from sandbox.azure import Azure
from sandbox.world import Certificate, Vault, World

CONTRACTS = Path(__file__).resolve().parents[2].parent / "shared" / "contracts"


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
def azure(world: World) -> Iterator[Azure]:
    """The world on the wire; services added later need `azure.expose`."""
    with Azure(world) as azure:
        yield azure


@pytest.fixture
def credential(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> Iterator[ManagedIdentityCredential]:
    """The real managed identity client, in the environment of an app."""
    for name, value in azure.app_settings().items():
        monkeypatch.setenv(name, value)
    with ManagedIdentityCredential() as credential:
        yield credential


@pytest.fixture
def contract() -> Callable[[str], Any]:
    """Reads an official payload or schema."""

    def read(name: str) -> Any:
        if not CONTRACTS.is_dir():
            pytest.skip(f"the contract data is not at {CONTRACTS}")
        return json.loads((CONTRACTS / name).read_text())

    return read
