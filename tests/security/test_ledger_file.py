"""The embedded ledger on a machine that others use too."""

import asyncio
import sys
from pathlib import Path

import pytest

from rotation.clients.sqlite_ledger import SqliteLedger
from rotation.reconcile import LedgerUnavailableError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes of files mean nothing there")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder like /tmp."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def test_the_file_is_made_for_its_owner_alone(shared: Path) -> None:
    """It says which gateways there are, and holds the kill switch."""
    path = shared / "ledger.sqlite"

    assert None is asyncio.run(SqliteLedger(str(path)).paused())
    assert 0o600 == path.stat().st_mode & 0o777


def test_a_file_that_somebody_has_left_there_is_not_taken(shared: Path) -> None:
    """Who can write it could pause, or spend the attempts: then nothing is synced, and it is said why."""
    path = shared / "ledger.sqlite"
    path.touch()
    path.chmod(0o666)

    with pytest.raises(LedgerUnavailableError, match="others may write it"):
        asyncio.run(SqliteLedger(str(path)).paused())


def test_a_disk_whose_files_have_no_modes_may_be_used(tmp_path: Path) -> None:
    """A mounted share shows every file as everybody's; its folder is not shared like /tmp."""
    path = tmp_path / "ledger.sqlite"
    path.touch()
    path.chmod(0o777)

    assert None is asyncio.run(SqliteLedger(str(path)).paused())
