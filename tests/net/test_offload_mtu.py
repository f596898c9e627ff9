# SPDX-License-Identifier: Apache-2.0
"""Frames for a port whose MTU is smaller than its neighbours': TCP super-frames are cut smaller, the sender of anything else
is told by ICMP, unless that is not wanted or nobody could be told."""

import frames as F
import pytest
import superframes as S
from lan import exchange
from net_header import GUEST_OFFLOADS, HOST_OFFLOADS
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Dot1Q, Ether

A, B, UNKNOWN = (F.mac(i) for i in range(1, 4))
ALL = HOST_OFFLOADS | GUEST_OFFLOADS
FRAME_MAX = 65557
TOLD_PER_S = 100  # fwd/too_big_hot.c


@pytest.fixture
def two(attach):
    """two({of the sender}, {of the receiver}): a guest with a large MTU, and one with 1500 that is known to be B."""

    def make(sender=None, receiver=None, offloads=ALL):
        a = attach("vm1", {"mtu": 9000, **(sender or {})}, also=ALL, frame_max=FRAME_MAX)
        b = attach("vm2", {"mtu": 1500, **(receiver or {})}, also=offloads, frame_max=FRAME_MAX)
        b.send([F.sized(B, F.BROADCAST, 60)])
        a.recv()
        return a, b

    return make


def send(guest, packet, gso_size=0):
    header, frame = S.undone(packet, gso_size)
    guest.send([frame], header=header.pack())


KINDS = {"tcp4": S.tcp4, "tcp6": S.tcp6}


@pytest.mark.parametrize("offloads", [ALL, 0], ids=["all", "nothing"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tcp_superframe_is_cut_smaller(two, switch, kind, offloads):
    a, b = two(offloads=offloads)
    packet = KINDS[kind](A, B)
    send(a, packet, 8900)
    headers = len(packet) - len(S.l4_of(packet).payload) - 14
    segments = S.cut(packet, 1500 - headers)
    assert max(map(len, segments)) == 1514
    assert [f.finished() for f in b.recv(len(segments))] == segments
    assert switch.drops("vm2") == {} and a.pending() == []


def answers(a):
    """Frames for @a, taken apart, and their checksums compared with scapy's."""
    packets = [Ether(bytes(frame)) for frame in a.recv()]
    for packet in packets:
        again = packet.copy()
        if IP in again:
            del again[IP].chksum, again[ICMP].chksum
        else:
            del again[ICMPv6PacketTooBig].cksum
        assert bytes(again) == bytes(packet), "a wrong checksum"
    return packets


def check_answer(a, packet, mtu=1500):
    """An ICMP message in the name of the receiver, that quotes what was sent."""
    (answer,) = answers(a)
    assert (answer.src, answer.dst) == (packet.dst, packet.src)
    sent = bytes(packet.payload)
    if IP in packet:
        assert (answer[IP].src, answer[IP].dst) == (packet[IP].dst, packet[IP].src)
        icmp = answer[ICMP]
        assert (icmp.type, icmp.code, icmp.nexthopmtu) == (3, 4, mtu)
        quoted = bytes(icmp.payload)
    else:
        assert (answer[IPv6].src, answer[IPv6].dst) == (packet[IPv6].dst, packet[IPv6].src)
        icmp = answer[ICMPv6PacketTooBig]
        assert (icmp.code, icmp.mtu) == (0, mtu)
        quoted = bytes(icmp.payload)
    assert len(quoted) >= 28 and sent.startswith(quoted[:28])


def echo4(size=3000, **ip):
    ip = {"src": "10.0.0.1", "dst": "10.0.0.2", "flags": "DF"} | ip
    return S.fill(Ether(src=A, dst=B) / IP(**ip) / ICMP(), size)


def echo6(size=3000, dst="fd00::2"):
    return Ether(src=A, dst=B) / IPv6(src="fd00::1", dst=dst) / ICMPv6EchoRequest(data=F.noise(size))


LONG = {
    "IPv4": echo4(), "IPv6": echo6(), "one byte": echo4(1500 - 28 + 1), "UDP": S.udp4(A, B, 3000, flags="DF"),
    "TCP": S.tcp4(A, B, 3000), "TCP over IPv6": S.tcp6(A, B, 3000),
}  # fmt: skip


@pytest.mark.parametrize("packet", LONG.values(), ids=LONG)
def test_who_sends_a_long_packet_is_told(two, switch, packet):
    a, b = two()
    a.send([bytes(packet)])
    check_answer(a, packet)
    assert exchange(a, [], [b], A) == [[]]
    assert switch.drops("vm2") == {"too_big": 1}


def test_datagrams_of_a_superframe_cannot_be_cut_smaller(two, switch):
    a, b = two()
    packet = S.udp4(A, B, 30000, flags="DF")
    send(a, packet, 3000)
    (answer,) = answers(a)
    assert answer[ICMP].nexthopmtu == 1500
    assert exchange(a, [], [b], A) == [[]]
    assert switch.drops("vm2") == {"too_big": 1}


def test_what_just_fits_is_not_answered(two, switch):
    a, b = two()
    packet = echo4(1500 - 28)
    assert exchange(a, [bytes(packet)], [b], A) == [[bytes(packet)]]
    assert a.pending() == [] and switch.drops("vm2") == {}


def test_the_answer_on_a_trunk_is_tagged(two):
    a, b = two(sender={"trunk": "10"}, receiver={"vlan": 10})
    packet = echo4()
    tagged = Ether(src=A, dst=B) / Dot1Q(vlan=10) / packet.payload.copy()
    a.send([bytes(tagged)])
    answer = Ether(bytes(a.recv()[0]))
    assert answer[Dot1Q].vlan == 10
    assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, 1500)
    assert b.pending() == []


UNANSWERED = {
    "an error message": Ether(src=A, dst=B) / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(type=3, code=4) / F.noise(3000),
    "a later fragment": echo4(frag=100, flags=0),
    "to a group": echo4(dst="224.0.0.5"),
    "to all": echo4(dst="255.255.255.255"),
    "from no address": echo4(src="0.0.0.0"),
    "to an IPv6 group": echo6(dst="ff02::5"),
    "no IP": F.sized(A, B, 3000),
    "an error message, IPv6": Ether(src=A, dst=B) / IPv6(src="fd00::1", dst="fd00::2") / ICMPv6PacketTooBig() / F.noise(3000),
}  # fmt: skip


@pytest.mark.parametrize("packet", UNANSWERED.values(), ids=UNANSWERED)
def test_what_must_not_be_answered(two, switch, packet):
    a, b = two()
    a.send([bytes(packet)])  # alone: nothing in its batch is for others
    switch.wait_drops("vm2", too_big=1)
    assert exchange(a, [], [b], A) == [[]]
    assert a.pending() == []


def test_a_flood_is_not_answered(two, switch, attach):
    """Other receivers have got it; and who would be the one to answer?"""
    a, b = two()
    c = attach("vm3", {"mtu": 9000}, frame_max=9018)
    packet = echo4()
    packet.dst = UNKNOWN
    a.send([bytes(packet)])
    assert exchange(a, [], [b, c], A) == [[], [bytes(packet)]]
    assert a.pending() == [] and switch.drops("vm2") == {"too_big": 1}


def test_nobody_is_told_if_that_is_switched_off(two, switch):
    a, b = two(sender={"too_big_reply": False})
    a.send([bytes(echo4())])
    switch.wait_drops("vm2", too_big=1)
    exchange(a, [], [b], A)
    assert a.pending() == []
    switch.set("vm1", too_big_reply=True)
    a.send([bytes(echo4())])
    check_answer(a, echo4())


def test_answers_are_bounded(two):
    """A guest that sends long frames all the time must not have the switch work for it."""
    a, b = two()
    frames = [bytes(echo4())] * (3 * TOLD_PER_S)
    exchange(a, frames, [b], A)
    got = len(a.pending())
    assert TOLD_PER_S <= got <= 2 * TOLD_PER_S, "one second's worth, or two"


def test_a_guests_mtu_that_grows_is_used_at_once(two, switch):
    a, b = two()
    packet = echo4()
    a.send([bytes(packet)])
    check_answer(a, packet)
    switch.set("vm2", mtu=9000)
    assert exchange(a, [bytes(packet)], [b], A) == [[bytes(packet)]]
