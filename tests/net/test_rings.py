# SPDX-License-Identifier: Apache-2.0
"""Notifications and back pressure: nobody is woken in vain, and nobody sleeps through a frame."""

import contextlib
import os
import time

import frames as F
import pytest
import vhost_user as vu
from guest import Guest
from lan import exchange
from vring import NO_NOTIFY
from wait import stays, wait_until

A, B = F.mac(1), F.mac(2)
MODES = pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event_idx"])


@pytest.fixture
def pair(attach):
    def make(**kwargs):
        return attach("vm1", **kwargs), attach("vm2", **kwargs)

    return make


@pytest.fixture
def pair_of(start_flued):
    """The same on a switch whose workers spin for so long before they sleep."""
    with contextlib.ExitStack() as stack:

        def make(spin_us, **kwargs):
            switch = start_flued({"workers": {"spin_us": spin_us}})
            paths = [switch.add(name)["socket"] for name in ("vm1", "vm2")]
            return [stack.enter_context(Guest(path, **kwargs)).up() for path in paths]

        yield make


@MODES
def test_an_idle_switch_asks_for_a_kick(pair, event_idx):
    a, b = pair(event_idx=event_idx)
    for i in range(20):
        wait_until(a.tx_ring().kick_armed, "the switch to ask for a kick")
        assert a.send([F.numbered(A, B, i)]), "the kick was not wanted after all"
        b.recv()


@MODES
def test_a_switch_that_is_awake_asks_for_none(pair_of, event_idx):
    a, b = pair_of(1000000, event_idx=event_idx)
    get_going(a, b)
    ring = a.tx_ring()
    if not event_idx:
        wait_until(lambda: ring.used16[0] == NO_NOTIFY, "the switch to be awake")
    before = ring.kicks
    for _ in range(20):
        for _ in range(50):
            a.send([F.numbered(A, B, 0)])
        b.recv(50)
    assert ring.kicks == before


@MODES
def test_no_wakeup_is_lost(pair, event_idx):
    """Frames at times when the queue is just falling asleep; nobody helps with a second kick."""
    a, b = pair(event_idx=event_idx)
    for i in range(3000):
        frame = F.numbered(A, B, i)
        a.send([frame])
        assert b.recv() == [frame]
        if i % 3 == 0:
            end = time.monotonic() + (i % 60) * 1e-6
            while time.monotonic() < end:
                pass


@MODES
def test_a_worker_that_does_not_spin_misses_nothing(pair_of, event_idx):
    """It falls asleep after every frame; the second one is shown just when it has finished the first."""
    a, b = pair_of(0, event_idx=event_idx)
    get_going(a, b)
    ring = a.tx_ring()
    ring.interrupts_off()
    for i in range(3000):
        a.send([F.numbered(A, B, i)])
        a.prepare(F.numbered(A, B, i))
        while ring.ready() == 0:
            pass
        for _ in range(i % 50):
            pass
        ring.publish()
        wait_until(lambda: ring.ready() == 2, f"the second frame to be taken (round {i})", pause_s=0)
        a.reap_tx()
        if i % 50 == 49:
            assert len(b.recv(100)) == 100


def get_going(a, b):
    """Some frames both ways: the first use of a ring may interrupt in any case."""
    for _ in range(2):
        exchange(a, [], [b], A)
        exchange(b, [], [a], B)
    a.wait_tx()
    b.wait_tx()


@MODES
def test_no_interrupt_comes_unasked(pair, event_idx):
    a, b = pair(event_idx=event_idx)
    get_going(a, b)
    ring = b.rx_ring()
    ring.interrupts_off()
    ring.interrupted()
    a.tx_ring().interrupts_off()
    a.tx_ring().interrupted()
    for i in range(100):
        a.send([F.numbered(A, B, i)])
    wait_until(lambda: ring.ready() == 100, "frames to arrive", pause_s=0.001)
    stays(lambda: ring.interrupted() == 0 and a.tx_ring().interrupted() == 0, "no interrupt")


def test_with_event_idx_the_interrupt_comes_at_the_index_asked_for(pair):
    a, b = pair(event_idx=True)
    get_going(a, b)
    ring = b.rx_ring()
    ring.avail[2 + ring.size] = (ring.last_used + 9) & 0xFFFF  # used_event: after the tenth
    ring.interrupted()
    for i in range(9):
        a.send([F.numbered(A, B, i)])
        wait_until(lambda: ring.ready() == i + 1, "the frame to arrive", pause_s=0.0005)
    stays(lambda: ring.interrupted() == 0, "no interrupt before the tenth frame")
    a.send([F.numbered(A, B, 9)])
    wait_until(ring.interrupted, "the interrupt for the tenth frame")


@MODES
def test_the_sender_is_told_when_its_buffers_come_back(pair, event_idx):
    a, b = pair(event_idx=event_idx)
    for i in range(10):
        a.send([F.numbered(A, B, i)] * 20)
        a.wait_tx()  # sleeps on the interrupt
        assert len(b.recv(20)) == 20


@MODES
def test_the_sender_is_told_of_dropped_frames_too(pair, event_idx):
    """Nothing goes out, but its buffers come back all the same."""
    a, b = pair(event_idx=event_idx)
    get_going(a, b)
    ring = a.tx_ring()
    for _ in range(20):
        a.reap_tx()
        ring.interrupted()
        assert not ring.interrupts_on()
        a.send([b"too short"])
        wait_until(ring.interrupted, "the interrupt", 5)


def test_a_receiver_without_buffers_loses_frames_and_they_are_counted(switch, attach):
    a, b = attach("vm1"), attach("vm2", size=64)
    exchange(b, [], [a], B)
    switch_before = switch.counters("vm2")["tx_frames"]
    a.send([F.numbered(A, B, i) for i in range(100)])
    a.wait_tx()
    wait_until(lambda: switch.drops("vm2") == {"queue_full": 36}, "36 drops")
    got = b.recv(64)
    assert [F.number_of(f) for f in got] == list(range(64)), "the first ones stay"
    assert switch.counters("vm2")["tx_frames"] - switch_before == 64
    a.send([F.numbered(A, B, 100)])
    assert F.number_of(b.recv()[0]) == 100


def test_a_frame_larger_than_the_buffers_left_is_dropped_whole(switch, attach):
    a, b = attach("vm1", {"mtu": 9000}, frame_max=9018), attach("vm2", {"mtu": 9000}, size=4, frame_max=9018)
    b.check_tail = False  # buffers that were filled and then taken back may be seen again
    small = [F.numbered(A, F.BROADCAST, i) for i in range(2)]
    a.send([small[0], F.sized(A, F.BROADCAST, 9014), small[1]])  # the large one needs five buffers
    assert b.recv(2) == small
    assert switch.drops("vm2") == {"queue_full": 1}


def test_a_buffer_too_small_for_a_frame_is_kept_for_the_next(switch, attach):
    """Without mergeable buffers."""
    a, b = attach("vm1"), attach("vm2", mergeable=False, rx_buffer=1000)
    small = F.sized(A, F.BROADCAST, 988)
    assert exchange(a, [F.sized(A, F.BROADCAST, 989), small], [b], A) == [[small]]
    assert switch.drops("vm2") == {"too_big": 1}


def test_a_driver_that_is_slow_to_post_still_gets_its_frames(pair):
    """Buffers come back one by one while frames keep coming."""
    a, b = pair(size=64)
    got = 0
    for i in range(300):
        a.send([F.numbered(A, F.BROADCAST, i)])
        if i % 2:
            got += len(b.recv(2))
    assert got == 300


def test_a_disabled_pair_neither_gets_nor_gives(switch, attach):
    a, b = attach("vm1"), attach("vm2")
    for ring in (0, 1):
        a.vring_state(vu.SET_VRING_ENABLE, ring, 0)
    switch.wait_state("vm1", "starting")
    a.send([F.numbered(A, F.BROADCAST, 1)])
    a.wait_tx()  # consumed, and thrown away
    switch.wait_drops("vm1", queue_disabled=1)
    for ring in (0, 1):
        a.vring_state(vu.SET_VRING_ENABLE, ring, 1)
    switch.wait_state("vm1", "up")
    frame = F.numbered(A, F.BROADCAST, 2)
    a.send([frame])
    assert b.recv() == [frame]


def test_rings_without_a_kick_descriptor_are_polled(switch, attach):
    """SET_VRING_KICK without a descriptor: the front end will not kick at all."""
    b = attach("vm2")
    with Guest(switch.add("vm1")["socket"]) as a:
        a.connect()
        a.attach()
        a.share_memory()
        a.post()
        for i, ring in enumerate(a.rings):
            os.close(ring.kick_fd)
            ring.kick_fd = -1
            a.vring_state(vu.SET_VRING_NUM, i, ring.size)
            a.vring_state(vu.SET_VRING_BASE, i, 0)
            a.address_ring(i)
            a.vring_fd(vu.SET_VRING_CALL, i, ring.call_fd)
            a.vring_fd(vu.SET_VRING_KICK, i, None)
            ring.kick = lambda: None
            a.vring_state(vu.SET_VRING_ENABLE, i, 1)
        switch.wait_state("vm1", "up")
        for i in range(100):
            frame = F.numbered(A, F.BROADCAST, i)
            a.send([frame])
            assert b.recv() == [frame]
            if i % 10 == 0:
                time.sleep(0.002)
        answer = F.numbered(B, A, 0)
        b.send([answer])
        assert a.recv() == [answer]


def test_a_driver_that_polls_needs_no_call_descriptor(switch, attach):
    a, b = attach("vm1"), attach("vm2")
    for i in range(2):
        b.vring_fd(vu.SET_VRING_CALL, i, None)
    a.send([F.numbered(A, F.BROADCAST, i) for i in range(50)])
    wait_until(lambda: b.rx_ring().ready() == 50, "frames in the ring")
    assert len(b.recv(50)) == 50
