"""A test that hangs ends, and says where, in whichever thread its worker runs it."""

import subprocess
import sys

import pytest

from tests.support.updraft import PATIENCE_S, ROOT

PROGRAM = """
import sys, threading, types
sys.path.insert(0, sys.argv[1])
from tests import conftest
conftest.PHASE_S = 1
item = types.SimpleNamespace(nodeid="test_it")

def quick():
    with conftest.bounded(item, "the test"):
        print("was bounded", flush=True)

def hangs():
    with conftest.bounded(item, "the test"):
        threading.Event().wait(1000)

def run():
    quick()
    hangs()

if sys.argv[2] == "main":
    run()
else:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
"""


@pytest.mark.parametrize("thread, said", [("main", "the test hung for 1 s"), ("another", "in hangs")])
def test_what_hangs_is_ended(thread, said):
    done = subprocess.run([sys.executable, "-c", PROGRAM, ROOT, thread], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1 and "was bounded" in done.stdout, done
    assert said in done.stderr, done.stderr
