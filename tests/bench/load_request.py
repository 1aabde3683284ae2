"""What tests/bench/check_load.c sends, with a place for each device's MAC."""

from tests.support import updraft

VERSION = "0.4.9"
MAC_PLACE = "@@:@@:@@:@@:@@:@@"


def request_text(type_name, md5, kept):
    """What an ESP8266 that runs the newest version sends, which names itself later."""
    headers = {**updraft.ESP8266, "x-ESP8266-version": VERSION, "x-ESP8266-sketch-md5": md5,
               "x-ESP8266-STA-MAC": MAC_PLACE, "x-ESP8266-free-space": "3000000"}
    del headers["x-ESP8266-AP-MAC"]  # its number would have to fit
    if kept:
        del headers["Connection"]
    lines = [f"GET /update/{type_name} HTTP/1.{int(kept)}", "Host: 127.0.0.1:8080"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines + ["", ""])
