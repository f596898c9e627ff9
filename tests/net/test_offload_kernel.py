# SPDX-License-Identifier: Apache-2.0
"""Work that Linux leaves undone, at tap and packet ports: passed on to who takes it, done for who does not."""

import os
import socket
import struct

import frames as F
import pytest
from netns import RawSocket, bulk, datagrams
from scapy.all import IP, TCP, UDP, Ether, IPv6, Raw
from wait import wait_until

A, B = F.mac(1), F.mac(2)
ALL = "csum tso4 tso6 ecn uso4 uso6"
SOL_PACKET, PACKET_VNET_HDR = 263, 15
SOL_UDP, UDP_SEGMENT = 17, 103
NEEDS_CSUM = 1
GSO_NONE, GSO_TCPV4, GSO_UDP, GSO_TCPV6, GSO_UDP_L4 = 0, 1, 3, 4, 5
HEADER = struct.Struct("<BBHHHH")  # struct virtio_net_hdr, without num_buffers
MIB = 1 << 20


@pytest.fixture
def host(switch, netns):
    """host("one", "tap", address, ...): a namespace with an interface "one", plugged into the switch: a tap, or one end of a
    cable whose other end is a packet port."""

    def make(name, kind, address=None, mtu=1500, quiet=True, **conf):
        ns, ns.inner = netns(), netns()
        if quiet:
            ns.quiet()
            ns.inner.quiet()
        if kind == "tap":
            switch.add(name, kind="tap", ifname=name, netns=ns.name, mtu=mtu, **conf)
        else:
            ns.inner.veth(f"p-{name}", name, ns)
            ns.inner.up(f"p-{name}", mtu=mtu)
            ns.up(name, mtu=mtu)
            switch.add(name, kind="packet", ifname=f"p-{name}", netns=ns.inner.name, mtu=mtu, **conf)
        ns.up(name, address)
        switch.wait_state(name, "up")
        return ns

    return make


def mean_bytes(switch, name, way):
    """Of a frame, so far; what few small ones answer does not matter."""
    counters = switch.counters(name)
    return counters[f"{way}_bytes"] / counters[f"{way}_frames"]


class GiantSocket(RawSocket):
    """Frames with their virtio-net headers: as a virtual machine monitor sends them through somebody's interface."""

    def __init__(self, ifname):
        super().__init__(ifname)
        self.sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)

    def send(self, data, flags=0, gso_type=GSO_NONE, hdr_len=0, gso_size=0, csum_start=0, csum_offset=0):
        self.sock.send(HEADER.pack(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset) + data)

    def send_giant(self, giant, gso_type, gso_size, **header):
        """@giant: a finished frame of scapy, as long as may be; its checksum is left undone."""
        packet, l4, proto = parts(giant)
        start = len(packet) - len(l4)
        offset = 16 if proto is TCP else 6
        packet = bytearray(packet)
        packet[start + offset : start + offset + 2] = struct.pack(">H", pseudo_sum(giant))
        asked = {
            "flags": NEEDS_CSUM, "gso_type": gso_type, "gso_size": gso_size, "csum_start": start, "csum_offset": offset,
            "hdr_len": len(packet) - len(giant[Raw]),
        }  # fmt: skip
        self.send(bytes(packet), **(asked | header))


def parts(packet):
    proto = TCP if TCP in packet else UDP
    return bytes(packet), bytes(packet[proto]), proto


def sum16(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_sum(packet):
    _, l4, proto = parts(packet)
    family = socket.AF_INET if IP in packet else socket.AF_INET6
    ip = packet[IP] if IP in packet else packet[IPv6]
    addresses = socket.inet_pton(family, ip.src) + socket.inet_pton(family, ip.dst)
    return sum16(addresses + struct.pack(">II", len(l4), 6 if proto is TCP else 17))


def tcp4(payload, flags="A", seq=1000):
    return Ether(src=A, dst=B) / IP(src="10.9.0.1", dst="10.9.0.2") / TCP(sport=7, dport=8, seq=seq, flags=flags) / payload


def assert_finished(data):
    """Lengths and checksums are what scapy makes of the same frame."""
    packet = Ether(data)
    fresh = packet.copy()
    for layer, fields in ((IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum",)), (UDP, ("len", "chksum"))):
        for field in fields if layer in fresh else ():
            delattr(fresh[layer], field)
    assert bytes(fresh) == data


def learn(guest, mac):
    """Let the switch know where @mac is."""
    guest.send([F.numbered(mac, F.BROADCAST, 0)])


# -- whole frames from kernel to kernel --


@pytest.mark.parametrize("kinds", ["tap tap", "tap packet", "packet tap", "packet packet"])
@pytest.mark.parametrize("family", [4, 6])
def test_tcp_passes_whole(switch, host, kinds, family):
    address, mask = ("10.1.0.", "/24") if family == 4 else ("fd00::", "/64")
    one, two = (
        host(name, kind, address + end + mask, quiet=family == 4)
        for name, kind, end in zip(("one", "two"), kinds.split(), "12")
    )
    one.ping(address + "2")
    bulk(one, two, address + "2", 20 * MIB)
    assert mean_bytes(switch, "one", "rx") > 6000, "frames come in as long as TCP makes them"
    assert mean_bytes(switch, "two", "tx") > 6000, "and go out like that"
    datagrams(one, two, address + "2", [1, 100, 1452, 10000, 60000])
    for name in ("one", "two"):
        # TCP may be told to slow down; a kernel speaks before there is somebody to hear it
        assert set(switch.drops(name)) <= {"kernel_full", "no_destination"}
        assert switch.port(name)["detail"]["offloads"] == ALL
        assert "offloads_missing" not in switch.port(name)["detail"]


@pytest.mark.parametrize("kind", ["tap", "packet"])
@pytest.mark.parametrize("off", [("one",), ("two",), ("one", "two")])
def test_hosts_that_do_without(switch, host, kind, off):
    """Offloads switched off inside the hosts, whose kernels then finish or want finished frames."""
    hosts = {"one": host("one", kind, "10.1.0.1/24"), "two": host("two", kind, "10.1.0.2/24")}
    for name in off:
        hosts[name].exec("ethtool", "-K", name, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off", check=False)
    one, two = hosts.values()
    bulk(one, two, "10.1.0.2", 10 * MIB)
    bulk(two, one, "10.1.0.1", 10 * MIB)
    datagrams(one, two, "10.1.0.2", [1, 1472, 10000])
    if "one" in off:
        assert switch.counters("one")["rx_frames"] > 10 * MIB / 1500


def test_an_interface_that_cannot_cut_is_helped_by_its_kernel(host):
    """The packet port's own end of the cable takes long frames from nobody: the kernel cuts what the switch gives it."""
    one, two = host("one", "tap", "10.1.0.1/24"), host("two", "packet", "10.1.0.2/24")
    two.inner.exec("ethtool", "-K", "p-two", "tx", "off", "tso", "off", "gso", "off", check=False)
    bulk(one, two, "10.1.0.2", 20 * MIB)
    bulk(two, one, "10.1.0.1", 5 * MIB)


def test_udp_in_segments(switch, host):
    """UDP that leaves cutting to its interface (UDP_SEGMENT): each datagram arrives as it was meant."""
    one, two = host("one", "tap", "10.1.0.1/24"), host("two", "packet", "10.1.0.2/24")
    one.ping("10.1.0.2")
    before = switch.counters("two")["tx_frames"]
    with two.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("10.1.0.2", 5003))
        receiver.settimeout(20)
        with one.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(SOL_UDP, UDP_SEGMENT, 1000)
            for size in (1001, 20000, 64 * 1000 - 1):
                data = os.urandom(size)
                sender.sendto(data, ("10.1.0.2", 5003))
                for at in range(0, size, 1000):
                    assert receiver.recv(65536) == data[at : at + 1000]
    assert switch.counters("two")["tx_frames"] - before < 10


def test_jumbo_frames_and_giants(switch, host):
    one, two = host("one", "tap", "10.1.0.1/24", mtu=9000), host("two", "packet", "10.1.0.2/24", mtu=9000)
    one.ping("10.1.0.2", size=8972)
    bulk(one, two, "10.1.0.2", 40 * MIB)
    bulk(two, one, "10.1.0.1", 40 * MIB)
    assert mean_bytes(switch, "one", "rx") > 9014


@pytest.mark.parametrize("kind", ["tap", "packet"])
def test_what_is_switched_off_is_done_by_the_sender_and_for_the_receiver(switch, host, kind):
    one, two = host("one", kind, "10.1.0.1/24"), host("two", kind, "10.1.0.2/24", offloads_off="tso4 tso6")
    detail = switch.port("two")["detail"]
    assert detail["offloads"] == "csum uso4 uso6" and "tso4" in detail["offloads_missing"]
    bulk(one, two, "10.1.0.2", 10 * MIB)
    assert mean_bytes(switch, "one", "rx") > 6000 and mean_bytes(switch, "two", "tx") <= 1514
    before = switch.counters("two")
    bulk(two, one, "10.1.0.1", 10 * MIB)
    after = switch.counters("two")
    if kind == "tap":  # an interface of somebody else sends what it likes
        assert after["rx_bytes"] - before["rx_bytes"] <= 1514 * (after["rx_frames"] - before["rx_frames"])


# -- for those who take less --


def test_a_guest_without_offloads_gets_finished_segments(attach, host):
    one, guest = host("one", "packet"), attach("vm1", {"mac": B})
    learn(guest, B)
    data = F.noise(20000)
    with one.call(GiantSocket, "one") as raw:
        raw.send_giant(tcp4(data, "PA"), GSO_TCPV4, 1460)
        got = [f for f in guest.recv(14) if f[6:12] == F.mac_bytes(A)]
    at = 0
    for frame in got:
        assert_finished(frame)
        packet = Ether(frame)
        payload = bytes(packet[TCP].payload)
        assert packet[TCP].seq == 1000 + at and payload == data[at : at + len(payload)]
        at += len(payload)
    assert at == len(data)
    assert [len(f) for f in got] == [1514] * 13 + [54 + 20000 - 13 * 1460]
    assert Ether(got[-1])[TCP].flags == "PA" and Ether(got[0])[TCP].flags == "A"


@pytest.mark.parametrize("kind", ["tap", "packet"])
def test_tagged_giants(switch, host, kind):
    """Tags are put in and taken out around whole frames."""
    trunk, access = host("one", kind, trunk="10,20"), host("two", kind, vlan=20)
    data = F.noise(30000)
    giant = tcp4(data)
    plain = bytes(giant)
    with trunk.call(GiantSocket, "one") as sender, access.call(GiantSocket, "two") as receiver:
        receiver.send(F.numbered(B, F.BROADCAST, 0))
        wait_until(lambda: switch.counters("two")["rx_frames"] >= 1, "the switch to learn")
        packet = Ether(F.tagged(plain, 20))
        sender.send_giant(packet, GSO_TCPV4, 1460)
        got = receiver.recv(1, wanted=lambda d: d[16:22] == F.mac_bytes(A))[0]
        flags, gso_type, _, gso_size, csum_start, csum_offset = HEADER.unpack(got[:10])
        assert (flags & NEEDS_CSUM, gso_type, gso_size, csum_start, csum_offset) == (1, GSO_TCPV4, 1460, 34, 16)
        frame = got[10:]
        assert frame[:50] == plain[:50] and frame[52:] == plain[52:]
        assert struct.unpack(">H", frame[50:52])[0] == pseudo_sum(giant)


def test_a_small_mtu_behind_a_large_one(host):
    """What is too long for the receiver is cut smaller."""
    one, two = host("one", "tap", "10.1.0.1/24", mtu=9000), host("two", "tap", "10.1.0.2/24", mtu=1500)
    bulk(two, one, "10.1.0.1", 10 * MIB)


# -- hostile neighbours --


BAD = {
    "TCP that is UDP": dict(gso_type=GSO_UDP_L4),
    "no checksum asked": dict(flags=0),
    "more segments than may be": dict(gso_size=1),
    "segments of nothing": dict(gso_size=0),
    "a checksum over the addresses": dict(gso_type=GSO_NONE, csum_start=14),
    "a checksum in the ports": dict(gso_type=GSO_NONE, csum_offset=2),
    "a checksum behind the end": dict(gso_type=GSO_NONE, csum_start=60000, csum_offset=60000),
    "a header longer than the frame": dict(hdr_len=65535),
    "a header of nothing": dict(hdr_len=0),
    "IPv6 that is IPv4": dict(gso_type=GSO_TCPV6),
    "a type nobody knows": dict(gso_type=0x42),
    "datagrams in fragments": dict(gso_type=GSO_UDP),
}


def test_headers_that_lie(switch, attach, host):
    """Whoever may open packet sockets in a host can say anything; the kernel refuses some of it, and the switch the rest, or
    it was harmless and the frame arrives right."""
    one, guest = host("one", "packet"), attach("vm1", {"mac": B})
    learn(guest, B)
    with one.call(GiantSocket, "one") as raw:
        for what, header in BAD.items():
            for size in (100, 1200, 20000):
                try:
                    raw.send_giant(tcp4(F.noise(size)), **({"gso_type": GSO_TCPV4, "gso_size": 1000} | header))
                except OSError:
                    continue
            marker = F.numbered(A, B, 77)

            def arrived():
                raw.send(marker)
                got = guest.pending()
                for frame in got:
                    assert len(frame) <= 1514, what
                    if frame != marker and header.get("flags") != 0:
                        assert_finished(frame)
                return marker in got

            wait_until(arrived, f"the switch to go on after {what}")
    assert switch.drops("one")["bad_offload"] > 0 and set(switch.drops("one")) <= {"bad_offload", "kernel_lost"}
    assert switch.port("one")["state"] == "up"
