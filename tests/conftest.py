"""No test waits for ever: each of its phases is interrupted, with a traceback, where it hangs. The waits inside a test
give up sooner and say for what; this is the net below those that do not."""

import contextlib
import signal

import pytest

PHASE_S = 600  # the longest, a fleet of thousands on a slow machine, takes a tenth of it


@contextlib.contextmanager
def bounded(item, phase):
    def interrupt(*_):
        pytest.fail(f"{item.nodeid}: {phase} hung for {PHASE_S} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(PHASE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    with bounded(item, "setting up"):
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    with bounded(item, "the test"):
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    with bounded(item, "tearing down"):
        yield
