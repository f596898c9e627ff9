# SPDX-License-Identifier: Apache-2.0
"""Frames to send."""

import os
import random
import struct

BROADCAST = "ff:ff:ff:ff:ff:ff"
ETHERTYPE = 0x88B6  # IEEE 802 local experimental: nobody answers it


def mac_bytes(mac):
    return bytes.fromhex(mac.replace(":", ""))


def mac(i, prefix=0x52):
    """The @i-th address of ours: unicast, locally administered."""
    return f"{prefix:02x}:00:" + ":".join(f"{b:02x}" for b in struct.pack(">I", i))


def frame(src, dst, payload=b"", ethertype=ETHERTYPE, tag=None, size=None):
    """An Ethernet frame; @tag: an 802.1Q TCI; @size: padded with zeros or cut to so many bytes."""
    head = mac_bytes(dst) + mac_bytes(src)
    if tag is not None:
        head += struct.pack(">HH", 0x8100, tag)
    data = head + struct.pack(">H", ethertype) + payload
    if size is not None:
        data = data[:size].ljust(size, b"\0")
    return data


_noise = os.urandom(1 << 17)


def noise(size, seed=None):
    """@size bytes without a pattern that a wrong offset or length could survive."""
    at = (random.randrange(1 << 16) if seed is None else seed * 7919) % (1 << 16)
    return _noise[at : at + size]


def sized(src, dst, size, seed=None):
    """A frame of exactly @size bytes (14 and more), filled with noise."""
    return frame(src, dst, noise(size - 14, seed))


def numbered(src, dst, number, size=60):
    return frame(src, dst, struct.pack(">Q", number), size=size)


def number_of(data):
    return struct.unpack(">Q", data[14:22])[0]


def tagged(data, tci):
    """The same frame with a tag put in."""
    return data[:12] + struct.pack(">HH", 0x8100, tci) + data[12:]
