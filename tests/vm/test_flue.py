# SPDX-License-Identifier: Apache-2.0
"""What `flue qemu` prints starts a real guest; what `flue doctor` says of guests whose memory is not shared."""

import json

import pytest

from flued import Flued
from real_guest import VhostUser, qemu_version
from wait import wait_until

MEMORY = "256M"


@pytest.fixture
def switch():
    with Flued() as flued:
        yield flued


def adapted(words, emulated):
    """The arguments, with the memory this test can afford, and whatever accelerator there is."""
    words = [word.replace("4G", MEMORY).replace("accel=kvm,", "") for word in words]
    if emulated and qemu_version() < (8, 0):  # crashes with MSI-X, see real_guest.py
        words = [",".join("vectors=0" if p.startswith("vectors=") else p for p in word.split(",")) for word in words]
    return words


@pytest.mark.parametrize("role, pairs", [("listen", 4), ("connect", 1)])
def test_the_arguments_printed_start_a_guest(switch, boot, role, pairs):
    switch.add("vm1", role=role, queues=pairs, mtu=2000, mac="52:54:00:00:00:01")
    words = json.loads(switch.cli("--json", "qemu", "vm1").stdout)["qemu"]
    probe = boot("probe", memory=128)  # tells whether guests are emulated here
    guest = boot("vm1", memory=int(MEMORY[:-1]), cpus=pairs, extra=adapted(words, probe.emulated))
    guest.wait_ready()
    switch.wait_state("vm1", "up")
    assert switch.port("vm1")["detail"]["queue_pairs"].startswith(f"{pairs} of")
    told = guest.ok("cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu").split()
    assert told == ["52:54:00:00:00:01", "2000"]


@pytest.mark.parametrize(
    "backend, verdict, words",
    [
        ("memory-backend-ram", "FAIL", "vm1: the guest's driver runs, but its memory cannot be reached"),
        ("memory-backend-memfd,share=off", "warn", "vm1: up, but not one frame came from the guest or could be given to it"),
    ],
)
def test_memory_that_is_not_shared_is_found(switch, boot, backend, verdict, words):
    nic = VhostUser(switch.add("vm1")["socket"], "52:54:00:00:00:01")
    extra = ["-object", f"{backend},id=private,size={MEMORY}", "-machine", "memory-backend=private"]
    boot("vm1", [nic], memory=int(MEMORY[:-1]), extra=extra).wait_ready()

    def found():
        findings = json.loads(switch.cli("--json", "doctor", check=False).stdout)
        return next((f for f in findings if f["what"] == words), None)

    finding = wait_until(found, f"doctor to say: {words}")
    assert finding["verdict"] == verdict and "share=on" in finding["remedy"]
    assert switch.cli("doctor", check=False).returncode == (1 if verdict == "FAIL" else 0)
