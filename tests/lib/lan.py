# SPDX-License-Identifier: Apache-2.0
"""Telling what arrived, and what did not: markers.

A switch keeps the order of frames from one port to another. So after the frame under test the sender sends a marker;
when the marker has come, whatever has not come before it never will.
"""

import itertools

import frames as F

_markers = itertools.count(1)


def marker(src, dst=F.BROADCAST):
    return F.numbered(src, dst, 0x4D41524B_00000000 | next(_markers))


def until(guest, end, timeout_s=20):
    """Frames of @guest up to the frame @end, without it."""
    got = []
    while True:
        frame = guest.recv(1, timeout_s)[0]
        if frame == end:
            return got
        got.append(frame)


def exchange(sender, frames, receivers, src=F.mac(0xFFFF)):
    """Send @frames and a broadcast behind them; what each of @receivers got before it.

    @src: source of that broadcast; the sender's port must be allowed to use it."""
    end = marker(src)
    sender.send([*frames, end])
    return [until(guest, end) for guest in receivers]
