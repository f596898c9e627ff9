# SPDX-License-Identifier: Apache-2.0
"""The header that virtio-net puts before a frame (virtio 1.2, 5.1.6): what is left to do of its checksum and its size."""

import struct
from collections import namedtuple

import vhost_user as vu

NEEDS_CSUM, DATA_VALID = 1, 2
GSO_NONE, GSO_TCPV4, GSO_UFO, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 0, 1, 3, 4, 5, 0x80

# What a guest may send undone, and what it may be given undone.
HOST_OFFLOADS = (
    vu.NET_F_CSUM | vu.NET_F_HOST_TSO4 | vu.NET_F_HOST_TSO6 | vu.NET_F_HOST_ECN | vu.NET_F_HOST_USO
)  # fmt: skip
GUEST_OFFLOADS = (
    vu.NET_F_GUEST_CSUM | vu.NET_F_GUEST_TSO4 | vu.NET_F_GUEST_TSO6 | vu.NET_F_GUEST_ECN | vu.NET_F_GUEST_USO4
    | vu.NET_F_GUEST_USO6
)  # fmt: skip

_LAYOUT = struct.Struct("<BBHHHH")


class NetHeader(namedtuple("NetHeader", "flags gso_type hdr_len gso_size csum_start csum_offset", defaults=(0,) * 6)):
    """All but num_buffers."""

    def pack(self):
        return _LAYOUT.pack(*self)

    @classmethod
    def unpack(cls, data):
        return cls(*_LAYOUT.unpack(data[: _LAYOUT.size]))


def _gso_feature(header, frame):
    """The feature that a receiver must have for this kind of segmentation."""
    ethertype = frame[16:18] if frame[12:14] == b"\x81\0" else frame[12:14]
    return {
        GSO_TCPV4: vu.NET_F_GUEST_TSO4,
        GSO_TCPV6: vu.NET_F_GUEST_TSO6,
        GSO_UDP_L4: vu.NET_F_GUEST_USO6 if ethertype == b"\x86\xdd" else vu.NET_F_GUEST_USO4,
    }.get(header.gso_type & ~GSO_ECN)


def check_received(header, frame, features):
    """A driver with @features may be given this, and can work with it."""
    assert not header.flags & ~(NEEDS_CSUM | DATA_VALID), f"flags of no meaning: {header}"
    assert not header.flags or features & vu.NET_F_GUEST_CSUM, f"an offload nobody negotiated: {header}"
    if header.flags & NEEDS_CSUM:
        assert header.csum_start + header.csum_offset + 2 <= len(frame), f"a checksum outside the frame: {header}"
    else:
        assert header.csum_start == header.csum_offset == 0, f"a checksum nobody asked for: {header}"
    if header.gso_type == GSO_NONE:
        assert header.gso_size == 0, f"a segment's size without segmentation: {header}"
        return
    feature = _gso_feature(header, frame)
    assert feature and features & feature, f"an offload nobody negotiated: {header}"
    assert not header.gso_type & GSO_ECN or features & vu.NET_F_GUEST_ECN, f"ECN, which nobody negotiated: {header}"
    assert header.flags & NEEDS_CSUM, f"segmentation without a checksum to do: {header}"
    assert header.csum_start < header.hdr_len < len(frame), f"the headers do not end in the frame: {header}"
    assert 0 < header.gso_size < len(frame) - header.hdr_len, f"nothing to cut: {header}"


def inet_sum(data):
    """RFC 1071: the sum in one's complement, folded and not inverted."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Received(bytes):
    """A frame as it came, and its .header; checked."""

    def __new__(cls, header, frame, features):
        made = super().__new__(cls, frame)
        made.header = NetHeader.unpack(header)
        check_received(made.header, frame, features)
        return made

    def finished(self):
        """The frame with its checksum completed, as a driver or a device would (virtio 1.2, 5.1.6.2)."""
        assert self.header.gso_type == GSO_NONE, f"to be segmented first: {self.header}"
        if not self.header.flags & NEEDS_CSUM:
            return bytes(self)
        start = self.header.csum_start
        at = start + self.header.csum_offset
        total = ~inet_sum(self[start:]) & 0xFFFF
        if total == 0 and self.header.csum_offset == 6:
            total = 0xFFFF  # RFC 768: 0 would mean that there is none
        return self[:at] + struct.pack(">H", total) + self[at + 2 :]
