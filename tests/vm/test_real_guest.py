# SPDX-License-Identifier: Apache-2.0
"""The guest harness itself, without a switch: what other tests rely on."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from real_guest import Cable, GuestError, copy_file

MAC = ["52:54:00:00:00:01", "52:54:00:00:00:02"]


@pytest.fixture
def pair(boot):
    """Two guests on one cable, 10.0.0.1 and 10.0.0.2."""
    ends = socket.socketpair()
    guests = [boot(f"vm{i + 1}", [Cable(ends[i], MAC[i])]) for i in range(2)]
    for i, guest in enumerate(guests):
        guest.configure(f"10.0.0.{i + 1}/24")
    return guests


def test_two_guests_on_a_cable_exchange_a_file(pair):
    pair[0].ok("ping -c 2 -W 5 10.0.0.2")
    done = copy_file(pair[0], pair[1], "10.0.0.2", mebibytes=16)
    assert done.sent_sha256 == done.received_sha256


def test_a_command_returns_its_status_and_both_outputs(boot):
    guest = boot("vm1")
    assert guest.run("echo out; echo err >&2; exit 3") == (3, "out\nerr\n")
    assert guest.run("printf 'ready\\n1 0 5\\n'") == (0, "ready\n1 0 5\n"), "output is never taken for the channel's words"
    with pytest.raises(GuestError, match="status 1 from: false"):
        guest.ok("false")


def test_commands_run_side_by_side_and_end_at_their_limit(boot):
    guest = boot("vm1")
    waiting = guest.start("until [ -e /tmp/go ]; do usleep 10000; done; echo gone")
    guest.ok("touch /tmp/go")
    assert waiting.wait() == (0, "gone\n")
    assert guest.run("sleep 30", limit=1)[0] == 137


def test_a_guest_comes_back_from_a_reboot_and_from_a_reset(boot):
    guest = boot("vm1")
    guest.ok("touch /tmp/before")
    guest.reboot()
    assert guest.run("test -e /tmp/before")[0] == 1
    guest.ok("touch /tmp/before")
    guest.reset()
    assert guest.run("test -e /tmp/before")[0] == 1


def test_a_killed_guest_fails_its_commands_at_once(boot):
    guest = boot("vm1")
    waiting = guest.start("sleep 50")
    guest.kill()
    began = time.monotonic()
    with pytest.raises(GuestError, match="no answer to: sleep 50"):
        waiting.wait()
    with pytest.raises(GuestError, match="QEMU ended"):
        guest.run("true")
    assert time.monotonic() - began < 5


def test_a_running_guest_migrates(boot):
    source = boot("source")
    destination = boot("destination", incoming=True)
    source.ok("echo kept >/tmp/state")
    source.migrate_to(destination)
    source.close()
    assert destination.ok("cat /tmp/state") == "kept\n"


def test_a_guest_dies_with_the_process_that_started_it(tmp_path):
    script = "import os; from real_guest import Guest; g = Guest('orphan'); print(g.process.pid, flush=True); os._exit(1)"
    starter = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    process = Path(f"/proc/{int(starter.stdout)}")
    deadline = time.monotonic() + 10
    while process.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not process.exists()
