# SPDX-License-Identifier: Apache-2.0
"""Whose address is whose: spoof guard, addresses configured elsewhere, addresses that no sender can have."""

import frames as F
import pytest
from flued import ApiError
from lan import exchange, marker, until

A, B, C = (F.mac(i) for i in range(1, 4))


def test_a_configured_address_switches_the_guard_on(switch, attach):
    a, b = attach("vm1", {"mac": A}), attach("vm2")
    assert switch.port("vm1")["spoof_guard"] is True
    honest = F.sized(A, B, 100)
    a.send([F.sized(C, B, 100)])
    assert exchange(a, [honest], [b], A) == [[honest]]
    assert switch.drops("vm1") == {"mac_spoofed": 1}
    assert (C, 1) not in switch.fdb()


def test_the_guard_can_be_off(switch, attach):
    a, b = attach("vm1", {"mac": A, "spoof_guard": False}), attach("vm2")
    frame = F.sized(C, B, 100)
    assert exchange(a, [frame], [b], A) == [[frame]]
    assert switch.drops("vm1") == {}


def test_the_guard_follows_changes(switch, attach):
    a, b = attach("vm1", {"mac": A}), attach("vm2")
    foreign = F.sized(C, B, 100)
    switch.set("vm1", spoof_guard=False)
    assert exchange(a, [foreign], [b], A) == [[foreign]]
    switch.set("vm1", spoof_guard=True)
    assert exchange(a, [foreign], [b], A) == [[]]
    switch.set("vm1", mac=C)
    assert exchange(a, [foreign], [b], C) == [[foreign]]
    assert switch.drops("vm1") == {"mac_spoofed": 1}


def test_without_an_address_there_is_nothing_to_guard(switch):
    with pytest.raises(ApiError) as refused:
        switch.add("vm1", spoof_guard=True)
    assert refused.value.status == 400
    assert refused.value.field in ("mac", "spoof_guard")


def test_a_configured_address_cannot_be_taken_by_another_port(switch, attach):
    """Even where no guard is on: the owner goes on receiving."""
    owner, thief, other = attach("vm1", {"mac": A}), attach("vm2"), attach("vm3")
    assert exchange(thief, [F.sized(A, F.BROADCAST, 100)], [owner, other], B) == [[], []]
    assert switch.drops("vm2") == {"mac_taken": 1}
    frame = F.sized(C, A, 100)
    assert exchange(other, [frame], [owner, thief], C) == [[frame], []]


def test_an_address_learned_elsewhere_comes_home_when_configured(switch, attach):
    owner, squatter, other = attach("vm1"), attach("vm2"), attach("vm3")
    exchange(squatter, [], [owner, other], A)
    assert switch.fdb()[(A, 1)]["port"] == "vm2"
    switch.set("vm1", mac=A)
    frame = F.sized(C, A, 100)
    assert exchange(other, [frame], [owner, squatter], C) == [[frame], []]


def test_two_ports_cannot_have_one_address(switch):
    switch.add("vm1", mac=A)
    with pytest.raises(ApiError) as refused:
        switch.add("vm2", mac=A)
    assert (refused.value.status, refused.value.field) == (409, "mac")


@pytest.mark.parametrize("source", ["00:00:00:00:00:00", "01:00:5e:00:00:01", F.BROADCAST])
def test_no_sender_has_such_an_address(switch, attach, source):
    a, b = attach("vm1"), attach("vm2")
    assert exchange(a, [F.sized(source, B, 100)], [b], A) == [[]]
    assert switch.drops("vm1") == {"bad_source": 1}
    assert set(switch.fdb()) == {(A, 1)}


def test_link_local_groups_stay_on_the_link(switch, attach):
    """IEEE 802.1D table 7-10: 01:80:c2:00:00:00 to :0f are never forwarded; :10 is."""
    a, b = attach("vm1"), attach("vm2")
    local = [F.sized(A, f"01:80:c2:00:00:{i:02x}", 60) for i in range(16)]
    beyond = F.sized(A, "01:80:c2:00:00:10", 60)
    assert exchange(a, [*local, beyond], [b], A) == [[beyond]]
    assert switch.drops("vm1") == {"link_local": 16}


def test_frames_shorter_than_a_header_are_dropped(switch, attach):
    a, b = attach("vm1"), attach("vm2")
    bare = F.frame(A, F.BROADCAST)
    end = marker(A)
    a.send([bare[:n] for n in range(14)] + [bare, end])
    assert until(b, end) == [bare]
    assert switch.drops("vm1") == {"too_short": 14}
    assert switch.counters("vm1")["rx_frames"] == 16


def test_the_mtu_of_the_receiver_decides(switch, attach):
    a = attach("vm1", {"mtu": 9000}, frame_max=9018)
    b = attach("vm2", {"mtu": 9000}, frame_max=9018)
    c = attach("vm3")
    fits, large, huge = F.sized(A, F.BROADCAST, 1514), F.sized(A, F.BROADCAST, 1515), F.sized(A, F.BROADCAST, 9014)
    assert exchange(a, [fits, large, huge], [b, c], A) == [[fits, large, huge], [fits]]
    assert switch.drops("vm3") == {"too_big": 2}
    assert switch.drops("vm1") == {}


def test_the_mtu_changes_while_frames_flow(switch, attach):
    a, b = (attach(name, frame_max=9018) for name in ("vm1", "vm2"))
    frame = F.sized(A, F.BROADCAST, 3000)
    assert exchange(a, [frame], [b], A) == [[]]
    switch.set("vm2", mtu=9000)
    assert exchange(a, [frame], [b], A) == [[frame]]
    switch.set("vm2", mtu=2985)
    assert exchange(a, [frame], [b], A) == [[]]
    switch.set("vm2", mtu=2986)
    assert exchange(a, [frame], [b], A) == [[frame]]
    assert switch.drops("vm2") == {"too_big": 2}


def test_no_frame_is_longer_than_64_kib_a_header_and_two_tags(switch, attach):
    a = attach("vm1", {"mtu": 65535}, size=64, frame_max=70000)
    b = attach("vm2", {"mtu": 65535}, size=64, frame_max=66000)
    largest = F.sized(A, F.BROADCAST, 65549)
    assert exchange(a, [largest, F.sized(A, F.BROADCAST, 65558), F.sized(A, F.BROADCAST, 70000)], [b], A) == [[largest]]
    assert switch.drops("vm1") == {"too_big": 2}


def test_a_tag_does_not_count_for_the_mtu(switch, attach):
    a, trunk = attach("vm1", {"vlan": 10}), attach("up", {"trunk": "10"}, frame_max=1522)
    full = F.sized(A, F.BROADCAST, 1514)
    a.send([full])
    assert trunk.recv() == [F.tagged(full, 10)]


def test_every_counter_of_a_port_is_exact(switch, attach):
    a, b, c = (attach(name) for name in ("vm1", "vm2", "vm3"))
    exchange(b, [], [a, c], B)
    zero = {name: switch.counters(name) for name in ("vm1", "vm2", "vm3")}
    known = [F.sized(A, B, 60 + i) for i in range(100)]
    unknown = [F.sized(A, C, 200) for _ in range(7)]
    multicast = [F.sized(A, "01:00:5e:00:00:01", 300) for _ in range(5)]
    refused = [F.sized("01:00:00:00:00:00", B, 400)]
    got = exchange(a, [*known, *unknown, *multicast, *refused], [b, c], A)
    assert [len(frames) for frames in got] == [112, 12]

    def delta(name):
        now = switch.counters(name)
        return {key: now[key] - zero[name][key] for key in now if now[key] != zero[name][key]}

    flooded = 7 * 200 + 5 * 300 + 60  # and the marker
    known_bytes = sum(len(f) for f in known)
    assert delta("vm1") == {
        "rx_frames": 114, "rx_bytes": known_bytes + flooded + 400, "rx_broadcast": 1, "rx_multicast": 5,
    }  # fmt: skip
    assert delta("vm2") == {"tx_frames": 113, "tx_bytes": known_bytes + flooded, "tx_flooded": 13}
    assert delta("vm3") == {"tx_frames": 13, "tx_bytes": flooded, "tx_flooded": 13}
