# SPDX-License-Identifier: Apache-2.0
"""Frames with work left to do, made of scapy's packets: how a guest sends them, and what they are when the work is done.

Lengths and checksums of @packet must be left to scapy (None): all functions here work on packets not built yet.
"""

import struct

from frames import noise
from net_header import GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, NetHeader, inet_sum
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

IP_BYTES_MAX = 65535
FIN, PSH, CWR = 0x01, 0x08, 0x80
MSS = 1400  # fits an MTU of 1500 with all headers that are used here


def fill(headers, size=None):
    """@headers with so many bytes of payload (default: as much as IP can carry)."""
    room = IP_BYTES_MAX - len(headers.getlayer(IP) or headers.getlayer(IPv6))
    return headers / Raw(noise(room if size is None else size, seed=3))


def tcp4(src, dst, size=None, flags="PA", options=True, ip_flags="DF", ip_src="10.0.0.1", **ip):
    more = {"options": [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]} if options else {}
    ip = {"src": ip_src, "dst": "10.0.0.2", "id": 0xFFF0, "flags": ip_flags} | ip
    return fill(Ether(src=src, dst=dst) / IP(**ip) / TCP(sport=1, dport=2, seq=0xFFFFF000, ack=7, flags=flags, **more), size)


def tcp6(src, dst, size=None, flags="PA", between=None):
    """@between: an extension header."""
    ip = IPv6(src="fd00::1", dst="fd00::2")
    ip = ip / between if between else ip
    return fill(Ether(src=src, dst=dst) / ip / TCP(sport=1, dport=2, seq=0xFFFFF000, ack=7, flags=flags), size)


def udp4(src, dst, size=None, sport=1, dport=2, **ip):
    ip = {"src": "10.0.0.1", "dst": "10.0.0.2", "id": 5} | ip
    return fill(Ether(src=src, dst=dst) / IP(**ip) / UDP(sport=sport, dport=dport), size)


def udp6(src, dst, size=None):
    return fill(Ether(src=src, dst=dst) / IPv6(src="fd00::1", dst="fd00::2") / UDP(sport=1, dport=2), size)


def l4_of(packet):
    return packet.getlayer(TCP) or packet.getlayer(UDP)


def gso_type_of(packet):
    if UDP in packet:
        return GSO_UDP_L4
    return GSO_TCPV6 if IPv6 in packet else GSO_TCPV4


def _seed(packet, l4_bytes, proto):
    """The sum over the pseudo-header (RFC 9293 3.1, RFC 8200 8.1)."""
    raw = bytes(packet.getlayer(IP) or packet.getlayer(IPv6))
    addresses = raw[12:20] if IP in packet else raw[8:40]
    return inet_sum(addresses + struct.pack(">II", l4_bytes, proto))


def undone(packet, gso_size=0):
    """(header, frame): the checksum, and if there is a @gso_size the cutting, left to others."""
    frame = bytes(packet)
    l4_bytes = len(l4_of(packet))
    start = len(frame) - l4_bytes
    offset, proto = (16, 6) if TCP in packet else (6, 17)
    frame = frame[: start + offset] + struct.pack(">H", _seed(packet, l4_bytes, proto)) + frame[start + offset + 2 :]
    head_bytes = len(frame) - len(l4_of(packet).payload)
    gso = {"gso_type": gso_type_of(packet), "hdr_len": head_bytes} if gso_size else {"gso_type": GSO_NONE}
    return NetHeader(NEEDS_CSUM, **gso, gso_size=gso_size, csum_start=start, csum_offset=offset), frame


def cut(packet, gso_size):
    """The segments, as scapy makes them."""
    payload = bytes(l4_of(packet).payload)
    head = packet.copy()
    l4_of(head).remove_payload()
    starts = range(0, len(payload), gso_size)
    return [bytes(_segment(head, payload, at, gso_size, i) / Raw(payload[at : at + gso_size])) for i, at in enumerate(starts)]


def _segment(head, payload, at, gso_size, index):
    segment = head.copy()
    if IP in segment:
        segment[IP].id = (segment[IP].id + index) & 0xFFFF
    if TCP in segment:
        tcp = segment[TCP]
        flags = int(tcp.flags)
        flags &= ~(FIN | PSH) if at + gso_size < len(payload) else ~0
        tcp.flags = flags & ~CWR if at else flags
        tcp.seq = (tcp.seq + at) & 0xFFFFFFFF
    return segment
