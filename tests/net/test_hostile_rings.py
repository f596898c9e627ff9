# SPDX-License-Identifier: Apache-2.0
"""A guest that breaks the rules of its rings breaks its own port, and nothing else.

One flued for all cases. Two neighbours exchange frames throughout; each case must end with the guilty port in state
"broken" and the right reason, its descriptors and memory given back, and every port is healed by its next connection.
"""

import contextlib
import os
import random
import struct
import threading
import time

import frames as F
import pytest
import vhost_user as vu
from guest import Guest, shrink
from guest_memory import Memory
from street import BAD, B, D, open_street
from vring import INDIRECT, NEXT, WRITE
from wait import wait_until


@pytest.fixture(scope="module")
def street():
    with open_street() as street:
        yield street


@pytest.fixture
def bad(street):
    """bad(...): a guest that works, until the test makes it misbehave."""
    with contextlib.ExitStack() as stack:

        def start(**kwargs):
            name = street.next_port()
            guest = stack.enter_context(Guest(street.path[name], **kwargs)).up()
            guest.name = name
            street.switch.wait_state(name, "up")
            return guest

        yield start


# -- transmit rings: each case makes one chain or index that cannot be, and shows it --


def chain(guest, *descriptors):
    """Write descriptors (address, length, flags, next) from index 0 and offer the first."""
    ring = guest.tx_ring()
    for i, descriptor in enumerate(descriptors):
        ring.write_desc(i, *descriptor)
    ring.offer(0)


def table(guest, *descriptors, length=None, flags=INDIRECT, following=0):
    """The same through an indirect table."""
    ring = guest.tx_ring()
    for i, (gpa, size, flag, next_) in enumerate(descriptors):
        guest.memory.write(ring.table_gpa + 16 * i, struct.pack("=QIHH", gpa, size, flag, next_))
    length = 16 * len(descriptors) if length is None else length
    ring.write_desc(0, ring.table_gpa, length, flags, following)
    ring.offer(0)


def index_jumps(g):
    g.tx_ring().next_avail += g.size + 1


def index_jumps_far(g):
    g.tx_ring().next_avail += 0x8000


def index_goes_back(g):
    g.send([F.sized(BAD, B, 60)] * 10)
    g.wait_tx()
    g.tx_ring().next_avail -= 5


def head_outside(g):
    g.tx_ring().offer(g.size)


def head_far_outside(g):
    g.tx_ring().offer(0xFFFF)


def next_outside(g):
    chain(g, (buffer(g), 100, NEXT, g.size))


def next_far_outside(g):
    chain(g, (buffer(g), 100, NEXT, 0xFFFF))


def loop_of_one(g):
    chain(g, (buffer(g), 100, NEXT, 0))


def loop_of_two(g):
    chain(g, (buffer(g), 10, NEXT, 1), (buffer(g), 10, NEXT, 0))


def loop_in_table(g):
    table(g, (buffer(g), 10, NEXT, 1), (buffer(g), 10, NEXT, 0))


def next_outside_table(g):
    table(g, (buffer(g), 10, NEXT, 2), (buffer(g), 10, 0, 0))


def table_empty(g):
    table(g, (buffer(g), 100, 0, 0), length=0)


def table_of_15_bytes(g):
    table(g, (buffer(g), 100, 0, 0), length=15)


def table_of_17_bytes(g):
    table(g, (buffer(g), 100, 0, 0), length=17)


def table_longer_than_the_ring(g):
    table(g, (buffer(g), 100, 0, 0), length=16 * (g.size + 1))


def table_of_4_gib(g):
    table(g, (buffer(g), 100, 0, 0), length=0xFFFFFFF0)


def table_in_table(g):
    table(g, (g.tx_ring().table_gpa, 16, INDIRECT, 0))


def table_with_next(g):
    table(g, (buffer(g), 100, 0, 0), flags=INDIRECT | NEXT, following=1)


def table_unmapped(g):
    g.tx_ring().write_desc(0, 1 << 40, 16, INDIRECT)
    g.tx_ring().offer(0)


def table_runs_out_of_memory(g):
    g.memory.write(end(g) - 16, struct.pack("=QIHH", buffer(g), 100, NEXT, 1))
    g.tx_ring().write_desc(0, end(g) - 16, 32, INDIRECT)
    g.tx_ring().offer(0)


def table_address_wraps(g):
    g.tx_ring().write_desc(0, (1 << 64) - 16, 32, INDIRECT)
    g.tx_ring().offer(0)


def buffer(g):
    return g.tx_base[0]


def end(g):
    return g.memory.regions[-1].gpa + g.memory.regions[-1].size


def buffer_unmapped(g):
    chain(g, (1 << 63, 100, 0, 0))


def buffer_behind_the_end(g):
    chain(g, (end(g), 100, 0, 0))


def buffer_past_the_end(g):
    chain(g, (end(g) - 100, 101, 0, 0))


def buffer_of_4_gib(g):
    chain(g, (buffer(g), 0xFFFFFFFF, 0, 0))


def buffer_address_wraps(g):
    chain(g, ((1 << 64) - 50, 100, 0, 0))


def chain_of_more_than_4_gib(g):
    chain(g, (buffer(g), 100, NEXT, 1), (buffer(g), 0xFFFFFFFF, 0, 0))


def second_buffer_unmapped(g):
    chain(g, (buffer(g), 12, NEXT, 1), (1 << 50, 100, 0, 0))


def writable_buffer(g):
    chain(g, (buffer(g), 100, WRITE, 0))


def writable_second_buffer(g):
    chain(g, (buffer(g), 12, NEXT, 1), (buffer(g), 100, WRITE, 0))


def writable_buffer_in_table(g):
    table(g, (buffer(g), 100, WRITE, 0))


def buffer_of_0_bytes(g):
    chain(g, (buffer(g), 0, 0, 0))


def second_buffer_of_0_bytes(g):
    chain(g, (buffer(g), 12, NEXT, 1), (buffer(g), 0, 0, 0))


def shorter_than_the_header(g):
    chain(g, (buffer(g), 11, 0, 0))


TRANSMIT = [
    (index_jumps, "available index"),
    (index_jumps_far, "available index"),
    (index_goes_back, "available index"),
    (head_outside, "available ring names a descriptor outside"),
    (head_far_outside, "available ring names a descriptor outside"),
    (next_outside, "next is outside the table"),
    (next_far_outside, "next is outside the table"),
    (next_outside_table, "next is outside the table"),
    (loop_of_one, "loops"),
    (loop_of_two, "loops"),
    (loop_in_table, "loops"),
    (table_empty, "impossible size"),
    (table_of_15_bytes, "impossible size"),
    (table_of_17_bytes, "impossible size"),
    (table_longer_than_the_ring, "impossible size"),
    (table_of_4_gib, "impossible size"),
    (table_in_table, "nested or chained"),
    (table_with_next, "nested or chained"),
    (table_unmapped, "outside the guest's memory"),
    (table_runs_out_of_memory, "outside the guest's memory"),
    (table_address_wraps, "outside the guest's memory"),
    (buffer_unmapped, "outside the guest's memory"),
    (buffer_behind_the_end, "outside the guest's memory"),
    (buffer_past_the_end, "outside the guest's memory"),
    (buffer_of_4_gib, "outside the guest's memory"),
    (buffer_address_wraps, "outside the guest's memory"),
    (second_buffer_unmapped, "outside the guest's memory"),
    (chain_of_more_than_4_gib, "longer than 4 GiB"),
    (writable_buffer, "wrong direction"),
    (writable_second_buffer, "wrong direction"),
    (writable_buffer_in_table, "wrong direction"),
    (buffer_of_0_bytes, "empty or too short"),
    (second_buffer_of_0_bytes, "empty or too short"),
    (shorter_than_the_header, "empty or too short"),
]


@pytest.mark.parametrize("crime,reason", TRANSMIT, ids=[crime.__name__ for crime, _ in TRANSMIT])
def test_a_malformed_transmit_ring(street, bad, crime, reason):
    guest = bad()
    crime(guest)
    ring = guest.tx_ring()
    ring.next_avail &= 0xFFFF
    ring.publish()
    ring.kick()
    assert street.assert_contained(guest.name, reason).startswith("transmitq 0: ")
    assert guest.closed(), "the connection stays open"
    assert ring_error_signalled(ring)


def ring_error_signalled(ring):
    """SET_VRING_ERR: "to signal errors to the front end"."""
    with contextlib.suppress(BlockingIOError):
        return os.eventfd_read(ring.err_fd) > 0


def test_an_indirect_table_that_was_not_negotiated(street, bad):
    guest = bad(drop=vu.F_INDIRECT_DESC)
    table(guest, (buffer(guest), 100, 0, 0))
    guest.tx_ring().publish()
    street.assert_contained(guest.name, "not negotiated")


def test_a_chain_of_too_many_pieces(street, bad):
    guest = bad(size=2048)
    chain(guest, *[(buffer(guest), 20, NEXT, i + 1) for i in range(1200)], (buffer(guest), 20, 0, 0))
    guest.tx_ring().publish()
    street.assert_contained(guest.name, "too many pieces")


def test_a_long_chain_within_the_bounds_is_a_frame(street, bad):
    guest = bad(size=1024)
    frame = F.sized(BAD, F.BROADCAST, 1023 - 12)
    gpa = buffer(guest)
    guest.memory.write(gpa, bytes(12) + frame)
    chain(guest, *[(gpa + i, 1, NEXT, i + 1) for i in range(1022)], (gpa + 1022, 1, 0, 0))
    guest.tx_ring().publish()
    street.hears(frame)


# -- receive rings: found out when a frame is delivered --


def receive_chain(g, *descriptors):
    ring = g.rx_ring()
    for i, descriptor in enumerate(descriptors):
        ring.write_desc(i, *descriptor)
    ring.offer(0)


def rx_index_jumps(g):
    g.rx_ring().next_avail += g.size + 1


def rx_head_outside(g):
    g.rx_ring().offer(g.size + 3)


def rx_readable(g):
    receive_chain(g, (g.rx_base[0], 2048, 0, 0))


def rx_unmapped(g):
    receive_chain(g, (1 << 44, 2048, WRITE, 0))


def rx_past_the_end(g):
    receive_chain(g, (end(g) - 10, 2048, WRITE, 0))


def rx_loop(g):
    receive_chain(g, (g.rx_base[0], 1, WRITE | NEXT, 0))


def rx_empty(g):
    receive_chain(g, (g.rx_base[0], 0, WRITE, 0))


def rx_too_short_for_the_header(g):
    receive_chain(g, (g.rx_base[0], 11, WRITE, 0))


RECEIVE = [
    (rx_index_jumps, "available index"),
    (rx_head_outside, "available ring names a descriptor outside"),
    (rx_readable, "wrong direction"),
    (rx_unmapped, "outside the guest's memory"),
    (rx_past_the_end, "outside the guest's memory"),
    (rx_loop, "loops"),
    (rx_empty, "empty or too short"),
    (rx_too_short_for_the_header, "empty or too short"),
]


@pytest.mark.parametrize("crime,reason", RECEIVE, ids=[crime.__name__ for crime, _ in RECEIVE])
def test_a_malformed_receive_ring(street, bad, crime, reason):
    guest = start_with_receive_ring(street, bad, crime)
    before = street.switch.drops(guest.name).get("broken", 0)
    street.flood()
    assert street.assert_contained(guest.name, reason).startswith("receiveq 0: ")
    assert street.switch.drops(guest.name)["broken"] == before + 1
    assert ring_error_signalled(guest.rx_ring())


def start_with_receive_ring(street, bad, crime):
    """A guest whose receive ring holds nothing but the crime."""
    guest = bad()
    ring = guest.rx_ring()
    guest.stop_ring(0)
    ring.reset(ring.used16[1])
    crime(guest)
    ring.next_avail &= 0xFFFF
    ring.publish(kick=False)
    guest.start_ring(0)
    street.switch.wait_state(guest.name, "up")
    return guest


# -- what no check of a single chain can see --


def test_buffers_that_are_the_ring_itself(street, bad):
    """Frames are written over the guest's own descriptors, indices and used ring: its own loss."""
    for target in ("desc_gpa", "avail_gpa", "used_gpa"):
        guest = bad()
        ring = guest.rx_ring()
        for i in range(ring.size):
            ring.write_desc(i, getattr(ring, target), 2048, WRITE)
        for _ in range(5):
            street.flood()
            street.traffic.flows_on(1)
        guest.close()
        wait_until(lambda: street.switch.port(guest.name)["state"] in ("waiting", "broken"), "the port to notice")
        street.assert_released()


def test_one_buffer_offered_a_thousand_times(street, bad):
    """The same descriptor in every place of the available ring: legal for each, nonsense together."""
    guest = bad()
    ring = guest.tx_ring()
    frame = F.sized(BAD, D, 60)
    guest.memory.write(buffer(guest), bytes(12) + frame)
    ring.write_desc(0, buffer(guest), 72)
    before = street.switch.counters(guest.name)["rx_frames"]
    for _ in range(10):
        done = ring.used16[1]
        for _ in range(ring.size):
            ring.offer(0)
        ring.publish()
        wait_until(lambda: (ring.used16[1] - done) & 0xFFFF == ring.size, "all of them to be taken")
    assert street.switch.counters(guest.name)["rx_frames"] - before == 10 * ring.size
    street.traffic.flows_on()
    street.d.pending()


def test_a_guest_that_never_stops_sending(street, bad):
    """Its available index always ahead: the others get their turn all the same."""
    guest = bad()
    ring = guest.tx_ring()
    guest.memory.write(buffer(guest), bytes(12) + F.sized(BAD, D, 60))
    for i in range(ring.size):
        ring.write_desc(i, buffer(guest), 72)
        ring.avail[2 + i] = i
    end_s = time.monotonic() + 1
    while time.monotonic() < end_s:
        ring.avail[1] = (ring.used16[1] + ring.size) & 0xFFFF
        ring.kick()
    street.traffic.flows_on(20)
    street.d.pending()


def test_a_storm_of_kicks_for_nothing(street, bad):
    guest = bad()
    for _ in range(20000):
        guest.tx_ring().kick()
    street.traffic.flows_on()
    assert street.switch.port(guest.name)["state"] == "up"


@pytest.mark.parametrize("seed", range(4))
def test_rings_rewritten_all_the_time(street, seed):
    """A thread scribbles over descriptors, indices and tables while flued reads and writes them, again and again with a
    new connection after each break: no crash, no hang, no harm to others."""
    random.seed(seed)
    end_s, breaks = time.monotonic() + 2.5, 0
    while time.monotonic() < end_s:
        name = street.next_port()
        with Guest(street.path[name], size=64, event_idx=seed % 2 == 1, mergeable=seed < 2, frame_max=2000) as guest:
            with contextlib.suppress(vu.Closed, vu.Refused):
                guest.up()
                stop_s = time.monotonic() + 0.4
                scribbler = threading.Thread(target=scribble, args=(guest, stop_s))
                scribbler.start()
                while time.monotonic() < stop_s and not guest.closed(0.02):
                    street.flood()
                scribbler.join()
            breaks += street.switch.port(name)["state"] == "broken"
    assert breaks, "nothing was ever found wrong"
    street.traffic.flows_on(5)
    street.assert_released()


def scribble(guest, stop_s):
    base = guest.tx_base[0]
    guest.memory.write(base, bytes(12) + F.sized(BAD, D, 1500))
    addresses = [base, base + 100, 0, end(guest) - 7, end(guest), 1 << 63, (1 << 64) - 1]
    lengths = [0, 1, 12, 60, 72, 1500, 4096, 65536, 0xFFFFFFFF]
    # Mostly sane, so that flued gets on far enough to be surprised.
    weights_a, weights_l = [40, 40, 1, 1, 0.2, 0.2, 0.2], [0.2, 1, 10, 20, 20, 20, 1, 0.5, 0.2]
    while time.monotonic() < stop_s:
        for ring in guest.rings:
            for _ in range(50):
                i = random.randrange(ring.size)
                ring.write_desc(
                    i, random.choices(addresses, weights_a)[0], random.choices(lengths, weights_l)[0],
                    random.choices([0, NEXT, WRITE, WRITE | NEXT, INDIRECT, 7], [20, 10, 20, 10, 0.2, 0.1])[0],
                    random.randrange(ring.size) if random.random() < 0.999 else 0xFFFF,
                )  # fmt: skip
                ring.avail[2 + i] = random.randrange(ring.size)
            ring.avail[1] = (ring.used16[1] + random.randrange(ring.size)) & 0xFFFF
            if random.random() < 0.02:
                ring.used16[1] = random.randrange(65536)
            ring.avail[0] = random.randrange(2)
            ring.avail[2 + ring.size] = random.randrange(65536)
            os.eventfd_write(ring.kick_fd, 1)


# -- memory that goes away --


def test_memory_truncated_while_frames_flow(street, bad):
    """The front end shrinks its file: SIGBUS in a worker."""
    guest = bad()
    guest.send([F.sized(BAD, B, 60)])
    guest.wait_tx()
    shrink(guest)  # our own mapping is gone as well: the guest must not be touched from now on
    guest.tx_ring().kick()
    street.flood()
    street.assert_contained(guest.name, "truncated")


def test_buffers_truncated_and_rings_not(street, bad):
    """Rings in one file, buffers in another, which shrinks: the fault comes in the middle of a copy."""
    layout = [(0, 1 << 20), (1 << 30, 4 << 20)]
    for direction in ("transmit", "receive"):
        guest = bad(size=64, layout=layout)
        shrink(guest, 1)
        gpa = layout[1][0] + 8192
        if direction == "transmit":
            guest.tx_ring().write_desc(0, gpa, 1000)
            guest.tx_ring().offer(0)
            guest.tx_ring().publish()
        else:
            ring = guest.rx_ring()
            for i in range(ring.size):
                ring.write_desc(i, gpa, 2048, WRITE)
            street.flood()
        street.assert_contained(guest.name, "truncated")
    

def test_the_dirty_log_truncated(street, bad):
    guest = bad()
    log = Memory(1 << 16)
    guest.set_log_base(log.regions[0].fd, 1 << 16)
    guest.set_features(vu.F_LOG_ALL)
    for i in range(2):
        guest.address_ring(i, log=True)
    street.flood()
    os.ftruncate(log.regions[0].fd, 0)
    street.flood()
    street.assert_contained(guest.name, "truncated")
    log.close()


def test_truncated_again_and_again(street, bad):
    """The slots in which faults are remembered are given back."""
    for _ in range(40):
        guest = bad(size=64)
        shrink(guest)
        guest.tx_ring().kick()
        street.switch.wait_state(guest.name, "broken")
    street.assert_released()


def test_memory_truncated_under_a_guest_that_only_receives(street):
    """No transmit ring, so no worker ever polls this port."""
    name = street.next_port()
    with Guest(street.path[name], size=64).up(pairs=0) as guest:
        guest.post()
        guest.start_ring(0)
        guest.vring_state(vu.SET_VRING_ENABLE, 0, 1)
        street.switch.wait_state(name, "up")
        shrink(guest)
        street.flood()
        street.assert_contained(name, "truncated")


def test_a_guest_that_dies_in_the_middle(street):
    """The connection ends while its rings are full of work."""
    for _ in range(30):
        name = street.next_port()
        with Guest(street.path[name], size=64).up() as guest:
            guest.send([F.numbered(BAD, D, i) for i in range(64)])
        street.d.pending()
    street.switch.wait_state(name, "waiting")
    street.assert_released()
    street.traffic.flows_on()


def test_breaking_all_the_time_does_not_flood_the_log(street, bad):
    before = len(street.switch.log())
    for _ in range(100):
        guest = bad(size=64)
        guest.tx_ring().offer(0xFFFF)
        guest.tx_ring().publish()
        assert guest.closed()
        guest.close()
    written = len(street.switch.log()) - before
    assert written < 10000, f"{written} bytes of log for 100 breaks"
