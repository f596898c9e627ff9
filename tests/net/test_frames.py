# SPDX-License-Identifier: Apache-2.0
"""Every byte of every frame, through every way a driver may lay it out."""

import itertools

import frames as F
import pytest
from guest import Guest

A, B = F.mac(1), F.mac(2)
SIZES = range(14, 1519)
JUMBO = [1518, 1519, 2035, 2036, 2037, 2047, 2048, 2049, 4071, 4072, 4096, 8999, 9000, 9013, 9014]
HUGE = [9014, 16384, 32768, 65535, 65536, 65548, 65549]


def carry(sender, receiver, sizes, burst, **how):
    """Send a frame of each size, several at a time, and compare what arrives byte by byte."""
    frames = [F.sized(A, B, size, seed) for seed, size in enumerate(sizes)]
    got = []
    for i in range(0, len(frames), burst):
        sender.send(frames[i : i + burst], **how)
        got += receiver.recv(len(frames[i : i + burst]))
    wrong = [f"{len(sent)} bytes came as {len(came)}" for sent, came in zip(frames, got) if sent != came]
    assert not wrong, wrong[:5]
    sender.wait_tx()


def cuts_of(pieces, header):
    """Where to cut a frame of 14 bytes or more into so many pieces: at odd places, the header apart or not."""
    return {1: (), 2: (header,), 3: (header + 3, 7), 5: (5, 4, header - 9 + 1, 6)}[pieces]


@pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event_idx"])
@pytest.mark.parametrize("mergeable", [True, False], ids=["mergeable", "whole"])
@pytest.mark.parametrize("how", ["direct", "chain2", "chain3", "chain5", "indirect1", "indirect5"])
def test_all_ordinary_sizes(attach, how, mergeable, event_idx):
    kind, pieces = how.rstrip("1235"), int(how[-1]) if how[-1].isdigit() else 1
    a, b = (attach(name, mergeable=mergeable, event_idx=event_idx) for name in ("vm1", "vm2"))
    # 1518 bytes are allowed to exist, but not by an MTU of 1500
    carry(a, b, range(14, 1515), 40, cuts=cuts_of(pieces, a.header), indirect=kind == "indirect")


@pytest.mark.parametrize("rx_pieces", [1, 3])
@pytest.mark.parametrize("mergeable", [True, False], ids=["mergeable", "whole"])
def test_jumbo_sizes(attach, mergeable, rx_pieces):
    a, b = (
        attach(name, {"mtu": 9000}, mergeable=mergeable, frame_max=9018, rx_pieces=rx_pieces) for name in ("vm1", "vm2")
    )
    for pieces in (1, 3, 5):
        carry(a, b, [*SIZES[::50], *JUMBO], 8, cuts=cuts_of(pieces, a.header))
    carry(a, b, JUMBO, 8, cuts=cuts_of(5, a.header), indirect=True)


@pytest.mark.parametrize("mergeable", [True, False], ids=["mergeable", "whole"])
def test_the_largest_frames(attach, mergeable):
    a, b = (attach(name, {"mtu": 65535}, size=128, mergeable=mergeable, frame_max=65549) for name in ("vm1", "vm2"))
    for pieces in (1, 5):
        carry(a, b, HUGE, 2, cuts=cuts_of(pieces, a.header))


def test_long_chains_and_tables(attach):
    a, b = (attach(name, {"mtu": 9000}, frame_max=9018) for name in ("vm1", "vm2"))
    for pieces in (16, 64):
        cuts = tuple(1 + i % 97 for i in range(pieces - 1))
        for indirect in (False, True):
            carry(a, b, [9014] * 8, 4, cuts=cuts, indirect=indirect)


@pytest.mark.parametrize("rx_buffer", [64, 128, 1000, 1526, 4096, 65536])
def test_receive_buffers_of_every_size(attach, rx_buffer):
    """Mergeable: a frame spreads over as many as it needs, and fills each but the last."""
    a, b = (attach(name, {"mtu": 9000}, size=512, frame_max=9018, rx_buffer=rx_buffer) for name in ("vm1", "vm2"))
    edges = [n * rx_buffer - 12 + d for n in (1, 2, 3) for d in (-1, 0, 1)]
    carry(a, b, [size for size in (*edges, 60, 1514, 9014) if 14 <= size <= 9014], 2)


@pytest.mark.parametrize("size", [64, 128, 256, 512, 1024])
def test_rings_of_every_size_wrap(attach, size):
    """Each ring goes round more than twice, starting just before its 16-bit index wraps."""
    a, b = (attach(name, size=size, start=65536 - size // 2 - 3) for name in ("vm1", "vm2"))
    carry(a, b, [60 + i % 1455 for i in range(2 * size + size // 2)], size // 4)
    assert a.tx_ring().last_used < 4 * size


@pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event_idx"])
@pytest.mark.parametrize("size", [5, 64, 100, 255, 1024])
def test_packed_rings_of_every_size_wrap(attach, size, event_idx):
    """Any size is allowed; each ring goes round more than twice, in each way a frame can lie in it."""
    a, b = (attach(name, packed=True, size=size, event_idx=event_idx, start=3 * size - 2) for name in ("vm1", "vm2"))
    for pieces, indirect in ((1, False), (5, False), (5, True)):
        sizes = [60 + i % 1455 for i in range(2 * size + size // 2)]
        carry(a, b, sizes, max(1, size // 4), cuts=cuts_of(pieces, a.header), indirect=indirect)


@pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event_idx"])
def test_the_index_goes_all_the_way_round(attach, event_idx):
    a, b = (attach(name, event_idx=event_idx) for name in ("vm1", "vm2"))
    total, frame = 0, [F.numbered(A, B, i, 64) for i in range(100)]
    while total < 65536 + 1000:
        a.send(frame)
        assert b.recv(100) == frame
        total += 100
    assert a.tx_ring().next_avail == total & 0xFFFF


def test_buffers_that_cross_regions(attach):
    """Eight files, contiguous for the guest only: buffers begin in one and end in the next."""
    layout = [(0x10000 + i * 0x60000, 0x60000) for i in range(8)]
    a, b = (
        attach(name, {"mtu": 9000}, size=128, frame_max=9018, layout=layout, crossing=True, mergeable=False)
        for name in ("vm1", "vm2")
    )
    assert any(a.memory.region(at) is not a.memory.region(at + a.tx_slot) for at in
               range(a.tx_base[0], a.tx_base[0] + a.tx_slot * 127, a.tx_slot))  # fmt: skip
    for pieces in (1, 3):
        carry(a, b, [9014] * 128, 16, cuts=cuts_of(pieces, a.header))


def test_many_small_regions_with_holes_and_file_offsets(attach):
    """More than a memory table can name, so they come one by one; each begins in the middle of its file."""
    layout = [(i * 0x80000, 0x40000) for i in range(40)]
    a, b = (attach(name, size=64, layout=layout, file_offset=0x3000) for name in ("vm1", "vm2"))
    carry(a, b, range(60, 1515, 7), 16)


@pytest.mark.parametrize("mergeable,version_1", [(True, False), (False, False), (False, True)])
def test_headers_of_old_and_new_drivers(attach, mergeable, version_1):
    """10 bytes for a legacy driver without mergeable buffers, else 12."""
    a, b = attach("vm1", mergeable=mergeable, version_1=version_1), attach("vm2")
    carry(a, b, [60, 1514], 2)
    carry(b, a, [60, 1514], 2)


def test_drivers_of_different_kinds_meet(attach):
    kinds = [
        {"mergeable": True, "event_idx": True},
        {"mergeable": False, "event_idx": False},
        {"mergeable": True, "rx_buffer": 256, "size": 1024},
        {"mergeable": False, "version_1": False, "rx_pieces": 4, "size": 512},
    ]
    guests = [attach(f"vm{i}", **kind) for i, kind in enumerate(kinds)]
    for sender, receiver in itertools.permutations(guests, 2):
        carry(sender, receiver, [14, 60, 200, 1000, 1514], 5)
        for other in guests:
            other.pending()


def test_without_indirect_descriptors(attach):
    import vhost_user as vu

    a, b = (attach(name, drop=vu.F_INDIRECT_DESC) for name in ("vm1", "vm2"))
    carry(a, b, [60, 700, 1514], 3, cuts=(12, 14))


def test_four_queue_pairs(switch, attach):
    """Each pair sends; what arrives is spread by flow, whole and in order within a flow."""
    from scapy.all import IP, UDP, Ether

    a, b = (attach(name, {"queues": 4}, pairs=4) for name in ("vm1", "vm2"))
    sent = {}
    for flow in range(32):
        head = Ether(src=A, dst=B) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1000 + flow, dport=9)
        sent[1000 + flow] = [bytes(head / F.noise(50 + i, flow * 100 + i)) for i in range(10)]
    for flow, frames in sent.items():
        a.send(frames, pair=flow % 4)
    got, pairs = {}, {}
    for pair, frame in b.recv_pairs(320):
        sport = int.from_bytes(frame[34:36], "big")
        got.setdefault(sport, []).append(frame)
        pairs.setdefault(sport, set()).add(pair)
    assert got == sent
    assert all(len(used) == 1 for used in pairs.values()), "a flow went to two queues"
    assert len(set.union(*pairs.values())) == 4, "flows were not spread"
    for pair in range(4):
        a.wait_tx(pair)


def test_a_driver_may_use_fewer_pairs_than_offered(switch):
    with Guest(switch.add("vm1", queues=4)["socket"], pairs=4).up(pairs=1) as a:
        with Guest(switch.add("vm2", queues=4)["socket"], pairs=1).up() as b:
            carry(a, b, range(60, 200), 10)
            carry(b, a, range(60, 200), 10)
