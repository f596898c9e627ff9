# SPDX-License-Identifier: Apache-2.0
"""What flued costs when nothing happens, and how soon it is back."""

import time

import frames as F
import pytest
from flued import sanitized
from lan import exchange

A = F.mac(1)
plain_build = pytest.mark.skipif(sanitized(), reason="sanitizers cost memory and time of their own")


@plain_build
def test_eight_idle_ports_cost_less_than_a_percent_of_a_core(switch, attach):
    guests = [attach(f"vm{i}", event_idx=i % 2 == 1) for i in range(8)]
    exchange(guests[0], [F.sized(A, F.BROADCAST, 100)] * 50, guests[1:], A)
    time.sleep(0.2)
    before = switch.cpu_s()
    time.sleep(5)
    spent = switch.cpu_s() - before
    assert spent < 0.05, f"{spent * 1000:.1f} ms of CPU time in 5 s"
    assert all(w["awake"] == 0 for w in switch.status()["workers"])
    frame = F.sized(A, F.BROADCAST, 100)
    assert exchange(guests[0], [frame], guests[1:], A) == [[frame]] * 7


@plain_build
def test_a_small_switch_is_small(switch, attach):
    a, b = attach("vm1"), attach("vm2")
    for _ in range(20):
        exchange(a, [F.sized(A, F.BROADCAST, 1514)] * 100, [b], A)
    mine = switch.own_rss_bytes()
    assert mine < 32 << 20, f"{mine >> 10} KiB resident without guest memory"


def test_a_lone_frame_is_not_kept_waiting(attach):
    """Asleep or awake: the median is far below what any timer would take."""
    a, b = attach("vm1"), attach("vm2")
    took = []
    for i in range(200):
        time.sleep(0.002)
        frame = F.numbered(A, F.BROADCAST, i)
        began = time.perf_counter()
        a.send([frame])
        assert b.recv() == [frame]
        took.append(time.perf_counter() - began)
    assert sorted(took)[100] < 0.005


def test_the_end_comes_soon(switch, attach):
    """SIGTERM with guests attached and traffic under way."""
    a, _ = attach("vm1"), attach("vm2")
    a.send([F.numbered(A, F.BROADCAST, i) for i in range(200)])
    switch.stop()
    assert switch.stop_s < (5 if sanitized() else 1)
    switch.start()
