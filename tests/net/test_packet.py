# SPDX-License-Identifier: Apache-2.0
"""Packet ports: interfaces that exist already, here one end of a veth pair with the kernel's stack at the other."""

import frames as F
import pytest
from flued import ApiError
from lan import exchange
from netns import bulk, datagrams
from wait import wait_until

A, B = F.mac(1), F.mac(2)


@pytest.fixture
def uplink(switch, netns):
    """uplink("up", address): a namespace with an interface "eth0", whose peer "p-up" is plugged into the switch from a
    namespace of its own."""

    def make(name, address=None, quiet=True, mtu=1500, **conf):
        inner, outer = netns(), netns()
        if quiet:
            inner.quiet()
            outer.quiet()
        inner.veth(f"p-{name}", "eth0", outer)
        inner.up(f"p-{name}", mtu=mtu)
        outer.up("eth0", address, mtu=mtu)
        switch.add(name, kind="packet", ifname=f"p-{name}", netns=inner.name, mtu=mtu, **conf)
        switch.wait_state(name, "up")
        outer.inner = inner
        return outer

    return make


def test_two_kernels_talk_through_the_switch_with_all_offloads_on(switch, uplink):
    """veth hands over frames with unfinished checksums and of 64 KiB: the switch must finish and cut them."""
    one, two = uplink("one", "10.2.0.1/24"), uplink("two", "10.2.0.2/24")
    features = one.exec("ethtool", "-k", "eth0").stdout
    assert "tcp-segmentation-offload: on" in features and "tx-checksumming: on" in features
    one.ping("10.2.0.2")
    one.ping("10.2.0.2", size=1472)
    one.ping("10.2.0.2", size=4000)
    datagrams(one, two, "10.2.0.2", [1, 100, 1472, 10000])
    bulk(one, two, "10.2.0.2", 20 << 20)
    bulk(two, one, "10.2.0.1", 5 << 20)
    for name in ("one", "two"):
        assert set(switch.drops(name)) <= {"kernel_full"}, "TCP may be told to slow down, nothing else"


def test_ipv6(uplink):
    one, two = uplink("one", "fd00::1/64", quiet=False), uplink("two", "fd00::2/64", quiet=False)
    one.ping("fd00::2")
    datagrams(one, two, "fd00::2", [1, 1000, 1452])
    bulk(one, two, "fd00::2", 10 << 20)


def test_jumbo(uplink):
    one, two = uplink("one", "10.2.0.1/24", mtu=9000), uplink("two", "10.2.0.2/24", mtu=9000)
    one.ping("10.2.0.2", size=8972)
    bulk(one, two, "10.2.0.2", 20 << 20)


def test_a_tap_and_a_veth(switch, netns, uplink):
    """One end finishes its checksums itself, the other leaves them to us."""
    outer, inside = uplink("up", "10.2.0.1/24"), netns()
    switch.add("tap", kind="tap", ifname="tap", netns=inside.name)
    inside.up("tap", "10.2.0.2/24")
    outer.ping("10.2.0.2")
    bulk(outer, inside, "10.2.0.2", 10 << 20)
    bulk(inside, outer, "10.2.0.1", 10 << 20)


def test_frames_between_a_guest_and_the_wire_are_unchanged(attach, uplink):
    outer, guest = uplink("up"), attach("vm1")
    with outer.raw("eth0") as raw:
        for size in range(14, 1515, 13):
            out = F.sized(A, F.BROADCAST, size)
            guest.send([out])
            assert raw.recv(1, wanted=lambda f: f[6:12] == F.mac_bytes(A)) == [out]
            back = F.sized(B, A, size)
            raw.send(back)
            assert guest.recv() == [back]


def test_bursts_keep_their_order(attach, uplink):
    outer, guest = uplink("up"), attach("vm1")
    with outer.raw("eth0") as raw:
        for i in range(0, 2000, 50):
            burst = [F.numbered(A, F.BROADCAST, i + k, 60 + k * 20) for k in range(50)]
            guest.send(burst)
            assert raw.recv(50) == burst
            back = [F.numbered(B, A, i + k, 60 + k * 20) for k in range(50)]
            for frame in back:
                raw.send(frame)
            assert guest.recv(50) == back


def test_tags_survive_the_kernel(attach, uplink):
    """The kernel takes tags out of received frames and hands them over beside; priority and DEI bits as well."""
    outer, access = uplink("up", trunk="10,20"), attach("vm1", {"vlan": 10})
    trunk = attach("vm2", {"trunk": "10,20"}, frame_max=1522)
    with outer.raw("eth0") as raw:
        for size in (60, 100, 1514):
            frame = F.sized(A, F.BROADCAST, size)
            access.send([frame])
            assert raw.recv(1, wanted=lambda f: f[6:12] == F.mac_bytes(A)) == [F.tagged(frame, 10)]
            assert trunk.recv() == [F.tagged(frame, 10)]
            back = F.sized(B, F.BROADCAST, size)
            raw.send(F.tagged(back, 0xB000 | 10))
            assert access.recv() == [back]
            assert trunk.recv() == [F.tagged(back, 0xB000 | 10)]


def test_a_trunk_to_the_kernels_vlan_interfaces(uplink):
    one, two = uplink("one", trunk="10,20"), uplink("two", "10.20.0.2/24", vlan=20)
    if not one.vlan("eth0", 20):
        pytest.skip("this kernel has no VLAN interfaces")
    one.up("eth0.20", "10.20.0.1/24")
    one.ping("10.20.0.2")
    bulk(one, two, "10.20.0.2", 10 << 20)
    bulk(two, one, "10.20.0.1", 10 << 20)


def test_what_the_port_sends_it_does_not_hear(switch, attach, uplink):
    guest, other = attach("vm1"), attach("vm2")
    uplink("up")
    frames = [F.sized(A, F.BROADCAST, 100) for _ in range(10)]
    assert exchange(guest, frames, [other], A) == [frames]
    wait_until(lambda: switch.counters("up")["tx_frames"] == 11, "the frames to leave")
    assert switch.counters("up")["rx_frames"] == 0
    assert guest.pending() == [] and other.pending() == []


def test_the_interface_is_promiscuous_as_long_as_it_is_a_port(switch, uplink):
    inner = uplink("up").inner

    def promiscuity():
        return int(inner.ip("-d", "link", "show", "p-up").stdout.split("promiscuity ")[1].split()[0])

    wait_until(lambda: promiscuity() > 0, "promiscuous mode")
    switch.delete("up")
    wait_until(lambda: promiscuity() == 0, "promiscuous mode to end")
    assert "p-up" in inner.ip("link").stdout


def test_a_wire_that_is_pulled_and_put_back(switch, attach, uplink):
    outer, guest = uplink("up"), attach("vm1")
    frame = F.sized(A, F.BROADCAST, 100)
    for _ in range(3):
        outer.ip("link", "set", "eth0", "down")  # the peer loses its carrier
        assert "p-up" in switch.wait_state("up", "down")["reason"]
        outer.ip("link", "set", "eth0", "up")
        switch.wait_state("up", "up")
        with outer.raw("eth0") as raw:
            guest.send([frame])
            assert raw.recv(1, wanted=lambda f: f == frame) == [frame]


def test_an_interface_that_is_deleted_and_made_again(switch, attach, uplink):
    outer, guest = uplink("up"), attach("vm1")
    outer.ip("link", "del", "eth0")
    switch.wait_state("up", "down")
    outer.inner.veth("p-up", "eth0", outer)
    outer.inner.up("p-up")
    outer.up("eth0")
    switch.wait_state("up", "up")
    with outer.raw("eth0") as raw:
        frame = F.sized(A, F.BROADCAST, 100)
        guest.send([frame])
        assert raw.recv(1, wanted=lambda f: f == frame) == [frame]
        back = F.sized(B, A, 200)
        raw.send(back)
        assert guest.recv() == [back]


def test_a_missing_interface_is_named(switch):
    with pytest.raises(ApiError) as refused:
        switch.add("up", kind="packet", ifname="no-such-if0")
    assert refused.value.status in (400, 409)
    assert refused.value.field == "ifname"
    assert "no-such-if0" in refused.value.message and refused.value.remedy


def test_an_mtu_the_interface_does_not_carry_is_refused(switch, netns):
    one, two = netns(), netns()
    one.veth("p0", "eth0", two)
    one.up("p0")
    with pytest.raises(ApiError) as refused:
        switch.add("up", kind="packet", ifname="p0", netns=one.name, mtu=9000)
    assert refused.value.status in (400, 409)
    assert refused.value.field == "mtu"
    assert "ip -n" in refused.value.remedy or "mtu" in refused.value.remedy


def test_ports_come_and_go_and_leave_nothing_behind(switch, netns):
    one, two = netns(), netns()
    one.veth("p0", "eth0", two)
    one.up("p0")
    two.up("eth0")
    fds = switch.n_fds()
    for _ in range(10):
        switch.add("up", kind="packet", ifname="p0", netns=one.name)
        switch.wait_state("up", "up")
        switch.delete("up")
    switch.wait_fds(fds)
