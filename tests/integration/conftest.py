"""Lets these tests find tests/support whatever folder pytest was started in."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
