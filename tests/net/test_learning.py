# SPDX-License-Identifier: Apache-2.0
"""Learning bridge: who learns what, for how long, and where unknown frames go."""

import frames as F
import pytest
from lan import exchange, until
from wait import wait_until

A, B, C, D = (F.mac(i) for i in range(1, 5))


@pytest.fixture
def three(attach):
    return [attach(name) for name in ("vm1", "vm2", "vm3")]


def teach(guest, mac, others):
    """Let @mac speak on @guest and wait until the switch has heard it."""
    exchange(guest, [], others, mac)


def test_unknown_unicast_goes_everywhere_but_back(three):
    a, b, c = three
    frame = F.sized(A, B, 100)
    assert exchange(a, [frame], [b, c], A) == [[frame], [frame]]
    assert a.pending() == []


def test_a_learned_address_gets_its_frames_alone(switch, three):
    a, b, c = three
    teach(b, B, [a, c])
    frames = [F.sized(A, B, 100 + i) for i in range(10)]
    assert exchange(a, frames, [b, c], A) == [frames, []]
    assert switch.fdb()[(B, 1)]["port"] == "vm2"
    assert switch.fdb()[(B, 1)]["type"] == "learned"


def test_broadcast_and_multicast_are_flooded_and_counted(switch, three):
    a, b, c = three
    teach(b, B, [a, c])
    groups = ["01:00:5e:00:00:fb", "33:33:00:00:00:01", F.BROADCAST]
    frames = [F.sized(A, group, 80) for group in groups]
    assert exchange(a, frames, [b, c], A) == [frames, frames]
    counters = switch.counters("vm1")
    assert (counters["rx_broadcast"], counters["rx_multicast"]) == (2, 2)
    assert switch.counters("vm3")["tx_flooded"] == 5  # two markers


def test_only_what_was_flooded_counts_as_flooded(switch, three):
    a, b, c = three
    teach(b, B, [a, c])
    before = switch.counters("vm2")["tx_flooded"]
    exchange(a, [F.sized(A, B, 100)], [b], A)
    assert switch.counters("vm2")["tx_flooded"] == before + 1  # the marker


def test_an_address_moves_to_the_port_that_used_it_last(switch, three):
    a, b, c = three
    teach(b, B, [a, c])
    teach(c, B, [a, b])
    frame = F.sized(A, B, 100)
    assert exchange(a, [frame], [b, c], A) == [[], [frame]]
    status = switch.status()["fdb"]
    assert (status["moved"], status["learned"], status["entries"]) == (1, 2, 2)  # A itself, by its marker


def test_a_destination_behind_the_sending_port_is_not_sent_back(switch, three):
    a, b, c = three
    teach(a, A, [b, c])
    assert exchange(a, [F.sized(B, A, 100)], [b, c], B) == [[], []]
    assert a.pending() == []
    switch.wait_drops("vm1", same_port=1)


def test_addresses_are_forgotten_after_the_ageing_time(start_flued, netns):
    switch = start_flued({"switch": {"ageing_s": 1}})
    from guest import Guest

    with Guest(switch.add("vm1")["socket"]).up() as a, Guest(switch.add("vm2")["socket"]).up() as b:
        assert switch.status()["ageing_s"] == 1
        exchange(a, [], [b], A)
        exchange(b, [], [a], B)
        assert {(A, 1), (B, 1)} <= set(switch.fdb())
        wait_until(lambda: not switch.fdb(), "both addresses to age")
        assert switch.status()["fdb"]["aged"] == 2


def test_ageing_can_be_changed_and_switched_off(switch, three):
    a, b, c = three
    assert switch.api("PATCH", "/v1/switch", {"ageing_s": 1})["ageing_s"] == 1
    assert switch.status()["ageing_s"] == 1
    teach(a, A, [b, c])
    wait_until(lambda: not switch.fdb(), "the address to age")
    switch.api("PATCH", "/v1/switch", {"ageing_s": 0})
    teach(a, A, [b, c])
    wait_until(lambda: switch.fdb()[(A, 1)]["age_s"] >= 2, "an age beyond the old limit")


def test_a_busy_address_does_not_age(switch, three):
    a, b, c = three
    switch.api("PATCH", "/v1/switch", {"ageing_s": 1})
    teach(a, A, [b, c])
    teach(b, B, [a, c])

    def silent_one_is_gone():
        exchange(a, [], [b, c], A)
        assert (A, 1) in switch.fdb()
        return (B, 1) not in switch.fdb()

    wait_until(silent_one_is_gone, "the silent address to age", pause_s=0.1)


def test_flush_forgets_what_was_learned(switch, three):
    a, b, c = three
    teach(a, A, [b, c])
    teach(b, B, [a, c])
    assert switch.flush_fdb() == 2
    assert switch.fdb() == {}
    frame = F.sized(A, B, 100)
    assert exchange(a, [frame], [b, c], A) == [[frame], [frame]]


def test_a_port_that_leaves_takes_its_addresses_along(switch, three):
    a, b, c = three
    teach(b, B, [a, c])
    b.close()
    switch.wait_state("vm2", "waiting")
    wait_until(lambda: (B, 1) not in switch.fdb(), "the address to be forgotten")
    frame = F.sized(A, B, 100)
    assert exchange(a, [frame], [c], A) == [[frame]]


def test_a_deleted_port_takes_its_addresses_along(switch, three):
    a, b, c = three
    teach(b, B, [a, c])
    switch.delete("vm2")
    assert (B, 1) not in switch.fdb()
    frame = F.sized(A, B, 100)
    assert exchange(a, [frame], [c], A) == [[frame]]


def test_configured_addresses_are_static_and_known_at_once(switch, attach):
    a, b, c = attach("vm1"), attach("vm2", {"mac": B}), attach("vm3")
    entry = switch.fdb()[(B, 0)] if (B, 0) in switch.fdb() else switch.fdb()[(B, 1)]
    assert (entry["port"], entry["type"]) == ("vm2", "static")
    frame = F.sized(A, B, 100)
    assert exchange(a, [frame], [b, c], A) == [[frame], []]
    switch.flush_fdb()
    assert exchange(a, [frame], [b, c], A) == [[frame], []]


def test_the_table_is_bounded_and_one_port_cannot_take_all_of_it(start_flued):
    """A guest that invents addresses fills its share; its neighbour still gets learned."""
    from guest import Guest

    switch = start_flued({"switch": {"fdb_entries": 256}})
    with Guest(switch.add("vm1")["socket"]).up() as a, Guest(switch.add("vm2")["socket"]).up() as b:
        capacity = switch.status()["fdb"]["capacity"]
        assert capacity == 256
        for i in range(0, 4 * capacity, 64):
            exchange(a, [F.numbered(F.mac(0x10000 + i + k), F.BROADCAST, i) for k in range(64)], [b], A)
        full = switch.status()["fdb"]
        assert full["entries"] < capacity
        assert full["full"] > 0
        assert full["learned"] + full["full"] >= 4 * capacity
        exchange(b, [], [a], B)
        assert switch.fdb()[(B, 1)]["port"] == "vm2"
        assert switch.status()["fdb"]["entries"] <= capacity


def test_learning_is_per_vlan(switch, attach):
    a = attach("vm1", {"trunk": "10,20"}, frame_max=1522)
    b, c = attach("vm2", {"vlan": 10}), attach("vm3", {"vlan": 20})
    exchange(b, [], [], B)
    exchange(c, [], [], B)
    wait_until(lambda: {(B, 10), (B, 20)} <= set(switch.fdb()), "the address in both VLANs")
    assert switch.fdb()[(B, 10)]["port"] == "vm2"
    assert switch.fdb()[(B, 20)]["port"] == "vm3"
    for vlan, here, there in ((10, b, c), (20, c, b)):
        plain = F.sized(A, B, 100)
        a.send([F.tagged(plain, vlan)])
        assert here.recv() == [plain]
        assert there.pending() == []


def test_order_is_kept_between_two_ports(three):
    a, b, c = three
    teach(b, B, [a, c])
    sent = [F.numbered(A, B, i) for i in range(5000)]
    got = []
    for i in range(0, len(sent), 100):
        a.send(sent[i : i + 100])
        got += b.recv(100)
    assert got == sent
    end = F.numbered(B, A, 0)
    b.send([end])
    assert until(a, end) == []
