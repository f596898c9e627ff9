# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests with real guests; what a guest said last is shown with a test that fails."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from real_guest import Guest  # noqa: E402  pylint: disable=wrong-import-position


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):  # pylint: disable=unused-argument
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for guest in Guest.live:
            report.sections.append((f"guest {guest.name}", guest.last_words()))


@pytest.fixture
def boot(tmp_path):
    """Start guests (arguments as for Guest) that end with the test; they boot side by side."""
    started = []

    def start(name, nics=(), **options):
        started.append(Guest(name, nics, log_directory=str(tmp_path), **options))
        return started[-1]

    yield start
    for guest in started:
        guest.close()
