"""The frame of every table."""

from collections.abc import Iterator

import pytest

from tests.bad_input.world import Door, contoso


@pytest.fixture(scope="module")
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    """One app for all rows of a module, with its SETTINGS, if it has any."""
    with contoso(getattr(request.module, "SETTINGS", None)) as all_well:
        yield all_well
