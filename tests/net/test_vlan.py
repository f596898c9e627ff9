# SPDX-License-Identifier: Apache-2.0
"""Access ports, trunks and native VLANs: who hears whom, and what the tag looks like."""

import frames as F
import pytest
from lan import exchange, marker, until

A, B, C = (F.mac(i) for i in range(1, 4))
PCP5 = 0xA000


def test_access_ports_hear_their_own_vlan_only(attach):
    a, b, c = attach("vm1", {"vlan": 10}), attach("vm2", {"vlan": 10}), attach("vm3", {"vlan": 20})
    frame = F.sized(A, F.BROADCAST, 100)
    assert exchange(a, [frame], [b], A) == [[frame]]
    end = marker(B)
    c.send([end])
    assert c.pending() == []


def test_a_port_without_vlan_is_in_vlan_1(switch, attach):
    a, b = attach("vm1"), attach("vm2", {"vlan": 1})
    assert switch.port("vm1")["vlan"] == 1
    frame = F.sized(A, F.BROADCAST, 100)
    assert exchange(a, [frame], [b], A) == [[frame]]


def test_a_trunk_sends_and_takes_tags(attach):
    access, trunk = attach("vm1", {"vlan": 10}), attach("up", {"trunk": "10,20-30"}, frame_max=1522)
    frame = F.sized(A, F.BROADCAST, 100)
    access.send([frame])
    assert trunk.recv() == [F.tagged(frame, 10)]
    answer = F.sized(B, F.BROADCAST, 100)
    trunk.send([F.tagged(answer, 10)])
    assert access.recv() == [answer]


def test_a_full_sized_frame_gets_its_tag_and_loses_it(attach):
    access, trunk = attach("vm1", {"vlan": 10}), attach("up", {"trunk": "10"}, frame_max=1522)
    frame = F.sized(A, F.BROADCAST, 1514)
    access.send([frame])
    assert trunk.recv() == [F.tagged(frame, 10)]
    trunk.send([F.tagged(frame, 10)])
    assert access.recv() == [frame]


def test_a_trunk_carries_only_what_it_lists(switch, attach):
    a, b, trunk = (
        attach("vm1", {"vlan": 20}), attach("vm2", {"vlan": 31}), attach("up", {"trunk": "10,20-30"}, frame_max=1522),
    )  # fmt: skip
    unheard, heard = F.sized(B, F.BROADCAST, 90), F.sized(A, F.BROADCAST, 91)
    b.send([unheard])
    switch.wait_drops("vm2", no_destination=1)
    a.send([heard])
    assert trunk.recv() == [F.tagged(heard, 20)]
    trunk.send([F.tagged(F.sized(C, F.BROADCAST, 92), vid) for vid in (9, 11, 19, 31, 4094)])
    switch.wait_drops("up", vlan_denied=5)
    assert a.pending() == [] and b.pending() == []


def test_between_trunks_tags_stay(attach):
    one, two = (attach(name, {"trunk": "10-12"}, frame_max=1522) for name in ("t1", "t2"))
    for vid in (10, 11, 12):
        frame = F.tagged(F.sized(A, F.BROADCAST, 200), vid)
        one.send([frame])
        assert two.recv() == [frame]


def test_the_native_vlan_is_untagged_both_ways(switch, attach):
    access = attach("vm1", {"vlan": 10})
    trunk = attach("up", {"trunk": "10,20", "native": 10}, frame_max=1522)
    frame, answer = F.sized(A, F.BROADCAST, 100), F.sized(B, F.BROADCAST, 100)
    access.send([frame])
    assert trunk.recv() == [frame]
    trunk.send([answer])
    assert access.recv() == [answer]
    assert switch.port("up")["native"] == 10


def test_the_native_vlan_may_also_come_tagged(attach):
    access = attach("vm1", {"vlan": 10})
    trunk = attach("up", {"trunk": "10,20", "native": 10}, frame_max=1522)
    answer = F.sized(B, F.BROADCAST, 100)
    trunk.send([F.tagged(answer, 10)])
    assert access.recv() == [answer]


def test_a_priority_tag_means_the_untagged_vlan(attach):
    """802.1Q: VID 0 carries a priority and no VLAN."""
    access = attach("vm1", {"vlan": 10})
    trunk = attach("up", {"trunk": "10,20", "native": 10}, frame_max=1522)
    other = attach("vm2", {"vlan": 10})
    frame = F.sized(A, F.BROADCAST, 100)
    trunk.send([F.tagged(frame, PCP5)])
    assert access.recv() == [frame]
    other.recv()
    access.send([F.tagged(frame, PCP5)])
    assert other.recv() == [frame]


def test_the_priority_survives_from_trunk_to_trunk(attach):
    one, two = (attach(name, {"trunk": "10-12"}, frame_max=1522) for name in ("t1", "t2"))
    for pcp in range(8):
        for dei in (0, 0x1000):
            frame = F.tagged(F.sized(A, F.BROADCAST, 100), pcp << 13 | dei | 11)
            one.send([frame])
            assert two.recv() == [frame]


def test_an_untagged_frame_needs_a_native_vlan(switch, attach):
    trunk, access = attach("up", {"trunk": "10"}, frame_max=1522), attach("vm1", {"vlan": 10})
    trunk.send([F.sized(A, F.BROADCAST, 100), F.tagged(F.sized(A, F.BROADCAST, 100), PCP5)])
    switch.wait_drops("up", vlan_untagged=2)
    assert access.pending() == []


def test_a_tagged_frame_is_not_for_an_access_port(switch, attach):
    """Not even with its own VLAN: the guest must not choose."""
    a, b = attach("vm1", {"vlan": 10}), attach("vm2", {"vlan": 10})
    a.send([F.tagged(F.sized(A, F.BROADCAST, 100), vid) for vid in (10, 20)])
    switch.wait_drops("vm1", vlan_tagged=2)
    assert b.pending() == []


def test_a_second_tag_is_payload(attach):
    """Only the outer tag is the switch's business (no provider bridging)."""
    access, trunk = attach("vm1", {"vlan": 10}), attach("up", {"trunk": "10"}, frame_max=1526)
    inner = F.tagged(F.sized(A, F.BROADCAST, 100), 77)
    trunk.send([F.tagged(inner, 10)])
    assert access.recv() == [inner]


def test_the_reserved_vid_is_denied(switch, attach):
    trunk, access = attach("up", {"trunk": "1-4094"}, frame_max=1522), attach("vm1", {"vlan": 10})
    trunk.send([F.tagged(F.sized(A, F.BROADCAST, 100), 4095)])
    switch.wait_drops("up", vlan_denied=1)
    assert access.pending() == []


def test_a_tag_cut_short_does_no_harm(switch, attach):
    """14 to 17 bytes with EtherType 0x8100: the tag is not all there."""
    trunk, access = attach("up", {"trunk": "10", "native": 10}, frame_max=1522), attach("vm1", {"vlan": 10})
    whole = F.tagged(F.sized(A, F.BROADCAST, 64), 10)
    end = marker(B)
    trunk.send([whole[:n] for n in range(14, 18)] + [end])
    short = until(access, end)
    port = switch.port("up")
    assert port["counters"]["rx_frames"] == 5
    assert len(short) + sum(port["drops"].values()) == 4
    assert port["state"] == "up"


def test_a_frame_that_is_only_a_header_and_a_tag_passes(attach):
    trunk, access = attach("up", {"trunk": "10"}, frame_max=1522), attach("vm1", {"vlan": 10})
    bare = F.frame(A, F.BROADCAST)
    trunk.send([F.tagged(bare, 10)])
    assert access.recv() == [bare]


def test_vlans_change_while_frames_flow(switch, attach):
    a, b = attach("vm1", {"vlan": 10}), attach("vm2", {"vlan": 20})
    frame = F.sized(A, F.BROADCAST, 100)
    a.send([frame])
    switch.wait_drops("vm1", no_destination=1)
    changed = switch.set("vm2", vlan=10)
    assert changed["vlan"] == 10
    assert exchange(a, [frame], [b], A) == [[frame]]
    assert switch.set("vm2", trunk="10-11", native=11)["trunk"] == "10-11"
    a.send([frame])
    assert b.recv() == [F.tagged(frame, 10)]


def test_addresses_of_a_vlan_the_port_left_are_forgotten(switch, attach):
    a, b, c = (attach(name, {"vlan": 10}) for name in ("vm1", "vm2", "vm3"))
    exchange(b, [], [a, c], B)
    assert (B, 10) in switch.fdb()
    switch.set("vm2", vlan=20)
    assert (B, 10) not in switch.fdb()
    frame = F.sized(A, B, 100)
    assert exchange(a, [frame], [c], A) == [[frame]]


@pytest.mark.parametrize("vlan", [1, 2, 4094])
def test_every_vid_is_a_vlan(attach, vlan):
    access, trunk = attach("vm1", {"vlan": vlan}), attach("up", {"trunk": "1-4094"}, frame_max=1522)
    frame = F.sized(A, F.BROADCAST, 100)
    access.send([frame])
    assert trunk.recv() == [F.tagged(frame, vlan)]
