# SPDX-License-Identifier: Apache-2.0
"""Tap ports: interfaces that flued makes, used by the kernel's own stack."""

import frames as F
import pytest
from flued import ApiError
from lan import exchange
from netns import bulk, datagrams
from wait import wait_until

A, B = F.mac(1), F.mac(2)


@pytest.fixture
def tap(switch, netns):
    """tap("left", address, ...): a tap port in a namespace of its own."""

    def make(name, address=None, quiet=True, **conf):
        ns = netns()
        if quiet:
            ns.quiet()
        switch.add(name, kind="tap", ifname=name, netns=ns.name, **conf)
        ns.up(name, address)
        switch.wait_state(name, "up")
        return ns

    return make


def test_two_kernels_talk_through_the_switch(switch, tap):
    one, two = tap("one", "10.1.0.1/24"), tap("two", "10.1.0.2/24")
    one.ping("10.1.0.2")
    one.ping("10.1.0.2", size=1472)
    one.ping("10.1.0.2", size=4000)  # in fragments
    datagrams(one, two, "10.1.0.2", [1, 100, 1472, 10000])
    bulk(one, two, "10.1.0.2", 20 << 20)
    bulk(two, one, "10.1.0.1", 5 << 20)
    assert switch.drops("one") == {} and switch.drops("two") == {}
    fdb = switch.fdb()
    assert fdb[(one.mac("one"), 1)]["port"] == "one"
    assert fdb[(two.mac("two"), 1)]["port"] == "two"


def test_ipv6(tap):
    one, two = tap("one", "fd00::1/64", quiet=False), tap("two", "fd00::2/64", quiet=False)
    one.ping("fd00::2")
    bulk(one, two, "fd00::2", 5 << 20)


def test_jumbo(switch, tap):
    one, two = tap("one", "10.1.0.1/24", mtu=9000), tap("two", "10.1.0.2/24", mtu=9000)
    assert "mtu 9000" in one.ip("link", "show", "one").stdout
    one.ping("10.1.0.2", size=8972)
    bulk(one, two, "10.1.0.2", 20 << 20)
    switch.set("one", mtu=4000)
    assert "mtu 4000" in one.ip("link", "show", "one").stdout
    one.ping("10.1.0.2", size=3972)


def test_frames_between_a_guest_and_a_tap_are_unchanged(attach, tap):
    ns, guest = tap("one"), attach("vm1", frame_max=1518)
    with ns.raw("one") as raw:
        for size in range(14, 1515, 13):
            out = F.sized(A, F.BROADCAST, size)
            guest.send([out])
            assert raw.recv(1, wanted=lambda f: f[6:12] == F.mac_bytes(A)) == [out]
            back = F.sized(B, A, size)
            raw.send(back)
            assert guest.recv() == [back]


def test_chained_guest_frames_reach_a_tap_whole(attach, tap):
    ns, guest = tap("one", mtu=9000), attach("vm1", {"mtu": 9000}, frame_max=9018)
    with ns.raw("one") as raw:
        for pieces in (2, 17, 60):
            out = F.sized(A, F.BROADCAST, 9014)
            guest.send([out], cuts=(12, *range(1, pieces)))
            assert raw.recv() == [out]


def test_a_guest_is_answered_by_the_kernel(attach, tap):
    from scapy.all import ARP, ICMP, IP, Ether, Raw

    ns, guest = tap("one", "10.1.0.1/24"), attach("vm1", {"mac": A})
    guest.send([bytes(Ether(src=A, dst=F.BROADCAST) / ARP(hwsrc=A, psrc="10.1.0.9", pdst="10.1.0.1"))])
    reply = Ether(guest.recv()[0])
    assert reply[ARP].op == 2 and reply[ARP].hwsrc == ns.mac("one")
    for size in (0, 56, 1400):
        data = F.noise(size)
        request = Ether(src=A, dst=reply.src) / IP(src="10.1.0.9", dst="10.1.0.1") / ICMP(id=7, seq=size) / Raw(data)
        guest.send([bytes(request)])
        answer = wait_until(lambda: echo_in(guest.recv()), "the echo")
        assert (answer[ICMP].seq, bytes(answer[ICMP].payload)) == (size, data)


def echo_in(frames):
    from scapy.all import ICMP, Ether

    answers = [Ether(f) for f in frames]
    return next((a for a in answers if ICMP in a and a[ICMP].type == 0), None)


def test_a_tap_as_a_trunk(attach, tap):
    ns, guest, other = tap("trunk", trunk="10,20"), attach("vm1", {"vlan": 20}), attach("vm2", {"vlan": 10})
    with ns.raw("trunk") as raw:
        for size in (60, 400, 1514):
            frame = F.sized(A, F.BROADCAST, size)
            guest.send([frame])
            assert raw.recv() == [F.tagged(frame, 20)]
            back = F.sized(B, A, size)
            raw.send(F.tagged(back, 0x6000 | 20))
            assert guest.recv(1) == [back]
    assert other.pending() == []


def test_a_trunk_to_the_kernels_vlan_interfaces(tap):
    ns = tap("trunk", trunk="10,20")
    for vid in (10, 20):
        if not ns.vlan("trunk", vid):
            pytest.skip("this kernel has no VLAN interfaces")
        ns.up(f"trunk.{vid}", f"10.{vid}.0.1/24")
        other = tap(f"a{vid}", f"10.{vid}.0.2/24", vlan=vid)
        other.ping(f"10.{vid}.0.1")
        bulk(other, ns, f"10.{vid}.0.1", 5 << 20)


def test_an_interface_that_is_switched_off_and_on(switch, attach, tap):
    ns, guest, other = tap("one", "10.1.0.1/24"), attach("vm1"), attach("vm2")
    ns.ip("link", "set", "one", "down")
    port = switch.wait_state("one", "down")
    assert "one" in port["reason"]
    frame = F.sized(A, F.BROADCAST, 100)
    assert exchange(guest, [frame], [other], A) == [[frame]]
    before = switch.counters("one")["tx_frames"]
    ns.ip("link", "set", "one", "up")
    switch.wait_state("one", "up")
    with ns.raw("one") as raw:
        guest.send([frame])
        assert raw.recv(1, wanted=lambda f: f == frame) == [frame]
    assert switch.counters("one")["tx_frames"] > before


def test_a_deleted_interface_is_noticed(switch, tap):
    ns = tap("one")
    ns.ip("link", "del", "one")
    assert "deleted" in switch.wait_state("one", "down")["reason"]
    switch.delete("one")
    switch.add("one", kind="tap", netns=ns.name)
    ns.up("one")
    switch.wait_state("one", "up")


def test_the_interface_goes_with_the_port(switch, netns):
    ns = netns()
    fds = switch.n_fds()
    for _ in range(5):
        switch.add("one", kind="tap", netns=ns.name)
        assert "one" in ns.ip("link").stdout
        switch.delete("one")
        assert "one" not in ns.ip("link").stdout
    switch.wait_fds(fds)


def test_a_namespace_that_does_not_exist_is_named(switch):
    with pytest.raises(ApiError) as refused:
        switch.add("one", kind="tap", netns="no-such-place")
    assert refused.value.status in (400, 409)
    assert refused.value.field == "netns"
    assert refused.value.remedy


def test_an_interface_that_exists_is_not_taken(switch, netns):
    ns = netns()
    ns.veth("one", "peer", ns)
    with pytest.raises(ApiError) as refused:
        switch.add("one", kind="tap", netns=ns.name)
    assert refused.value.status == 409
    assert refused.value.field == "ifname"


def test_the_spoof_guard_works_on_a_tap(switch, attach, tap):
    ns, guest = tap("one", mac=B), attach("vm1")
    with ns.raw("one") as raw:
        raw.send(F.sized(A, F.BROADCAST, 100))
        honest = F.sized(B, F.BROADCAST, 100)
        raw.send(honest)
        assert guest.recv() == [honest]
    assert switch.drops("one")["mac_spoofed"] >= 1
