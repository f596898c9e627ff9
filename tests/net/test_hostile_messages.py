# SPDX-License-Identifier: Apache-2.0
"""A front end that breaks the rules of vhost-user loses its connection, and nobody else notices.

As in test_hostile_rings.py: one flued, neighbours whose frames flow throughout, and after each case the port is
"broken" with the reason, has given everything back, and works again for the next front end.
"""

import contextlib
import os
import random
import resource
import select
import socket
import struct
import tempfile
import time

import frames as F
import pytest
import vhost_user as vu
from guest import Guest
from guest_memory import Memory
from street import BAD, D, open_street
from vhost_user import memory_table, region_record, u64
from wait import wait_until

MEG = 1 << 20


@pytest.fixture(scope="module")
def street():
    with open_street() as street:
        yield street


@pytest.fixture
def front(street):
    """front("connected" | "negotiated" | "running"): a front end at that point of its life."""
    with contextlib.ExitStack() as stack:

        def start(stage="negotiated", **kwargs):
            name = street.next_port()
            guest = stack.enter_context(Guest(street.path[name], size=64, **kwargs))
            guest.name = name
            guest.connect()
            street.switch.wait_state(name, "starting")
            if stage != "connected":
                guest.attach()
            if stage == "running":
                guest.share_memory()
                guest.post()
                guest.start_pair()
                street.switch.wait_state(name, "up")
                street.greet(guest)
            return guest

        yield start


@pytest.fixture(scope="module")
def spare():
    """Descriptors to send: memory, an eventfd, and others that are neither."""

    class Spare:
        memory = Memory(4 * MEG)
        ram = memory.regions[0].fd
        event = os.eventfd(0, os.EFD_CLOEXEC)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        file = tempfile.TemporaryFile()
        pair = socket.socketpair()
        datagram = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    Spare.file.truncate(4 * MEG)
    return Spare


# -- the shape of messages: every request with the wrong size and the wrong number of descriptors --

STATE = struct.pack("=II", 0, 0)
REGION = u64(0) + region_record(1 << 40, MEG, 1 << 41, 0)
# request: a payload of the right size, how many descriptors
SHAPES = {
    "GET_FEATURES": (b"", 0),
    "SET_FEATURES": (u64(0), 0),
    "SET_OWNER": (b"", 0),
    "RESET_OWNER": (b"", 0),
    "SET_MEM_TABLE": (memory_table([region_record(0, MEG, 0, 0)]), 1),
    "SET_LOG_BASE": (struct.pack("=QQ", 4096, 0), 1),
    "SET_VRING_NUM": (struct.pack("=II", 0, 64), 0),
    "SET_VRING_ADDR": (struct.pack("=IIQQQQ", 0, 0, 0, 0, 0, 0), 0),
    "SET_VRING_BASE": (STATE, 0),
    "GET_VRING_BASE": (STATE, 0),
    "SET_VRING_KICK": (u64(0), 1),
    "SET_VRING_CALL": (u64(0), 1),
    "SET_VRING_ERR": (u64(0), 1),
    "GET_PROTOCOL_FEATURES": (b"", 0),
    "SET_PROTOCOL_FEATURES": (u64(0), 0),
    "GET_QUEUE_NUM": (b"", 0),
    "SET_VRING_ENABLE": (STATE, 0),
    "SEND_RARP": (u64(0), 0),
    "NET_SET_MTU": (u64(1500), 0),
    "RESET_DEVICE": (b"", 0),
    "GET_MAX_MEM_SLOTS": (b"", 0),
    "ADD_MEM_REG": (REGION, 1),
    "REM_MEM_REG": (REGION, 0),
    "SET_STATUS": (u64(0), 0),
    "GET_STATUS": (b"", 0),
}


@pytest.mark.parametrize("name", SHAPES)
def test_wrong_sizes(street, front, spare, name):
    payload, n_fds = SHAPES[name]
    fds = [spare.ram] * n_fds
    wrong = [payload + b"\0", payload + bytes(2000)]
    if payload:
        wrong += [payload[:-1], b""]
    for data in wrong:
        guest = front()
        guest.send_message(getattr(vu, name), data, fds)
        street.assert_contained(guest.name, f"{name}: ")
        assert guest.closed()


@pytest.mark.parametrize("name", SHAPES)
def test_wrong_numbers_of_descriptors(street, front, spare, name):
    payload, n_fds = SHAPES[name]
    extra = 2 if name == "REM_MEM_REG" else 1  # one there is an old mistake of others, and forgiven
    for n in {n_fds + extra, 31, n_fds - 1} - {-1}:
        guest = front()
        guest.send_message(getattr(vu, name), payload, [spare.event] * n)
        street.assert_contained(guest.name, f"{name}: ")
        assert guest.closed()


@pytest.mark.parametrize("size", [2000, 1 << 16, 1 << 31, 0xFFFFFFFF])
def test_a_size_that_is_not_believed(street, front, size):
    """It is refused before anybody waits for so much."""
    guest = front("connected")
    guest.send_message(vu.SET_FEATURES, u64(0), size=size)
    street.assert_contained(guest.name, f"SET_FEATURES: a payload of {size} bytes")


@pytest.mark.parametrize("request_", [0, 7, 22, 23, 29, 31, 32, 35, 41, 99, 1000, 0x80000001, 0xFFFFFFFF])
def test_requests_that_are_not_served(street, front, request_):
    guest = front()
    guest.send_message(request_)
    reason = street.switch.wait_state(guest.name, "broken")["reason"]
    assert "not supported" in reason or "due" in reason
    assert guest.closed()


@pytest.mark.parametrize("flags,reason", [(0, "version 0"), (2, "version 2"), (3, "version 3"), (5, "reply")])
def test_wrong_flags(street, front, flags, reason):
    guest = front("connected")
    guest.send_message(vu.GET_FEATURES, flags=flags)
    street.assert_contained(guest.name, reason)


def test_protocol_features_that_were_not_negotiated(street, front):
    for request, payload in (
        (vu.SEND_RARP, u64(0)), (vu.NET_SET_MTU, u64(1500)), (vu.GET_MAX_MEM_SLOTS, b""), (vu.SET_STATUS, u64(0)),
    ):  # fmt: skip
        guest = front(protocol=vu.PF_MQ)
        guest.send_message(request, payload)
        street.assert_contained(guest.name, "not negotiated")


def test_a_message_that_comes_byte_by_byte(street, front, spare):
    """Not against the rules, and must not cost anybody anything."""
    guest = front()
    message = struct.pack("=III", vu.GET_QUEUE_NUM, 1, 0) + struct.pack("=III", vu.SET_VRING_BASE, 1, 8) + STATE
    for byte in message:
        guest.send_bytes(bytes([byte]))
    assert len(guest.receive(vu.GET_QUEUE_NUM)) == 8
    guest.sync()


def test_many_messages_in_one_piece(street, front):
    guest = front("connected")
    guest.send_bytes(struct.pack("=III", vu.GET_FEATURES, 1, 0) * 100)
    for _ in range(100):
        guest.receive(vu.GET_FEATURES)


def test_the_end_in_the_middle_of_a_message(street, front):
    whole = struct.pack("=III", vu.SET_FEATURES, 1, 8) + u64(0)
    for n in (1, 11, 12, 19):
        guest = front("connected")
        guest.send_bytes(whole[:n])
        guest.close()
        street.assert_contained(guest.name, "ended inside")


def test_descriptors_with_every_byte(street, front, spare):
    """Collected by the hundred for a message that never becomes complete."""
    guest = front()
    with contextlib.suppress(vu.Closed):
        for byte in struct.pack("=III", vu.SET_MEM_TABLE, 1, 8 + 32 * 8):
            guest.send_bytes(bytes([byte]), [spare.event] * 20)
    street.assert_contained(guest.name, "descriptors")


def test_more_descriptors_than_one_message_may_have(street, front, spare):
    guest = front()
    guest.send_message(vu.SET_MEM_TABLE, memory_table([region_record(0, MEG, 0, 0)]), [spare.ram] * 200)
    street.assert_contained(guest.name, "descriptors")


def test_noise(street, front):
    for seed in range(20):
        guest = front("connected")
        with contextlib.suppress(vu.Closed):
            guest.send_bytes(F.noise(5000, seed))
        assert guest.closed()
    street.traffic.flows_on()
    street.assert_released()


# -- memory --


def table_of(*records):
    return memory_table([region_record(*r) for r in records])


MEMORY = {
    "size_zero": (table_of((0, 0, 0, 0)), 1, "no valid range"),
    "larger_than_its_file": (table_of((0, 4 * MEG + 1, 0, 0)), 1, "exceed their file"),
    "offset_behind_its_file": (table_of((0, MEG, 0, 4 * MEG)), 1, "exceed their file"),
    "offset_wraps": (table_of((0, MEG, 0, (1 << 64) - MEG)), 1, "no valid range"),
    "offset_and_size_wrap": (table_of((0, (1 << 64) - 1, 0, 2)), 1, ""),
    "guest_address_wraps": (table_of(((1 << 64) - 4096, MEG, 0, 0)), 1, "wraps"),
    "user_address_wraps": (table_of((0, MEG, (1 << 64) - 4096, 0)), 1, "wraps"),
    "guest_addresses_overlap": (table_of((0, MEG, 0, 0), (MEG - 1, MEG, 1 << 40, 0)), 2, "overlaps"),
    "user_addresses_overlap": (table_of((0, MEG, 1 << 40, 0), (1 << 30, MEG, (1 << 40) + MEG - 1, 0)), 2, "overlaps"),
    "one_inside_the_other": (table_of((0, 4 * MEG, 0, 0), (MEG, MEG, 1 << 40, 0)), 2, "overlaps"),
    "more_regions_than_bytes": (struct.pack("=II", 8, 0) + region_record(0, MEG, 0, 0), 1, "regions"),
    "fewer_regions_than_bytes": (table_of((0, MEG, 0, 0), (MEG, MEG, MEG, 0))[4:], 2, "regions"),
    "4_billion_regions": (struct.pack("=II", 0xFFFFFFFF, 0) + region_record(0, MEG, 0, 0), 1, "regions"),
    "33_regions": (table_of(*[(i * MEG, MEG, i * MEG, 0) for i in range(33)]), 31, "due"),
}


@pytest.mark.parametrize("case", MEMORY)
def test_impossible_memory(street, front, spare, case):
    table, n_fds, reason = MEMORY[case]
    guest = front()
    guest.send_message(vu.SET_MEM_TABLE, table, [spare.ram] * n_fds)
    assert street.assert_contained(guest.name, reason).startswith("SET_MEM_TABLE: ")


@pytest.mark.parametrize("what", ["event", "null", "directory"])
def test_memory_that_is_no_memory(street, front, spare, what):
    guest = front()
    guest.send_message(vu.SET_MEM_TABLE, table_of((0, MEG, 0, 0)), [getattr(spare, what)])
    street.assert_contained(guest.name, "SET_MEM_TABLE: ")


def test_memory_that_cannot_be_written(street, front, spare):
    guest = front()
    readonly = os.open(f"/proc/self/fd/{spare.file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    guest.send_message(vu.SET_MEM_TABLE, table_of((0, MEG, 0, 0)), [readonly])
    os.close(readonly)
    street.assert_contained(guest.name, "mmap")


def test_impossible_memory_while_rings_run(street, front, spare):
    """The old memory is gone by then; nothing may touch it any more."""
    guest = front("running")
    guest.send_message(vu.SET_MEM_TABLE, MEMORY["guest_addresses_overlap"][0], [spare.ram] * 2)
    street.assert_contained(guest.name, "overlaps")


def test_memory_taken_away_from_under_running_rings(street, front, spare):
    """Legal: the rings wait until they are mapped again."""
    guest = front("running")
    guest.tell(vu.SET_MEM_TABLE, table_of((1 << 40, MEG, 1 << 50, 0)), [spare.ram])
    street.flood()
    assert street.switch.port(guest.name)["state"] == "starting"
    guest.share_memory()
    street.switch.wait_state(guest.name, "up")
    street.greet(guest)


def test_a_region_that_is_there_already_or_was_never_there(street, front, spare):
    guest = front()
    for _ in range(3):
        guest.tell(vu.ADD_MEM_REG, REGION, [spare.ram])
    guest.tell(vu.REM_MEM_REG, REGION)
    guest.tell(vu.REM_MEM_REG, REGION, [spare.ram])
    guest.send_message(vu.ADD_MEM_REG, REGION[:-8] + u64(3 * MEG + 1), [spare.ram])
    street.assert_contained(guest.name, "exceed their file")


def test_more_regions_than_there_are_slots(street, front, spare):
    guest = front()
    slots = guest.ask_u64(vu.GET_MAX_MEM_SLOTS)
    with contextlib.suppress(vu.Closed):
        for i in range(slots + 1):
            guest.tell(vu.ADD_MEM_REG, u64(0) + region_record(i * MEG, 4096, i * MEG, 0), [spare.ram])
        raise AssertionError("more regions than slots were taken")
    assert i == slots
    street.assert_contained(guest.name, f"more than {slots}")


# -- rings --

RINGS = {
    "num_0": (vu.SET_VRING_NUM, struct.pack("=II", 0, 0), "power of two"),
    "num_3": (vu.SET_VRING_NUM, struct.pack("=II", 0, 3), "power of two"),
    "num_65536": (vu.SET_VRING_NUM, struct.pack("=II", 0, 65536), "power of two"),
    "num_huge": (vu.SET_VRING_NUM, struct.pack("=II", 0, 1 << 31), "power of two"),
    "base_65536": (vu.SET_VRING_BASE, struct.pack("=II", 0, 65536), "index"),
    "enable_2": (vu.SET_VRING_ENABLE, struct.pack("=II", 0, 2), "neither 0 nor 1"),
    "desc_misaligned": (vu.SET_VRING_ADDR, struct.pack("=IIQQQQ", 0, 0, 8, 0, 0, 0), "aligned"),
    "used_misaligned": (vu.SET_VRING_ADDR, struct.pack("=IIQQQQ", 0, 0, 0, 2, 0, 0), "aligned"),
    "avail_misaligned": (vu.SET_VRING_ADDR, struct.pack("=IIQQQQ", 0, 0, 0, 0, 1, 0), "aligned"),
}


@pytest.mark.parametrize("case", RINGS)
def test_impossible_rings(street, front, case):
    request, payload, reason = RINGS[case]
    guest = front()
    guest.send_message(request, payload)
    street.assert_contained(guest.name, reason)


@pytest.mark.parametrize("index", [8, 9, 32, 33, 255, 1 << 31, 0xFFFFFFFF])
def test_rings_that_do_not_exist(street, front, spare, index):
    requests = [vu.SET_VRING_NUM, vu.SET_VRING_BASE, vu.GET_VRING_BASE, vu.SET_VRING_ENABLE]
    messages = [(request, struct.pack("=II", index, 1), []) for request in requests]
    messages.append((vu.SET_VRING_ADDR, struct.pack("=IIQQQQ", index, 0, 0, 0, 0, 0), []))
    if index < 256:
        messages += [(request, u64(index), [spare.event]) for request in
                     (vu.SET_VRING_KICK, vu.SET_VRING_CALL, vu.SET_VRING_ERR)]  # fmt: skip
    for request, payload, fds in messages:
        guest = front()
        guest.send_message(request, payload, fds)
        street.assert_contained(guest.name, f"ring {index} of 8")


def test_ring_parts_outside_memory(street, front):
    for part in range(3):
        for where in ("before", "cut", "behind"):
            guest = front()
            guest.share_memory()
            guest.vring_state(vu.SET_VRING_NUM, 0, 64)
            region = guest.memory.regions[0]
            bad = {"before": region.uva - 64, "cut": region.uva + region.size - 64, "behind": region.uva + region.size}
            ring, uva = guest.rings[0], guest.memory.uva
            places = [uva(ring.desc_gpa), uva(ring.used_gpa), uva(ring.avail_gpa)]
            places[part] = bad[where]
            guest.send_message(vu.SET_VRING_ADDR, struct.pack("=IIQQQQ", 0, 0, *places, 0))
            street.assert_contained(guest.name, "outside the guest's memory")


def test_a_ring_is_not_resized_while_it_runs(street, front):
    guest = front("running")
    guest.send_message(vu.SET_VRING_NUM, struct.pack("=II", 0, 128))
    street.assert_contained(guest.name, "runs with 64")


def test_a_ring_whose_index_ran_away_before_it_started(street, front):
    guest = front()
    guest.share_memory()
    guest.tx_ring().used16[1] = 1000
    with contextlib.suppress(vu.Closed):
        guest.start_ring(1)
        guest.vring_state(vu.SET_VRING_ENABLE, 1, 1)
    street.assert_contained(guest.name, "available index")


@pytest.mark.parametrize("request_", [vu.SET_VRING_KICK, vu.SET_VRING_CALL, vu.SET_VRING_ERR])
@pytest.mark.parametrize("what", ["ram", "null", "directory", "file", "pair"])
def test_descriptors_that_cannot_signal(street, front, spare, request_, what):
    """They could block a worker, or cannot be waited for."""
    guest = front()
    fd = getattr(spare, what)
    fd = fd[0].fileno() if what == "pair" else fd.fileno() if what == "file" else fd
    guest.send_message(request_, u64(0), [fd])
    street.assert_contained(guest.name, "neither eventfd nor pipe")


def test_a_call_descriptor_that_blocks_stops_nobody(street, front):
    """An eventfd whose counter is full, without O_NONBLOCK; and a pipe that is full."""
    full = os.eventfd(0, os.EFD_CLOEXEC)
    os.eventfd_write(full, (1 << 64) - 2)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    for fd in (full, writer):
        guest = front("running")
        for i in range(2):
            guest.vring_fd(vu.SET_VRING_CALL, i, fd)
            guest.vring_fd(vu.SET_VRING_ERR, i, fd)
        for ring in guest.rings:
            ring.interrupts_on()
        guest.send([F.sized(BAD, D, 100)] * 10)
        street.flood()
        street.traffic.flows_on(5)
        guest.tx_ring().offer(0xFFFF)
        guest.tx_ring().publish()
        street.assert_contained(guest.name, "available ring")
    for fd in (full, reader, writer):
        os.close(fd)


def test_a_call_pipe_that_nobody_reads_any_more(street, front):
    """EPIPE, and SIGPIPE with it."""
    reader, writer = os.pipe()
    guest = front("running")
    for i in range(2):
        guest.vring_fd(vu.SET_VRING_CALL, i, writer)
        guest.vring_fd(vu.SET_VRING_ERR, i, writer)
    os.close(reader)
    for ring in guest.rings:
        ring.interrupts_on()
    guest.send([F.sized(BAD, D, 100)])
    street.flood()
    street.traffic.flows_on()
    guest.tx_ring().offer(0xFFFF)
    guest.tx_ring().publish()
    street.assert_contained(guest.name, "available ring")
    os.close(writer)


def test_kick_descriptors_that_are_closed_at_the_other_end(street, front):
    guest = front("running")
    reader, writer = os.pipe()
    guest.vring_fd(vu.SET_VRING_KICK, 1, reader)
    os.close(writer)
    os.close(reader)
    cpu, began = street.switch.cpu_s(), time.monotonic()
    street.traffic.flows_on(20)
    assert street.switch.cpu_s() - cpu < 1.5 * (time.monotonic() - began)
    assert street.switch.port(guest.name)["state"] == "up"


def test_one_eventfd_for_everything(street, front):
    """Kick, call and error of all rings are the same: kicks itself for ever, at worst."""
    guest = front("running")
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    for i in range(2):
        for request in (vu.SET_VRING_CALL, vu.SET_VRING_ERR, vu.SET_VRING_KICK):
            guest.vring_fd(request, i, fd)
    guest.send([F.sized(BAD, D, 100)] * 5)
    os.eventfd_write(fd, 1)
    street.flood()
    street.traffic.flows_on(5)
    os.close(fd)


def test_every_request_twice_and_in_the_wrong_order(street, front, spare):
    """Nothing here is malformed; nothing may leak or crash."""
    guest = front("connected", protocol=0)
    guest.send_message(vu.SET_VRING_ENABLE, struct.pack("=II", 1, 1))
    for _ in range(2):
        guest.send_message(vu.GET_VRING_BASE, STATE)
        guest.receive(vu.GET_VRING_BASE)
        for request in (vu.SET_VRING_KICK, vu.SET_VRING_CALL, vu.SET_VRING_ERR):
            guest.send_message(request, u64(0), [spare.event])
            guest.send_message(request, u64(0 | vu.NO_FD))
        guest.send_message(vu.SET_VRING_ADDR, struct.pack("=IIQQQQ", 0, 0, 1 << 40, 1 << 40, 1 << 40, 0))
        guest.send_message(vu.SET_MEM_TABLE, memory_table([]))
        guest.send_message(vu.SET_VRING_NUM, struct.pack("=II", 0, 256))
        guest.send_message(vu.SET_OWNER)
        guest.send_message(vu.RESET_OWNER)
        guest.send_message(vu.SET_FEATURES, u64(vu.F_VERSION_1))
    guest.sync()
    guest.close()
    street.switch.wait_state(guest.name, "waiting")
    street.assert_released()


# -- features, log, the rest --


def test_features_that_were_not_offered(street, front):
    for bit in (2, 24, 33, 40, 63):
        guest = front("connected")
        guest.send_message(vu.SET_FEATURES, u64(vu.F_VERSION_1 | 1 << bit))
        street.assert_contained(guest.name, f"bit {bit} was not offered")
    for bit in (12, 19, 63):
        guest = front("connected")
        guest.send_message(vu.SET_PROTOCOL_FEATURES, u64(1 << bit))
        street.assert_contained(guest.name, f"bit {bit} was not offered")


def test_features_change_while_rings_run(street, front):
    """Against the specification's order, but QEMU repeats SET_FEATURES at run time; a header shrinks under traffic."""
    guest = front("running")
    legacy = guest.features & ~(vu.F_VERSION_1 | vu.NET_F_MRG_RXBUF)
    for i in range(20):
        guest.tell(vu.SET_FEATURES, u64(guest.features if i % 2 else legacy))
        guest.tx_ring().kick()
        street.flood()
    street.traffic.flows_on()
    street.switch.wait_state(guest.name, "up")


LOGS = {
    "size_zero": ((0, 0), "no valid range"),
    "larger_than_its_file": ((4 * MEG + 1, 0), "exceed their file"),
    "wraps": ((1 << 63, 1 << 63), "no valid range"),
    "offset_behind_its_file": ((4096, 4 * MEG), "exceed their file"),
}


@pytest.mark.parametrize("case", LOGS)
def test_impossible_logs(street, front, spare, case):
    (size, offset), reason = LOGS[case]
    guest = front("running")
    guest.send_message(vu.SET_LOG_BASE, struct.pack("=QQ", size, offset), [spare.ram])
    street.assert_contained(guest.name, reason)


def test_a_log_address_outside_everything(street, front, spare):
    """log_guest_addr of a ring is only a place in the log; there is none there."""
    guest = front("running")
    guest.set_log_base(spare.ram, 4096)
    guest.set_features(vu.F_LOG_ALL)
    uva = guest.memory.uva
    for i, ring in enumerate(guest.rings):
        guest.vring_addr(i, uva(ring.desc_gpa), uva(ring.used_gpa), uva(ring.avail_gpa), (1 << 64) - 4, 1)
    street.greet(guest)


def test_a_back_end_channel_that_is_none(street, front, spare):
    protocol = vu.PF_BACKEND_REQ | vu.PF_REPLY_ACK
    for fd in (spare.event, spare.null, spare.datagram[0].fileno()):
        guest = front(protocol=protocol)
        guest.send_message(vu.SET_BACKEND_REQ_FD, b"", [fd])
        street.assert_contained(guest.name, "no stream socket")


def test_requests_that_are_refused_and_no_more(street, front):
    """Well-formed, but not possible: the connection goes on."""
    guest = front()
    for request, payload in ((vu.NET_SET_MTU, u64(1 << 40)), (vu.NET_SET_MTU, u64(9001)), (vu.SEND_RARP, u64(0)),
                             (vu.SEND_RARP, b"\xff" * 8)):  # fmt: skip
        with pytest.raises(vu.Refused):
            guest.tell(request, payload)
    guest.sync()


def test_a_front_end_that_asks_and_does_not_listen(street, front):
    """Its answers pile up; flued neither waits for it nor keeps them."""
    guest = front("connected")
    ask = struct.pack("=III", vu.GET_FEATURES, 1, 0) * 100
    guest.sock.setblocking(False)

    def stuffed():
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            for _ in range(1000):
                guest.sock.send(ask)
        return street.switch.port(guest.name)["state"] == "broken"

    wait_until(stuffed, "flued to give up on it")
    street.assert_contained(guest.name, "reply cannot be sent")


def test_front_ends_that_say_nothing(street, front):
    """They keep their port and nothing else."""
    silent = [front("connected") for _ in range(8)]
    street.traffic.flows_on()
    for guest in silent:
        assert street.switch.port(guest.name)["state"] == "starting"
        assert not select.select([guest.sock], [], [], 0)[0]


def test_a_storm_of_connections(street):
    name = street.next_port()
    for i in range(500):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(street.path[name])  # waits where too many come at once
            if i % 2:
                with contextlib.suppress(BrokenPipeError):
                    sock.send(struct.pack("=III", vu.GET_FEATURES, 1, 0))
    street.traffic.flows_on()
    street.switch.wait_state(name, "waiting")
    street.assert_released()


def random_message(rng, guest, spare):
    """A message of the right shape with values that are mostly near the truth: deeper than noise gets."""
    request = getattr(vu, rng.choice(list(SHAPES)))
    ring = rng.choice([0, 0, 1, 1, 2, 3, rng.randrange(8)])
    region = guest.memory.regions[0]
    end = region.uva + region.size
    near = [0, 1, 4096, region.uva, region.uva + 4096, end - 64, region.size, 1 << 40, (1 << 64) - 1]

    def page():
        return rng.choice(near) & ~4095

    value = rng.choice([0, 1, 2, 64, 256, rng.randrange(65536)])
    fds = rng.choice([[], [spare.event], [spare.event], [region.fd], [spare.ram], [spare.null]])
    if request in (vu.SET_VRING_NUM, vu.SET_VRING_BASE, vu.GET_VRING_BASE, vu.SET_VRING_ENABLE):
        return request, struct.pack("=II", ring, value if request == vu.SET_VRING_NUM else value % 2), []
    if request in (vu.SET_VRING_KICK, vu.SET_VRING_CALL, vu.SET_VRING_ERR):
        return request, u64(ring | (0 if fds else vu.NO_FD)), fds
    if request == vu.SET_VRING_ADDR:
        places = [rng.choice(near) & ~15 for _ in range(4)]
        return request, struct.pack("=IIQQQQ", ring, rng.randrange(2), *places), []
    if request == vu.SET_MEM_TABLE:
        records = [(page(), rng.choice([4096, region.size]), page(), 0) for _ in range(rng.randrange(3))]
        return request, table_of(*records), [region.fd] * len(records)
    if request in (vu.ADD_MEM_REG, vu.REM_MEM_REG):
        record = region_record(page(), rng.choice([4096, region.size]), page(), 0)
        return request, u64(0) + record, [region.fd] if request == vu.ADD_MEM_REG else []
    if request == vu.SET_LOG_BASE:
        return request, struct.pack("=QQ", rng.choice([64, 4096, region.size]), rng.choice([0, 4096])), [spare.ram]
    if request == vu.SET_FEATURES:
        return request, u64(guest.features & rng.choice([~0, ~vu.F_PROTOCOL_FEATURES, ~vu.F_VERSION_1]) |
                            rng.choice([0, vu.F_LOG_ALL, vu.F_EVENT_IDX])), []  # fmt: skip
    if request == vu.SET_PROTOCOL_FEATURES:
        return request, u64(guest.protocol), []
    payload, n_fds = SHAPES[next(name for name in SHAPES if getattr(vu, name) == request)]
    return request, payload, [spare.event] * n_fds


@pytest.mark.parametrize("seed", range(4))
def test_messages_at_random(street, spare, seed):
    """On a guest that runs, with traffic and kicks in between, until something is one too many; then again."""
    rng = random.Random(seed)
    end_s, messages = time.monotonic() + 2, 0
    while time.monotonic() < end_s:
        name = street.next_port()
        with Guest(street.path[name], size=64, event_idx=seed % 2 == 1) as guest, contextlib.suppress(vu.Closed):
            guest.up()
            guest.sock.setblocking(False)  # answers are not read, and pile up a little
            for _ in range(rng.randrange(100)):
                request, payload, fds = random_message(rng, guest, spare)
                with contextlib.suppress(BlockingIOError):
                    guest.send_message(request, payload, fds)
                messages += 1
                if rng.random() < 0.2:
                    guest.tx_ring().kick()
                    street.flood()
    assert messages > 100
    street.traffic.flows_on(5)
    street.assert_released()


def test_no_descriptors_left(street, front):
    """flued is at its limit: this front end cannot be served, the others are, and later it can."""
    limits = resource.prlimit(street.switch.pid, resource.RLIMIT_NOFILE)
    name = street.next_port()
    try:
        resource.prlimit(street.switch.pid, resource.RLIMIT_NOFILE, (street.switch.n_fds() + 4, limits[1]))
        with Guest(street.path[name], layout=[(i << 30, MEG) for i in range(8)], size=64) as guest:
            with pytest.raises(vu.Closed):
                guest.up()
        street.traffic.flows_on()
    finally:
        resource.prlimit(street.switch.pid, resource.RLIMIT_NOFILE, limits)
    street.assert_released()
    street.assert_heals(name)
