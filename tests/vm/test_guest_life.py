# SPDX-License-Identifier: Apache-2.0
"""What an administrator does to running guests: VLANs, trunks, addresses, live migration; and what silence costs."""

import time

import pytest
from flued import Flued
from real_guest import VhostUser, copy_file

MAC = {1: "52:54:00:77:00:01", 2: "52:54:00:77:00:02", 3: "52:54:00:77:00:03"}
IDLE_S = 3


def plug(switch, boot, number, *, port=None, incoming=False, ring_size=256, **conf):
    """Add port vm@number (or @port) and boot a guest on it; it has no address yet."""
    port = port or f"vm{number}"
    path = switch.add(port, **conf)["socket"]
    nic = VhostUser(path, mac=MAC[number], rx_queue_size=ring_size, tx_queue_size=ring_size)
    return boot(port, [nic], incoming=incoming)


def reaches(guest, target):
    """Did @target answer at least once?"""
    return guest.run(f"ping -c 3 -i 0.2 -W 3 {target}", 30)[0] == 0


@pytest.fixture
def switch():
    with Flued() as running:
        yield running


@pytest.fixture
def pair(switch, boot):
    """vm1 and vm2, at 10.0.0.1 and 10.0.0.2."""
    guests = [plug(switch, boot, number, mac=MAC[number], ring_size=1024) for number in (1, 2)]
    for number, guest in enumerate(guests, 1):
        guest.configure(f"10.0.0.{number}/24")
    assert reaches(guests[0], "10.0.0.2")
    return guests


def test_silent_guests_cost_nothing(switch, pair):
    assert copy_file(*pair, "10.0.0.2", mebibytes=8).seconds > 0
    time.sleep(1)
    before = switch.cpu_s()
    time.sleep(IDLE_S)
    assert switch.cpu_s() - before < 0.02 * IDLE_S
    assert switch.own_rss_bytes() < 24 * 2**20


def test_vlans_part_guests_and_change_while_they_run(switch, pair):
    switch.set("vm2", vlan=20)
    assert not reaches(pair[0], "10.0.0.2")
    switch.set("vm1", vlan=20)
    assert reaches(pair[0], "10.0.0.2")


def test_a_guest_that_takes_another_address_is_not_heard(switch, pair):
    pair[0].ok("ip link set eth0 down; ip link set eth0 address 52:54:00:66:66:66")
    pair[0].configure()
    assert not reaches(pair[0], "10.0.0.2")
    assert switch.drops("vm1")["mac_spoofed"] > 0
    switch.set("vm1", spoof_guard=False)
    assert reaches(pair[0], "10.0.0.2")


def test_a_guest_on_a_trunk_tags_its_frames_itself(switch, boot):
    trunk = plug(switch, boot, 1, trunk="10,20")
    others = {vlan: plug(switch, boot, number, vlan=vlan) for vlan, number in ((10, 2), (20, 3))}
    trunk.ok("modprobe 8021q")
    trunk.configure()
    for vlan, other in others.items():
        trunk.ok(f"ip link add link eth0 name v{vlan} type vlan id {vlan}")
        trunk.configure(f"10.0.{vlan}.1/24", device=f"v{vlan}")
        other.configure(f"10.0.{vlan}.2/24")
        assert reaches(trunk, f"10.0.{vlan}.2")
    assert not reaches(others[10], "10.0.20.2")
    trunk.ok("ip addr add 10.0.99.1/24 dev eth0")
    assert not reaches(trunk, "10.0.99.2")
    assert switch.drops("vm1")["vlan_untagged"] > 0


def test_a_guest_migrates_while_it_receives_a_file(switch, boot):
    """Its rings stop at one port and go on at another, its address is found there, and its connection lives on.
    (That every page is marked for the copy is shown in tests/net: here TCP would repair one that was not.)"""
    source, other = plug(switch, boot, 1), plug(switch, boot, 2)
    destination = plug(switch, boot, 1, port="vm1-new", incoming=True)
    source.configure("10.0.0.1/24")
    other.configure("10.0.0.2/24")
    other.ok("dd if=/dev/urandom of=/tmp/sent bs=1M count=48 2>/dev/null")
    source.ok("mkfifo /tmp/quiet; nc -l -p 5000 <>/tmp/quiet >/tmp/received 2>/dev/null & echo $! >/tmp/receiver")
    source.ok("until netstat -ltn | grep -q ':5000 '; do usleep 20000; done")
    # Slowly, to last through the migration, and then as fast as it goes.
    sending = other.start(
        "for i in $(seq 0 191); do dd if=/tmp/sent bs=256k skip=$i count=1 2>/dev/null; [ -e /tmp/moved ] || usleep 100000;"
        "done | nc 10.0.0.1 5000",
        120,
    )
    time.sleep(1)
    source.migrate_to(destination)
    source.close()
    assert not sending.ended.is_set(), "the file was there before the guest had moved"
    other.ok("touch /tmp/moved")
    assert sending.wait()[0] == 0
    destination.ok("while kill -0 $(cat /tmp/receiver) 2>/dev/null; do usleep 50000; done", 90)
    received = destination.ok("sha256sum /tmp/received").split()[0]
    assert received == other.ok("sha256sum /tmp/sent").split()[0]
    assert switch.fdb()[MAC[1], 1]["port"] == "vm1-new"
