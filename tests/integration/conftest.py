"""Lets these tests find tests/support whatever folder pytest was started in."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.support.cli import StandIn  # noqa: E402


@pytest.fixture
def stand_in(tmp_path):
    """A stand-in for the server, where the operator's program looks for one by itself."""
    (tmp_path / "state").mkdir()
    one = StandIn(tmp_path / "state/admin.sock")
    yield one
    one.close()
