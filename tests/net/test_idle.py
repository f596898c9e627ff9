# SPDX-License-Identifier: Apache-2.0
"""What flued costs when nothing happens, and how soon it is back."""

import contextlib
import time

import frames as F
import pytest
from flued import sanitized
from guest import Guest
from lan import exchange
from wait import wait_until

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
def test_64_idle_ports_cost_next_to_nothing_and_wake_nobody(switch, attach):
    guests = [attach(f"vm{i}", size=64) for i in range(64)]
    exchange(guests[0], [F.sized(A, F.BROADCAST, 100)] * 5, guests[1:], A)
    wait_until(lambda: all(w["awake"] == 0 for w in switch.status()["workers"]), "the workers to sleep")
    sleeps, before = [w["sleeps"] for w in switch.status()["workers"]], switch.cpu_s()
    time.sleep(5)
    spent = switch.cpu_s() - before
    assert spent < 0.025, f"{spent * 1000:.1f} ms of CPU time in 5 s"
    assert [w["sleeps"] for w in switch.status()["workers"]] == sleeps, "some timer wakes them"


@plain_build
def test_a_queue_that_ticks_slowly_is_not_watched(start_flued):
    """The budget is a bound: a frame each 20 ms does not earn 10 ms of polling after it."""
    switch = start_flued({"workers": {"spin_us": 10000}})
    with contextlib.ExitStack() as stack:
        a, b = (stack.enter_context(Guest(switch.add(name)["socket"]).up()) for name in ("vm1", "vm2"))
        for i in range(60):
            if i == 10:
                before = switch.cpu_s()
            a.send([F.numbered(A, F.BROADCAST, i)])
            b.recv()
            time.sleep(0.02)
        spent = switch.cpu_s() - before
    assert spent < 0.1, f"{spent * 1000:.0f} ms of CPU time for 50 frames"


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
