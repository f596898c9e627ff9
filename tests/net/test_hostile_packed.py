# SPDX-License-Identifier: Apache-2.0
"""A guest that breaks the rules of its packed rings breaks its own port, and nothing else.

What is the same for both kinds of rings (memory that goes away, guests that die) is in test_hostile_rings.py.
"""

import contextlib
import os
import random
import threading
import time

import frames as F
import pytest
import vhost_user as vu
from guest import Guest
from street import BAD, D, open_street
from vring import AVAIL, INDIRECT, NEXT, USED, WRITE
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
            guest = stack.enter_context(Guest(street.path[name], packed=True, **kwargs)).up()
            guest.name = name
            street.switch.wait_state(name, "up")
            return guest

        yield start


def buffer(g):
    return g.tx_base[0]


def end(g):
    return g.memory.regions[-1].gpa + g.memory.regions[-1].size


# -- transmit rings: each case makes one chain that cannot be --


def chain(*descriptors):
    """A crime: descriptors (address, length, flags); addresses may be functions of the guest."""

    def commit(g):
        for gpa, length, flags in descriptors:
            g.tx_ring().put(gpa(g) if callable(gpa) else gpa, length, flags, 1)

    return commit


def table(*entries, length=None, flags=INDIRECT):
    """The same through an indirect table."""

    def commit(g):
        ring = g.tx_ring()
        for i, (gpa, size, flag) in enumerate(entries):
            ring.write_indirect(ring.table_gpa + 16 * i, [(gpa(g) if callable(gpa) else gpa, size)], flag)
        ring.put(ring.table_gpa, 16 * len(entries) if length is None else length, flags, 1)
        if flags & NEXT:
            ring.put(buffer(g), 100, 0, 1)

    return commit


def loop_over_the_whole_ring(g):
    for _ in range(g.size):
        g.tx_ring().put(buffer(g), 1, NEXT, 1)


def table_runs_out_of_memory(g):
    g.tx_ring().write_indirect(end(g) - 16, [(buffer(g), 100)])
    g.tx_ring().put(end(g) - 16, 32, INDIRECT, 1)


def across_the_end(g):
    """A list over the ring's end, of which the last buffer is nowhere."""
    ring = g.tx_ring()
    # back to itself: a neighbour's ring could not take so many at once
    g.send([F.sized(BAD, BAD, 60)] * (g.size - 1))
    g.wait_tx()
    for flags in (NEXT, NEXT, 0):
        ring.put(buffer(g) if flags else 1 << 50, 20, flags, 1)


TRANSMIT = {
    "loop over the whole ring": (loop_over_the_whole_ring, "loops"),
    "table empty": (table((buffer, 100, 0), length=0), "impossible size"),
    "table of 15 bytes": (table((buffer, 100, 0), length=15), "impossible size"),
    "table of 17 bytes": (table((buffer, 100, 0), length=17), "impossible size"),
    "table longer than the ring": (table((buffer, 100, 0), length=16 * 257), "impossible size"),
    "table of 4 GiB": (table((buffer, 100, 0), length=0xFFFFFFF0), "impossible size"),
    "table in table": (table((buffer, 100, 0), (buffer, 16, INDIRECT)), "nested or chained"),
    "table with next": (table((buffer, 100, 0), flags=INDIRECT | NEXT), "nested or chained"),
    "table unmapped": (chain((1 << 40, 16, INDIRECT)), "outside the guest's memory"),
    "table runs out of memory": (table_runs_out_of_memory, "outside the guest's memory"),
    "table address wraps": (chain(((1 << 64) - 16, 32, INDIRECT)), "outside the guest's memory"),
    "entry unmapped": (table((buffer, 12, 0), (1 << 50, 100, 0)), "outside the guest's memory"),
    "unmapped": (chain((1 << 63, 100, 0)), "outside the guest's memory"),
    "behind the end": (chain((end, 100, 0)), "outside the guest's memory"),
    "past the end": (chain((lambda g: end(g) - 100, 101, 0)), "outside the guest's memory"),
    "4 GiB": (chain((buffer, 0xFFFFFFFF, 0)), "outside the guest's memory"),
    "address wraps": (chain(((1 << 64) - 50, 100, 0)), "outside the guest's memory"),
    "second unmapped": (chain((buffer, 12, NEXT), (1 << 50, 100, 0)), "outside the guest's memory"),
    "unmapped across the ring's end": (across_the_end, "outside the guest's memory"),
    "chain of more than 4 GiB": (chain((buffer, 100, NEXT), (buffer, 0xFFFFFFFF, 0)), "longer than 4 GiB"),
    "writable": (chain((buffer, 100, WRITE)), "wrong direction"),
    "writable second": (chain((buffer, 12, NEXT), (buffer, 100, WRITE)), "wrong direction"),
    "0 bytes": (chain((buffer, 0, 0)), "empty or too short"),
    "second of 0 bytes": (chain((buffer, 12, NEXT), (buffer, 0, 0)), "empty or too short"),
    "entry of 0 bytes": (table((buffer, 12, 0), (buffer, 0, 0)), "empty or too short"),
    "shorter than the header": (chain((buffer, 11, 0)), "empty or too short"),
}


@pytest.mark.parametrize("crime,reason", TRANSMIT.values(), ids=TRANSMIT)
def test_a_malformed_transmit_ring(street, bad, crime, reason):
    guest = bad()
    crime(guest)
    guest.tx_ring().publish()
    guest.tx_ring().kick()
    assert street.assert_contained(guest.name, reason).startswith("transmitq 0: ")
    assert guest.closed(), "the connection stays open"
    assert os.eventfd_read(guest.tx_ring().err_fd) > 0


def test_an_indirect_table_that_was_not_negotiated(street, bad):
    guest = bad(drop=vu.F_INDIRECT_DESC)
    table((buffer, 100, 0))(guest)
    guest.tx_ring().publish()
    street.assert_contained(guest.name, "not negotiated")


def test_a_chain_of_too_many_pieces(street, bad):
    guest = bad(size=2047)
    chain(*[(buffer, 20, NEXT)] * 1200, (buffer, 20, 0))(guest)
    guest.tx_ring().publish()
    street.assert_contained(guest.name, "too many pieces")


def test_a_long_list_within_the_bounds_is_a_frame(street, bad):
    guest = bad(size=1001)
    frame = F.sized(BAD, F.BROADCAST, 1000 - 12)
    guest.memory.write(buffer(guest), bytes(12) + frame)
    chain(*[(buffer(guest) + i, 1, NEXT) for i in range(999)], (buffer(guest) + 999, 1, 0))(guest)
    guest.tx_ring().publish()
    street.hears(frame)


# -- receive rings: found out when a frame is delivered --


def receive(gpa, length, flags, entry=None):
    def commit(g):
        ring = g.rx_ring()
        if entry:
            ring.write_indirect(ring.table_gpa, [(g.rx_base[0], entry[0])], entry[1])
        ring.put(gpa(g), length, flags, 1)

    return commit


def rx_loop(g):
    for _ in range(g.size):
        g.rx_ring().put(g.rx_base[0], 1, WRITE | NEXT, 1)


RECEIVE = {
    "readable": (receive(lambda g: g.rx_base[0], 2048, 0), "wrong direction"),
    "readable in a table": (receive(lambda g: g.rx_ring().table_gpa, 16, INDIRECT, (2048, 0)), "wrong direction"),
    "unmapped": (receive(lambda g: 1 << 44, 2048, WRITE), "outside the guest's memory"),
    "past the end": (receive(lambda g: end(g) - 10, 2048, WRITE), "outside the guest's memory"),
    "loop": (rx_loop, "loops"),
    "empty": (receive(lambda g: g.rx_base[0], 0, WRITE), "empty or too short"),
    "too short for the header": (receive(lambda g: g.rx_base[0], 11, WRITE), "empty or too short"),
}


@pytest.mark.parametrize("crime,reason", RECEIVE.values(), ids=RECEIVE)
def test_a_malformed_receive_ring(street, bad, crime, reason):
    guest = start_with_receive_ring(street, bad, crime)
    before = street.switch.drops(guest.name).get("broken", 0)
    street.flood()
    assert street.assert_contained(guest.name, reason).startswith("receiveq 0: ")
    assert street.switch.drops(guest.name)["broken"] == before + 1


def start_with_receive_ring(street, bad, crime):
    """A guest whose receive ring holds nothing but the crime."""
    guest = bad()
    ring = guest.rx_ring()
    guest.stop_ring(0)
    ring.reset()
    crime(guest)
    ring.publish(kick=False)
    guest.start_ring(0)
    street.switch.wait_state(guest.name, "up")
    return guest


# -- what no check of a single chain can see --


def lap_of(ring, flags):
    """The whole ring's bytes, every entry with @flags and a frame's buffer."""
    return b"".join(bytes(ring.desc[16 * i : 16 * i + 14]) + flags.to_bytes(2, "little") for i in range(ring.size))


def test_a_ring_that_is_available_for_ever(street, bad):
    """Whatever lap the switch is in, there is more: work goes on, and the others get their turn all the same."""
    guest = bad(size=64)
    ring = guest.tx_ring()
    guest.memory.write(buffer(guest), bytes(12) + F.sized(BAD, D, 60))
    for i in range(ring.size):
        ring.write_desc(i, buffer(guest), 72, 0, i)
    laps = [lap_of(ring, AVAIL), lap_of(ring, USED)]
    before, end_s = street.switch.counters(guest.name)["rx_frames"], time.monotonic() + 1
    while time.monotonic() < end_s:
        for lap in laps:
            ring.desc[:] = lap
        ring.kick()
    street.traffic.flows_on(20)
    assert street.switch.counters(guest.name)["rx_frames"] - before > 10 * ring.size
    assert street.switch.port(guest.name)["state"] == "up"
    street.d.pending()


def test_flags_that_flap(street, bad):
    """What was available is not, and is again, while it is being fetched."""
    guest = bad(size=64)
    end_s = time.monotonic() + 1
    frame = bytes(12) + F.sized(BAD, D, 60)
    guest.memory.write(buffer(guest), frame)
    for ring in guest.rings:
        for i in range(ring.size):
            ring.write_desc(i, buffer(guest), 72, 0, i)
    kinds = [lap_of(guest.tx_ring(), flags) for flags in (0, AVAIL, USED, AVAIL | USED)]
    while time.monotonic() < end_s:
        for kind in kinds:
            guest.tx_ring().desc[:] = kind
        guest.tx_ring().kick()
    street.traffic.flows_on(5)
    assert street.switch.port(guest.name)["state"] == "up"
    street.d.pending()


def test_buffers_that_are_the_ring_itself(street, bad):
    """Frames are written over the guest's own descriptors and events: its own loss."""
    for target in ("desc_gpa", "avail_gpa", "used_gpa"):
        guest = bad()
        ring = guest.rx_ring()
        for i in range(ring.size):
            ring.write_desc(i, getattr(ring, target), 2048, WRITE | AVAIL, i)
        for _ in range(5):
            street.flood()
            street.traffic.flows_on(1)
        guest.close()
        wait_until(lambda: street.switch.port(guest.name)["state"] in ("waiting", "broken"), "the port to notice")
        street.assert_released()


def test_one_id_for_all_buffers(street, bad):
    """Ids are the guest's business: they come back as they were."""
    guest = bad(size=100)
    ring = guest.tx_ring()
    guest.memory.write(buffer(guest), bytes(12) + F.sized(BAD, D, 60))
    before = street.switch.counters(guest.name)["rx_frames"]
    for _ in range(10):
        for _ in range(ring.size):
            ring.put(buffer(guest), 72, 0, 0xFFFF)
        ring.publish()
        ring.order.extend([0xFFFF] * ring.size)
        for _ in range(ring.size):
            ring.chain[0xFFFF] = (0,)
            wait_until(ring.ready, "a buffer to come back", pause_s=0)
            ring.order.popleft()
            ring.last_used = ring.on(ring.last_used, 1)
    assert street.switch.counters(guest.name)["rx_frames"] - before == 10 * ring.size
    street.d.pending()


def test_events_of_nonsense(street, bad):
    """Positions outside the ring and flags that mean nothing: the guest is interrupted too often, or not at all."""
    guest = bad(event_idx=True)
    for ring in guest.rings:
        ring.driver16[0] = 0x7FFF
        ring.driver16[1] = 0xFFFF
    for i in range(20):
        guest.send([F.numbered(BAD, D, i)])
        street.flood()
        for ring in guest.rings:
            ring.driver16[0] = random.randrange(65536)
            ring.driver16[1] = random.randrange(4)
    street.traffic.flows_on()
    assert street.switch.port(guest.name)["state"] == "up"
    street.d.pending()


@pytest.mark.parametrize("seed", range(4))
def test_rings_rewritten_all_the_time(street, seed):
    """A thread scribbles over descriptors, events and tables while flued reads and writes them, again and again with a
    new connection after each break: no crash, no hang, no harm to others."""
    random.seed(seed)
    end_s, breaks = time.monotonic() + 2.5, 0
    while time.monotonic() < end_s:
        name = street.next_port()
        with Guest(
            street.path[name], packed=True, size=(33, 64)[seed % 2], event_idx=seed % 2 == 1, mergeable=seed < 2,
            frame_max=2000,
        ) as guest:  # fmt: skip
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
                kind = random.choices([0, NEXT, WRITE, WRITE | NEXT, INDIRECT, 7], [20, 10, 20, 10, 0.2, 0.1])[0]
                ring.write_desc(
                    random.randrange(ring.size), random.choices(addresses, weights_a)[0],
                    random.choices(lengths, weights_l)[0], kind | random.choice((0, AVAIL, USED, AVAIL | USED)),
                    random.randrange(65536),
                )  # fmt: skip
            ring.driver16[0] = random.randrange(65536)
            ring.driver16[1] = random.randrange(4)
            os.eventfd_write(ring.kick_fd, 1)
