"""script/soak takes half an hour and runs now and then; that its verdict can be "not flat" is held here."""

import pathlib
import random
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.soak import figures  # noqa: E402


def samples(name, start, a_minute, noise):
    draw = random.Random(1)
    return [{"when": 10.0 * n, name: start + a_minute * n / 6 + draw.uniform(-noise, noise)} for n in range(181)]


@pytest.mark.parametrize("name, start, a_minute, noise, flat", [
    ("rss", 50000, 0, 800, True),
    ("rss", 50000, 60, 800, False),  # a leak below what comes and goes
    ("rss", 50000, -60, 800, True),
    ("anonymous", 40000, 20, 0, False),
    ("descriptors", 300, 0, 30, True),
    ("descriptors", 300, 4, 30, False),
    ("descriptors less open connections", 40, 0.5, 4, False),
    ("descriptors but connections", 30, 0.1, 0, False),
    ("threads", 9, 0, 0, True),
])
def test_the_verdict(name, start, a_minute, noise, flat):
    verdict = figures.judge(samples(name, start, a_minute, noise), name)
    assert verdict["flat"] == flat, verdict
    assert abs(verdict["slope"] - a_minute) <= 2 * verdict["error"] + 1e-6


def test_steps_count_too():
    """What grew early and stands still since has no slope in the last two thirds."""
    grown = [{"when": 10.0 * n, "rss": 50000 + 2000 * (n > 40)} for n in range(181)]
    assert not figures.judge(grown, "rss")["flat"]
