from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.host.process import FunctionsHost
from tests.host.helpers import SAMPLE_APP, Notes


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    """The notes of a host of the test's own."""
    return Notes(tmp_path)


@pytest.fixture(scope="session")
def shared_notes(tmp_path_factory: pytest.TempPathFactory) -> Notes:
    """The notes of the shared host."""
    return Notes(tmp_path_factory.mktemp("shared-host"))


@pytest.fixture(scope="session")
def host(shared_notes: Notes) -> Iterator[FunctionsHost]:
    """One host that runs the sample app, for all tests that need no host of their own."""
    off = {"AzureWebJobs.off.Disabled": "true", "AzureWebJobs.asleep.Disabled": "1"}
    with FunctionsHost(SAMPLE_APP, shared_notes.env | off) as running:
        yield running
