"""A server whose calls to the system are told what to answer: tests/support/turn_clock.c, fault_disk.c."""

import os

from tests.support.updraft import BIN


def preloaded(name, **variables):
    assert (BIN / f"{name}.so").exists(), f"build all targets: {name} is one"
    sanitizer = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]))
    return {"LD_PRELOAD": str(BIN / f"{name}.so"), "ASAN_OPTIONS": sanitizer,
            **{key: str(value) for key, value in variables.items()}}


def order(path, number):
    temporary = path.with_suffix(".new")
    temporary.write_text(str(number))
    temporary.rename(path)
