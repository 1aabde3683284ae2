"""No test waits for ever: each of its phases is interrupted, with a traceback, where it hangs. The waits inside a test
give up sooner and say for what; this is the net below those that do not.

A worker of pytest-xdist that begins on a busy machine may run its tests outside of its main thread (execnet gives it what
comes first, and it may come before that thread is ready). No signal's handler can be set there, so such a worker, where
it hangs, says where and ends; the others take its tests over."""

import contextlib
import faulthandler
import signal
import sys
import threading

import pytest

PHASE_S = 600  # the longest, a fleet of thousands on a slow machine, takes a tenth of it


@contextlib.contextmanager
def bounded_in_a_thread():
    faulthandler.dump_traceback_later(PHASE_S, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def bounded_by_a_signal(item, phase):
    def interrupt(*_):
        pytest.fail(f"{item.nodeid}: {phase} hung for {PHASE_S} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(PHASE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def bounded(item, phase):
    return (bounded_by_a_signal(item, phase) if threading.current_thread() is threading.main_thread() else
            bounded_in_a_thread())


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


def pytest_configure(config):
    config.addinivalue_line("markers", "waits_long: ten seconds or more, mostly idle; begun first, it keeps nobody waiting at the end")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("waits_long") is None)
