"""What holds for every test."""

from collections.abc import Generator

import pytest

from sandbox import witness
from sandbox.stage import Stage

Stage.forked = True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    """No secret was in anything that the app printed, answered, stored or sent.

    After the teardown, because a host's log is whole only when it has ended.
    """
    yield
    if leaks := witness.take():
        pytest.fail("\n".join(["A secret has left the app:", *leaks]))
