"""Fixtures of the tests of a running emulator."""

from collections.abc import Iterator

import pytest

from tests.emulator.emulator_support import Emulator


@pytest.fixture
def emulator(shared_emulator: Emulator) -> Iterator[Emulator]:
    """An emulator that the tests of this module share; each test leaves it without a scenario."""
    yield shared_emulator
    shared_emulator.set_scenario("")
