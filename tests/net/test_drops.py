# SPDX-License-Identifier: Apache-2.0
"""Every drop reason, one test each: how a frame comes to be dropped for it, where it is counted, and how often.

The list is src/port/drop.def itself; a reason without a producer here is a failure.
"""

import re
import signal
from pathlib import Path

import frames as F
import pytest
import vhost_user as vu
from lan import exchange
from wait import wait_until

A, B, C = (F.mac(i) for i in range(1, 4))
SOURCE = Path(__file__).resolve().parents[2] / "src/port/drop.def"
REASONS = re.findall(r'^DROP\(\w+, "(\w+)"', SOURCE.read_text(), re.M)
PRODUCERS = {}


def produces(function):
    PRODUCERS[function.__name__] = function
    return function


class Scene:
    """What producers need: guests, and wires of the kernel."""

    def __init__(self, switch, attach, netns):
        self.switch, self.attach, self.netns = switch, attach, netns

    def wire(self, name="up"):
        """A packet port; the namespaces of its interface p0 and of the peer eth0."""
        inner, outer = self.netns(), self.netns()
        inner.quiet()
        outer.quiet()
        inner.veth("p0", "eth0", outer)
        inner.up("p0")
        outer.up("eth0")
        self.switch.add(name, kind="packet", ifname="p0", netns=inner.name)
        self.switch.wait_state(name, "up")
        return inner, outer


@pytest.fixture
def scene(switch, attach, netns):
    return Scene(switch, attach, netns)


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason(scene, reason):
    assert reason in PRODUCERS, f"no test produces {reason}"
    port, n = PRODUCERS[reason](scene)
    drops = wait_until(lambda: scene.switch.drops(port), f"a drop at {port}")
    if n is None:  # as many as the moment brought, but no other reason
        assert set(drops) == {reason}
    else:
        wait_until(lambda: scene.switch.drops(port) == {reason: n}, f"{n} times {reason}: {scene.switch.drops(port)}")
    metric = f'flue_port_drops_total{{port="{port}",reason="{reason}"}} {scene.switch.drops(port)[reason]}'
    assert metric in scene.switch.metrics()
    assert reason in scene.switch.cli("stats", port).stdout


def test_the_api_names_every_reason(switch):
    told = {d["name"]: d["meaning"] for d in switch.api("GET", "/v1/drops")["drops"]}
    assert set(told) == set(REASONS)
    assert all(told.values())


def test_no_producer_is_left_over():
    assert set(PRODUCERS) == set(REASONS)


@produces
def too_short(s):
    a, b = s.attach("vm1"), s.attach("vm2")
    exchange(a, [F.frame(A, B)[:13]] * 3, [b], A)
    return "vm1", 3


@produces
def too_big(s):
    a, b = s.attach("vm1", {"mtu": 9000}, frame_max=9018), s.attach("vm2")
    exchange(a, [F.sized(A, B, 1515)] * 3, [b], A)
    return "vm2", 3


@produces
def queue_disabled(s):
    a = s.attach("vm1")
    a.vring_state(vu.SET_VRING_ENABLE, 1, 0)
    a.send([F.sized(A, B, 100)] * 3)
    return "vm1", 3


@produces
def bad_offload(s):
    """A checksum left to us, and a segmentation, though neither was offered."""
    a, b = s.attach("vm1"), s.attach("vm2")
    a.send([F.sized(A, B, 100)], header=bytes([1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]))
    a.send([F.sized(A, B, 3000)[:1500]], header=bytes([0, 1, 54, 0, 100, 0, 0, 0, 0, 0, 0, 0]))
    exchange(a, [], [b], A)
    return "vm1", 2


@produces
def bad_source(s):
    a, b = s.attach("vm1"), s.attach("vm2")
    exchange(a, [F.sized(F.BROADCAST, B, 100), F.sized("00:00:00:00:00:00", B, 100)], [b], A)
    return "vm1", 2


@produces
def mac_spoofed(s):
    a, b = s.attach("vm1", {"mac": A}), s.attach("vm2")
    exchange(a, [F.sized(C, B, 100)] * 3, [b], A)
    return "vm1", 3


@produces
def mac_taken(s):
    a, b = s.attach("vm1"), s.attach("vm2", {"mac": B})
    exchange(a, [F.sized(B, A, 100)] * 3, [b], A)
    return "vm1", 3


@produces
def vlan_tagged(s):
    a, b = s.attach("vm1", {"vlan": 10}), s.attach("vm2", {"vlan": 10})
    exchange(a, [F.tagged(F.sized(A, B, 100), 10)] * 3, [b], A)
    return "vm1", 3


@produces
def vlan_untagged(s):
    a = s.attach("vm1", {"trunk": "10"})
    a.send([F.sized(A, B, 100)] * 3)
    return "vm1", 3


@produces
def vlan_denied(s):
    a = s.attach("vm1", {"trunk": "10"})
    a.send([F.tagged(F.sized(A, B, 100), vid) for vid in (9, 11, 4094)])
    return "vm1", 3


@produces
def link_local(s):
    a, b = s.attach("vm1"), s.attach("vm2")
    exchange(a, [F.sized(A, "01:80:c2:00:00:0e", 100)] * 3, [b], A)
    return "vm1", 3


@produces
def same_port(s):
    a, b = s.attach("vm1"), s.attach("vm2")
    exchange(a, [F.sized(A, C, 100), F.sized(C, A, 100), F.sized(A, C, 100)], [b], A)
    return "vm1", 2


@produces
def no_destination(s):
    a, _ = s.attach("vm1", {"vlan": 10}), s.attach("vm2", {"vlan": 20})
    a.send([F.sized(A, B, 100)] * 3)
    return "vm1", 3


@produces
def port_down(s):
    """A frame that was on its way to a port just when that went down: known there, but not to be delivered any more."""
    a, b, _ = s.attach("vm1"), s.attach("vm2"), s.attach("vm3")

    def in_the_nick_of_time():
        exchange(b, [], [a], B)
        b.send_message(vu.SET_VRING_ENABLE, b"\0\0\0\0\0\0\0\0")
        for _ in range(4):
            a.send([F.sized(A, B, 100)] * 50)
        b.vring_state(vu.SET_VRING_ENABLE, 0, 1)
        a.wait_tx()
        b.pending()
        return s.switch.drops("vm2").get("port_down")

    b.protocol &= ~vu.PF_REPLY_ACK  # do not wait for anything
    wait_until(in_the_nick_of_time, "a frame to come at the wrong moment")
    return "vm2", None


@produces
def queue_full(s):
    a, b = s.attach("vm1"), s.attach("vm2", size=64)
    a.send([F.sized(A, F.BROADCAST, 100)] * 70)
    a.wait_tx()
    assert b.rx_ring().ready() == 64
    return "vm2", 6


@produces
def kernel_full(s):
    """An interface that has just lost its carrier takes no more frames, like one whose queue is full; a moment later
    the port is down."""
    _, outer = s.wire()
    a = s.attach("vm1")

    def send_at_that_moment():
        s.switch.wait_state("up", "up")
        frames = [F.sized(A, F.BROADCAST, 100)] * 50
        a.send(frames)
        outer.switch("eth0", False)
        a.send(frames)
        a.wait_tx()
        outer.switch("eth0", True)
        return s.switch.drops("up")

    wait_until(send_at_that_moment, "frames to meet a busy interface", 60)
    return "up", None


@produces
def kernel_refused(s):
    """The administrator has lowered the interface's MTU."""
    inner, _ = s.wire()
    inner.ip("link", "set", "p0", "mtu", "1000")
    a = s.attach("vm1")
    wait_until(lambda: s.switch.port("up")["detail"], "the port to be there")
    a.send([F.sized(A, F.BROADCAST, 1400)] * 3 + [F.sized(A, F.BROADCAST, 1000)])
    wait_until(lambda: s.switch.counters("up")["tx_frames"] == 1, "the frame that fits")
    return "up", 3


@produces
def kernel_lost(s):
    """flued does not get to run for a while, and the ring shared with the kernel fills up."""
    _, outer = s.wire()
    s.attach("vm1")
    with outer.raw("eth0") as raw:
        s.switch.process.send_signal(signal.SIGSTOP)
        try:
            for i in range(20000):
                raw.send(F.numbered(A, F.BROADCAST, i, 1000))
        finally:
            s.switch.process.send_signal(signal.SIGCONT)
    wait_until(lambda: s.switch.drops("up"), "the loss to be noticed")
    lost = wait_until(
        lambda: (d := s.switch.drops("up")).get("kernel_lost", 0) + s.switch.counters("up")["rx_frames"] >= 20000 and d,
        "every frame to be received or counted as lost",
    )
    assert lost["kernel_lost"] + s.switch.counters("up")["rx_frames"] == 20000
    return "up", None


@produces
def broken(s):
    a, b = s.attach("vm1"), s.attach("vm2")
    ring = b.rx_ring()
    for i in range(ring.size):
        ring.write_desc(i, 1 << 50, 2048, 2)
    a.send([F.sized(A, F.BROADCAST, 100)])
    s.switch.wait_state("vm2", "broken")
    return "vm2", 1
