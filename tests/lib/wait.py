# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition: how every test waits, so that a slow machine makes it late and not red."""

import time

GENEROUS_S = 20.0


def wait_until(condition, what, timeout_s=GENEROUS_S, pause_s=0.005):
    """Call @condition until it returns something true, and return that. @what: for the message if it never does."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s for: {what}")
        time.sleep(pause_s)


def stays(condition, what, for_s=0.1, pause_s=0.01):
    """@condition must hold all the time for @for_s."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        assert condition(), f"no longer true: {what}"
        time.sleep(pause_s)
