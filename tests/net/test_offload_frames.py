# SPDX-License-Identifier: Apache-2.0
"""Checksums and segmentation that guests leave to others, frame by frame: passed on to who takes that, done for who does
not, refused if it cannot be. What the switch does is compared with what scapy makes of the same packet."""

import contextlib

import frames as F
import pytest
import superframes as S
import vhost_user as vu
from flued import Flued
from guest import Guest
from lan import exchange, marker, until
from net_header import (
    GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_UFO, GUEST_OFFLOADS, HOST_OFFLOADS, NEEDS_CSUM,
)  # fmt: skip
from netns import Netns
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6ExtHdrHopByHop, PadN
from scapy.layers.l2 import Dot1Q, Ether

A, B, C, D = (F.mac(i) for i in range(1, 5))
ALL = HOST_OFFLOADS | GUEST_OFFLOADS
FRAME_MAX = 65557
KINDS = {"tcp4": S.tcp4, "tcp6": S.tcp6, "udp4": S.udp4, "udp6": S.udp6}


@pytest.fixture
def able(attach):
    """able("vm1", {configuration}, features): a guest with these offloads (default: all), ready for the longest frames."""

    def make(name, conf=None, offloads=ALL, **guest):
        made = attach(name, conf, also=offloads, frame_max=FRAME_MAX, **guest)
        assert made.features & ALL == offloads, f"offered {made.offered & ALL:#x}"
        return made

    return make


def sent(sender, packet, gso_size, receivers, /, **header):
    """Send @packet undone, header fields replaced by @header; what each of @receivers got."""
    given, frame = S.undone(packet, gso_size)
    sender.send([frame], header=given._replace(**header).pack())
    return exchange(sender, [], receivers, A)


def finished(frames):
    return [frame.finished() for frame in frames]


# -- passed on --


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_superframe_passes_whole(able, switch, kind, packed):
    a, b = able("vm1", packed=packed), able("vm2", packed=packed)
    packet = KINDS[kind](A, B)
    header, frame = S.undone(packet, S.MSS)
    ((got,),) = sent(a, packet, S.MSS, [b])
    assert got == frame
    assert got.header == header
    assert switch.counters("vm2")["tx_bytes"] > len(frame)
    assert switch.drops("vm1") == switch.drops("vm2") == {}


def test_a_receiver_of_large_buffers_gets_it_in_one(able):
    a, b = able("vm1"), able("vm2", mergeable=False, size=64)
    packet = S.tcp4(A, B)
    header, frame = S.undone(packet, S.MSS)
    ((got,),) = sent(a, packet, S.MSS, [b])
    assert (got, got.header) == (frame, header)


def test_a_checksum_left_undone_is_passed_on(able):
    a, b = able("vm1"), able("vm2")
    for make in KINDS.values():
        header, frame = S.undone(make(A, B, 1000))
        a.send([frame], header=header.pack())
        (got,) = b.recv()
        assert (got, got.header) == (frame, header)


def test_lies_about_the_headers_length_are_put_right(able):
    """hdr_len is a hint (virtio 1.2, 5.1.6.2.2): what is passed on comes from the frame."""
    a, b = able("vm1"), able("vm2")
    packet = S.tcp4(A, B)
    for lie in (0, 1, 65535):
        ((got,),) = sent(a, packet, S.MSS, [b], hdr_len=lie)
        assert got.header == S.undone(packet, S.MSS)[0]


def test_lengths_and_checksums_a_guest_left_out_are_put_in(able):
    """Some drivers leave the IP length and its checksum to the device as well."""
    a, b = able("vm1"), able("vm2")
    header, right = S.undone(S.tcp4(A, B), S.MSS)
    wrong = right[:16] + b"\0\0" + right[18:24] + b"\xab\xcd" + right[26:50] + b"\x12\x34" + right[52:]
    a.send([wrong], header=header.pack())
    assert b.recv() == [right]


@pytest.mark.parametrize("gso_size", [65495, 65535])
def test_what_is_no_longer_than_a_segment_is_no_superframe(able, gso_size):
    a, b = able("vm1"), able("vm2")
    packet = S.tcp4(A, B, 1000)
    ((got,),) = sent(a, packet, gso_size, [b])
    assert (got, got.header) == (S.undone(packet)[1], S.undone(packet)[0])


def test_congestion_marks_are_told(able):
    """CWR in the frame means ECN in the header, whether its sender said so or not."""
    a, b = able("vm1"), able("vm2")
    packet = S.tcp4(A, B, flags="CPA")
    for said in (GSO_TCPV4, GSO_TCPV4 | GSO_ECN):
        ((got,),) = sent(a, packet, S.MSS, [b], gso_type=said)
        assert got.header.gso_type == GSO_TCPV4 | GSO_ECN
    ((got,),) = sent(a, S.tcp4(A, B), S.MSS, [b], gso_type=GSO_TCPV4 | GSO_ECN)
    assert got.header.gso_type == GSO_TCPV4


# -- done for who does not take it --


LACKING = {
    "tcp4": vu.NET_F_GUEST_TSO4, "tcp6": vu.NET_F_GUEST_TSO6, "udp4": vu.NET_F_GUEST_USO4, "udp6": vu.NET_F_GUEST_USO6,
}  # fmt: skip


@pytest.mark.parametrize("rest", ["checksums", "nothing"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_receiver_that_does_not_cut_gets_segments(able, switch, kind, rest):
    """Whether it then still completes checksums or takes nothing at all."""
    without = LACKING[kind] | (vu.NET_F_GUEST_ECN if kind.startswith("tcp") else 0) if rest == "checksums" else ALL
    a, b = able("vm1"), able("vm2", offloads=ALL & ~without)
    packet = KINDS[kind](A, B)
    (got,) = sent(a, packet, S.MSS, [b])
    assert all(frame.header.gso_type == GSO_NONE for frame in got)
    assert finished(got) == S.cut(packet, S.MSS)
    assert switch.drops("vm2") == {}


def test_segments_of_every_size(able):
    a, b = able("vm1"), able("vm2", offloads=0)
    for size, gso_size in ((100, 99), (200, 1), (1000, 8), (1448 * 3, 1448), (1448 * 3 + 1, 1448), (60000, 1447)):
        packet = S.tcp4(A, B, size, flags="FPA")
        (got,) = sent(a, packet, gso_size, [b])
        assert got == S.cut(packet, gso_size), (size, gso_size)


def test_a_receiver_without_ecn_gets_segments_of_which_the_first_is_marked(able):
    a, b = able("vm1"), able("vm2", offloads=ALL & ~vu.NET_F_GUEST_ECN)
    packet = S.tcp4(A, B, flags="CPA")
    (got,) = sent(a, packet, S.MSS, [b])
    assert finished(got) == S.cut(packet, S.MSS)
    assert [bool(TCP in Ether(f) and Ether(f)[TCP].flags & S.CWR) for f in got[:2]] == [True, False]


@pytest.mark.parametrize("kind", KINDS)
def test_a_receiver_without_checksums_gets_them_complete(able, kind):
    a, b = able("vm1"), able("vm2", offloads=0)
    for size in (0, 1, 2, 99, 100, 1400):
        packet = KINDS[kind](A, B, size)
        assert sent(a, packet, 0, [b]) == [[bytes(packet)]]


def test_a_checksum_over_scattered_pieces(able):
    """Pieces of odd lengths, the head among them."""
    a, b = able("vm1"), able("vm2", offloads=0)
    packet = S.udp4(A, B, 1400)
    header, frame = S.undone(packet)
    for cuts in ((12,), (11, 1, 13), (12, 14, 20, 8, 1, 3, 7), (5, 100, 33, 501)):
        a.send([frame], header=header.pack(), cuts=cuts)
        assert b.recv() == [bytes(packet)]


def test_a_superframe_of_scattered_pieces_is_cut(able):
    a, b = able("vm1"), able("vm2", offloads=0)
    packet = S.tcp4(A, B, 30000)
    header, frame = S.undone(packet, S.MSS)
    a.send([frame], header=header.pack(), cuts=(12, 66, 1, 4095, 3, 1448, 7777))
    assert exchange(a, [], [b], A) == [S.cut(packet, S.MSS)]


def test_behind_an_extension_header(able):
    a, b, c = able("vm1"), able("vm2"), able("vm3", offloads=0)
    packet = S.tcp6(A, F.BROADCAST, between=IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]))
    header, frame = S.undone(packet, S.MSS)
    (whole,), segments = sent(a, packet, S.MSS, [b, c])
    assert (whole, whole.header) == (frame, header)
    assert segments == S.cut(packet, S.MSS)


def test_a_flood_gives_to_each_what_it_takes(able, switch, netns):
    """Guests with different abilities, a smaller MTU, a tap."""
    ns = netns()
    ns.quiet()
    switch.add("tap", kind="tap", ifname="eth0", netns=ns.name)
    ns.up("eth0")
    switch.wait_state("tap", "up")
    a, whole, checksums, nothing = (
        able("vm1"), able("vm2"), able("vm3", offloads=HOST_OFFLOADS | vu.NET_F_GUEST_CSUM), able("vm4", offloads=0),
    )  # fmt: skip
    packet = S.tcp4(A, F.BROADCAST)
    header, frame = S.undone(packet, S.MSS)
    expected = S.cut(packet, S.MSS)
    with ns.raw("eth0") as raw:
        (one,), some, plain = sent(a, packet, S.MSS, [whole, checksums, nothing])
        assert (one, one.header) == (frame, header)
        assert finished(some) == expected
        assert plain == expected
        assert carried(raw) == bytes(S.l4_of(packet).payload)
    assert {name: switch.drops(name) for name in ("vm1", "vm2", "vm3", "vm4", "tap")} == dict.fromkeys(
        ("vm1", "vm2", "vm3", "vm4", "tap"), {}
    )


def carried(raw):
    """The bytes of the TCP connection as far as an interface has them, however they are cut."""
    data = b""
    while len(data) < 65000:
        (frame,) = raw.recv(1, wanted=lambda f: TCP in Ether(f))
        packet = Ether(frame)
        assert (packet[TCP].seq - 0xFFFFF000) & 0xFFFFFFFF == len(data)
        data += bytes(packet[TCP].payload)
    return data


def test_the_kernel_takes_datagrams_cut_from_a_superframe(able, switch, netns):
    """It checks checksums and lengths; none of them is ours to skip."""
    ns = netns()
    ns.quiet()
    switch.add("tap", kind="tap", ifname="eth0", netns=ns.name)
    ns.up("eth0", "10.0.0.2/24")
    switch.wait_state("tap", "up")
    a = able("vm1")
    packet = S.udp4(A, ns.mac("eth0"), 20000, dport=7000)
    data = bytes(S.l4_of(packet).payload)
    with ns.socket(2, 2) as sock:
        sock.bind(("10.0.0.2", 7000))
        sock.settimeout(20)
        header, frame = S.undone(packet, 1000)
        a.send([frame], header=header.pack())
        assert [sock.recv(65536) for _ in range(20)] == [data[i : i + 1000] for i in range(0, 20000, 1000)]


# -- tags --


def tag(packet, vlan):
    return Ether(src=packet.src, dst=packet.dst) / Dot1Q(vlan=vlan) / packet.payload.copy()


@pytest.mark.parametrize("kind", KINDS)
def test_offsets_move_with_the_tag(able, kind):
    """From access port to trunk and back: the header says where things are now."""
    access, trunk = able("vm1", {"vlan": 10}), able("up", {"trunk": "10"})
    packet = KINDS[kind](A, F.BROADCAST)
    untagged, tagged = S.undone(packet, S.MSS), S.undone(tag(packet, 10), S.MSS)
    for sender, sent_, receiver, due in ((access, untagged, trunk, tagged), (trunk, tagged, access, untagged)):
        sender.send([sent_[1]], header=sent_[0].pack())
        (got,) = receiver.recv()
        assert (got.header, got) == due


def test_segments_of_a_trunk(able):
    trunk, access, other = able("up", {"trunk": "10"}), able("vm1", {"vlan": 10}, 0), able("up2", {"trunk": "10"}, 0)
    packet = S.tcp4(A, F.BROADCAST)
    header, frame = S.undone(tag(packet, 10), S.MSS)
    trunk.send([frame], header=header.pack())
    segments = S.cut(packet, S.MSS)
    assert access.recv(len(segments)) == segments
    assert other.recv(len(segments)) == S.cut(tag(packet, 10), S.MSS)


# -- refused --


def with_ihl(ihl):
    """An IPv4 header that claims another length, over a payload of zeros."""
    packet = S.tcp4(A, B, 3000)
    header, frame = S.undone(packet, S.MSS)
    return header, frame[:14] + bytes([0x40 | ihl]) + frame[15:34] + bytes(len(frame) - 34)


def with_doff(words):
    header, frame = S.undone(S.tcp4(A, B, 3000), S.MSS)
    return header, frame[:46] + bytes([words << 4]) + frame[47:]


def changed(packet, gso_size=0, /, **fields):
    header, frame = S.undone(packet, gso_size)
    return header._replace(**fields), frame


def short(packet, size):
    header, frame = S.undone(packet, S.MSS)
    return header, frame[:size]


def arp():
    return S.NetHeader(NEEDS_CSUM, GSO_TCPV4, 54, 100, 34, 16), F.frame(A, B, F.noise(3000), ethertype=0x0806)


PLAIN, LONG, LONG6, DATAGRAMS = S.tcp4(A, B, 1000), S.tcp4(A, B, 3000), S.tcp6(A, B, 3000), S.udp4(A, B, 3000)
BAD = {
    "checksum starts past the frame": changed(PLAIN, csum_start=2000),
    "checksum starts at the end": changed(PLAIN, csum_start=len(PLAIN)),
    "checksum starts in the IP header": changed(PLAIN, csum_start=20),
    "checksum starts in the MAC": changed(PLAIN, csum_start=0, csum_offset=6),
    "checksum field past the frame": changed(PLAIN, csum_offset=1000),
    "checksum field wraps": changed(PLAIN, csum_offset=65535),
    "checksum field is the ports": changed(PLAIN, csum_offset=0),
    "checksum of a fragment": changed(S.tcp4(A, B, 1000, frag=8)),
    "checksum of no IP": changed(PLAIN)[:1] + (F.sized(A, B, 1000),),
    "no size": changed(LONG, S.MSS, gso_size=0),
    "no size, datagrams": changed(DATAGRAMS, S.MSS, gso_size=0),
    "TCPv6 type on IPv4": changed(LONG, S.MSS, gso_type=GSO_TCPV6),
    "TCPv4 type on IPv6": changed(LONG6, S.MSS, gso_type=GSO_TCPV4),
    "UDP type on TCP": changed(LONG, S.MSS, gso_type=GSO_UDP_L4),
    "TCPv4 type on UDP": changed(DATAGRAMS, S.MSS, gso_type=GSO_TCPV4),
    "TCPv4 type on ARP": arp(),
    "type 2": changed(LONG, S.MSS, gso_type=2),
    "type 3, fragmentation": changed(DATAGRAMS, S.MSS, gso_type=GSO_UFO),
    "type 127": changed(LONG, S.MSS, gso_type=127),
    "nothing but ECN": changed(LONG, S.MSS, gso_type=GSO_ECN),
    "ECN on UDP": changed(DATAGRAMS, S.MSS, gso_type=GSO_UDP_L4 | GSO_ECN),
    "without checksum": changed(LONG, S.MSS, flags=0),
    "without checksum, but valid": changed(LONG, S.MSS, flags=2),
    "a SYN": changed(S.tcp4(A, B, 3000, flags="S"), S.MSS),
    "a RST": changed(S.tcp4(A, B, 3000, flags="R"), S.MSS),
    "first fragment": changed(S.tcp4(A, B, 3000, ip_flags="MF"), S.MSS),
    "later fragment": changed(S.tcp4(A, B, 3000, frag=8), S.MSS),
    "IP header of 16 bytes": with_ihl(4),
    "IP header of no bytes": with_ihl(0),
    "IP header over what is no TCP header": with_ihl(15),
    "TCP header of 16 bytes": with_doff(4),
    "TCP header of no bytes": with_doff(0),
    "ends in the IP header": short(LONG, 30),
    "ends in the TCP header": short(LONG, 50),
    "longer than IP can say": (S.undone(LONG, S.MSS)[0], S.undone(S.tcp4(A, B), S.MSS)[1] + b"x"),
    "segments longer than IP can say": (S.undone(LONG, 65000)[0], S.undone(S.tcp4(A, B), 65000)[1] + b"xy"),
}  # fmt: skip


@pytest.fixture(scope="module")
def lane():
    """One switch for all that is refused: a sender, a neighbour who takes everything, one who takes nothing, a tap."""
    with contextlib.ExitStack() as stack:
        yield Lane(stack)


class Lane:
    def __init__(self, stack):
        self.stack = stack
        self.switch = stack.enter_context(Flued())
        self.ns = stack.enter_context(Netns())
        self.ns.quiet()
        self.sender = self.attach("vm1", ALL)
        self.neighbours = [self.attach("vm2", ALL), self.attach("vm3", 0)]
        self.switch.add("tap", kind="tap", ifname="eth0", netns=self.ns.name)
        self.ns.up("eth0")
        self.switch.wait_state("tap", "up")
        self.raw = stack.enter_context(self.ns.raw("eth0"))

    def attach(self, name, offloads):
        path = self.switch.add(name)["socket"]
        guest = self.stack.enter_context(Guest(path, also=offloads, frame_max=FRAME_MAX)).up()
        assert guest.features & ALL == offloads
        self.switch.wait_state(name, "up")
        return guest

    def refuses(self, name, sender, header, frame):
        """Sent to everybody, heard by nobody, counted once."""
        frame = F.mac_bytes(F.BROADCAST) + frame[6:]
        before = self.switch.drops(name).get("bad_offload", 0)
        sender.send([frame], header=header.pack())
        end = marker(A)
        sender.send([end])
        assert [until(guest, end) for guest in self.neighbours] == [[], []]
        assert self.raw.recv(1, wanted=lambda f: f[6:12] == F.mac_bytes(A)) == [end]
        assert self.switch.drops(name) == {"bad_offload": before + 1}
        assert self.switch.port(name)["state"] == "up"


@pytest.mark.parametrize("header,frame", BAD.values(), ids=BAD)
def test_a_header_that_does_not_fit_the_frame(lane, header, frame):
    lane.refuses("vm1", lane.sender, header, frame)


NOT_AGREED = {
    "checksum": (vu.NET_F_CSUM, PLAIN, 0, GSO_NONE),
    "TCPv4": (vu.NET_F_HOST_TSO4, LONG, S.MSS, GSO_TCPV4),
    "TCPv6": (vu.NET_F_HOST_TSO6, LONG6, S.MSS, GSO_TCPV6),
    "ECN": (vu.NET_F_HOST_ECN, LONG, S.MSS, GSO_TCPV4 | GSO_ECN),
    "UDPv4": (vu.NET_F_HOST_USO, DATAGRAMS, S.MSS, GSO_UDP_L4),
    "UDPv6": (vu.NET_F_HOST_USO, S.udp6(A, B, 3000), S.MSS, GSO_UDP_L4),
}


@pytest.mark.parametrize("what", NOT_AGREED)
def test_what_was_not_negotiated(lane, what):
    feature, packet, gso_size, gso_type = NOT_AGREED[what]
    header, frame = S.undone(packet, gso_size)
    name = f"no-{what}"
    without = 0 if feature == vu.NET_F_CSUM else HOST_OFFLOADS & ~feature
    sender = lane.attach(name, without)
    try:
        lane.refuses(name, sender, header._replace(gso_type=gso_type), frame)
    finally:
        sender.close()
        lane.switch.delete(name)


def test_refused_frames_do_not_stop_those_behind_them(lane):
    """Good and bad ones mixed in one batch."""
    good = [F.sized(A, B, 100 + i) for i in range(len(BAD))]
    for frame, (header, bad) in zip(good, BAD.values()):
        lane.sender.send([bad], header=header.pack())
        lane.sender.send([frame])
    assert exchange(lane.sender, [], lane.neighbours[:1], A) == [good]
