# SPDX-License-Identifier: Apache-2.0
"""What the tests of the running switch share. They need root: namespaces, tap and packet sockets."""

import contextlib
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from flued import Flued  # noqa: E402
from guest import Guest  # noqa: E402
from netns import Netns  # noqa: E402


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        raise pytest.UsageError("tests/net need root (namespaces, tap and packet sockets)")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for switch in Flued.live:
            report.sections.append((f"flued {switch.pid}, its log", switch.log()[-20000:]))


@pytest.fixture
def switch():
    """A flued of this test's own, without configuration."""
    flued = Flued()
    yield flued
    flued.close()


@pytest.fixture
def start_flued():
    """start_flued(config, ...): a flued with a configuration; stopped at the end."""
    running = []

    def start(*args, **kwargs):
        running.append(Flued(*args, **kwargs))
        return running[-1]

    yield start
    for flued in running:
        flued.close()


@pytest.fixture
def attach(switch):
    """attach("vm1", {port configuration}, Guest's arguments...): a port with a guest on it, up."""
    with contextlib.ExitStack() as stack:

        def attach_one(name, conf=None, **guest):
            port = switch.add(name, **(conf or {}))
            made = stack.enter_context(Guest(port["socket"], **guest)).up()
            switch.wait_state(name, "up")
            return made

        yield attach_one


@pytest.fixture
def netns():
    """netns(): a new namespace, removed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(Netns())
