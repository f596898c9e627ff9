# SPDX-License-Identifier: Apache-2.0
"""Segments that a wire brings one by one reach a guest that takes super-frames merged, and cut again they are what they were.

Only what is received together is merged, so flued is held while the segments arrive."""

import contextlib
import signal
from pathlib import Path

import frames as F
import pytest
import superframes as S
import vhost_user as vu
from lan import exchange
from net_header import GSO_NONE, GUEST_OFFLOADS
from scapy.layers.inet import TCP
from scapy.layers.l2 import Ether
from wait import wait_until

A, B = F.mac(1), F.mac(2)
SEGMENTS = 30  # fewer than any port takes at once, and shorter than IP
SIZE = SEGMENTS * S.MSS - 100
KINDS = {"tcp4": S.tcp4, "tcp6": S.tcp6}


class Wire:
    """A port of this kind, and the far end of its wire."""

    def __init__(self, switch, netns, kind, **conf):
        self.switch = switch
        near, far = netns(), netns()
        near.quiet()
        far.quiet()
        if kind == "packet":
            near.veth("p0", "eth0", far)
            near.up("p0")
            switch.add("up", kind="packet", ifname="p0", netns=near.name, **conf)
        else:
            switch.add("up", kind="tap", ifname="eth0", netns=far.name, **conf)
        far.up("eth0")
        switch.wait_state("up", "up")
        self.raw = far.raw("eth0")

    def is_stopped(self):
        tasks = Path(f"/proc/{self.switch.pid}/task").iterdir()
        return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)

    def send_together(self, frames):
        self.switch.process.send_signal(signal.SIGSTOP)
        wait_until(self.is_stopped, "every thread of flued to be stopped")
        try:
            for frame in frames:
                self.raw.send(frame)
        finally:
            self.switch.process.send_signal(signal.SIGCONT)


@pytest.fixture(params=["tap", "packet"])
def wire(request, switch, netns):
    """wire({configuration}): what brings the segments; there is a sender behind it."""
    with contextlib.ExitStack() as stack:

        def make(**conf):
            made = Wire(switch, netns, request.param, **conf)
            stack.enter_context(made.raw)
            return made

        yield make


@pytest.fixture
def station(attach):
    """station(features): a guest that the switch knows to have address B."""

    def make(offloads=GUEST_OFFLOADS):
        guest = attach("vm1", also=offloads, frame_max=65557)
        assert guest.features & GUEST_OFFLOADS == offloads
        exchange(guest, [], [], B)
        guest.wait_tx()
        return guest

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_segments_are_merged(switch, wire, station, kind):
    up, guest = wire(), station()
    packet = KINDS[kind](A, B, SIZE)
    header, frame = S.undone(packet, S.MSS)
    up.send_together(S.cut(packet, S.MSS))
    (got,) = guest.recv()
    assert (got, got.header) == (frame, header)
    counters = switch.counters("up"), switch.counters("vm1")
    assert counters[0]["rx_frames"] >= SEGMENTS and counters[1]["tx_frames"] < SEGMENTS
    assert switch.drops("vm1") == {}


def test_merging_is_switched_off_and_on(switch, wire, station):
    up, guest = wire(coalesce=False), station()
    packet = S.tcp4(A, B, SIZE)
    segments = S.cut(packet, S.MSS)
    up.send_together(segments)
    assert guest.recv(SEGMENTS) == segments
    switch.set("up", coalesce=True)
    up.send_together(segments)
    assert guest.recv() == [S.undone(packet, S.MSS)[1]]
    switch.set("up", coalesce=False)
    up.send_together(segments)
    assert guest.recv(SEGMENTS) == segments


LACKING = {
    "nothing": 0,
    "only checksums": vu.NET_F_GUEST_CSUM,
    "the other IP": GUEST_OFFLOADS & ~vu.NET_F_GUEST_TSO4 & ~vu.NET_F_GUEST_ECN,
}


@pytest.mark.parametrize("offloads", LACKING.values(), ids=LACKING)
def test_who_takes_no_superframes_gets_single_segments(wire, station, offloads):
    up, guest = wire(), station(offloads)
    segments = S.cut(S.tcp4(A, B, SIZE), S.MSS)
    up.send_together(segments)
    got = guest.recv(SEGMENTS)
    assert [frame.finished() for frame in got] == segments
    assert all(frame.header.gso_type == GSO_NONE for frame in got)


def test_a_damaged_segment_stays_damaged_and_alone(wire, station):
    """A checksum that was wrong must not come out right."""
    up, guest = wire(), station()
    packet = S.tcp4(A, B, SIZE)
    segments = S.cut(packet, S.MSS)
    bad = segments[20][:-1] + bytes([segments[20][-1] ^ 1])
    up.send_together(segments[:20] + [bad] + segments[21:])
    before, damaged, behind = guest.recv(3)
    assert (damaged, damaged.header.gso_type, damaged.header.flags) == (bad, GSO_NONE, 0)
    payload = bytes(S.l4_of(packet).payload)
    assert payload_of(before) == payload[: 20 * S.MSS]
    assert payload_of(behind) == payload[21 * S.MSS :]


def payload_of(frame):
    return bytes(Ether(bytes(frame))[TCP].payload)


def test_connections_that_take_turns_are_merged_each(wire, station):
    up, guest = wire(), station()
    one, two = S.tcp4(A, B, 15 * S.MSS), S.tcp4(A, B, 15 * S.MSS, ip_src="10.0.0.3")
    both = [frame for pair in zip(S.cut(one, S.MSS), S.cut(two, S.MSS)) for frame in pair]
    up.send_together(both)
    assert guest.recv(2) == [S.undone(one, S.MSS)[1], S.undone(two, S.MSS)[1]]


def test_a_gap_in_a_connection_stays_one(wire, station):
    up, guest = wire(), station()
    packet = S.tcp4(A, B, SIZE)
    segments = S.cut(packet, S.MSS)
    up.send_together(segments[:10] + segments[11:])
    payload = bytes(S.l4_of(packet).payload)
    assert [payload_of(f) for f in guest.recv(2)] == [payload[: 10 * S.MSS], payload[11 * S.MSS :]]


def test_datagrams_are_never_merged(wire, station):
    up, guest = wire(), station()
    datagrams = S.cut(S.udp4(A, B, SIZE), S.MSS)
    up.send_together(datagrams)
    assert guest.recv(SEGMENTS) == datagrams


def test_what_guests_send_is_not_merged(attach, station):
    sender, guest = attach("vm2"), station()
    segments = S.cut(S.tcp4(A, B, SIZE), S.MSS)
    sender.send(segments)
    assert guest.recv(SEGMENTS) == segments
