# SPDX-License-Identifier: Apache-2.0
"""The dirty log of a live migration: every page flued writes is marked, and nothing is marked when nobody asks."""

import mmap
import os

import frames as F
import pytest
import vhost_user as vu
from lan import exchange
from wait import stays, wait_until

A, B = F.mac(1), F.mac(2)
PAGE = 4096


class Log:
    def __init__(self, memory, offset=0, size=None):
        end = max(region.gpa + region.size for region in memory.regions)
        self.size, self.offset = size or (end // PAGE + 7) // 8, offset
        self.fd = os.memfd_create("dirty-log", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, offset + self.size)
        self.map = mmap.mmap(self.fd, offset + self.size)

    def pages(self, clear=True):
        """Marked pages; cleared like a front end does it between its rounds."""
        found = set()
        for i, byte in enumerate(self.map[self.offset :]):
            found.update(8 * i + bit for bit in range(8) if byte & 1 << bit)
        if clear:
            self.map[self.offset :] = bytes(self.size)
        return found


def log_on(guest, log):
    guest.set_log_base(log.fd, log.size, log.offset)
    guest.set_features(vu.F_LOG_ALL)
    for i in range(len(guest.rings)):
        guest.address_ring(i, log=True)


def log_off(guest):
    guest.set_features()
    for i in range(len(guest.rings)):
        guest.address_ring(i)


def span(gpa, size):
    return set(range(gpa // PAGE, (gpa + size - 1) // PAGE + 1))


def snapshot(guest):
    return [bytes(region.view) for region in guest.memory.regions]


def changed(guest, before):
    """Pages whose contents differ from the snapshot."""
    pages = set()
    for region, old in zip(guest.memory.regions, before):
        for at in range(0, region.size, PAGE):
            if region.view[at : at + PAGE] != old[at : at + PAGE]:
                pages.add((region.gpa + at) // PAGE)
    return pages


@pytest.mark.parametrize("layout", [None, [(0x100000 + i * 0x60000, 0x60000) for i in range(8)]], ids=["one", "eight"])
def test_every_page_written_is_marked(attach, layout):
    """Receive buffers and both used rings; checked against what really changed."""
    how = {"mergeable": True, "size": 64, "frame_max": 9018}
    a = attach("vm1", {"mtu": 9000}, **how)
    b = attach("vm2", {"mtu": 9000}, layout=layout, crossing=bool(layout), **how)
    exchange(a, [], [b], A)
    exchange(b, [], [a], B)
    log = Log(b.memory)
    log_on(b, log)
    for round in range(5):
        b.recv(0)
        b.wait_tx()
        log.pages()
        before = snapshot(b)
        a.send([F.sized(A, B, size) for size in (60, 1514, 9014)])
        ring = b.rx_ring()
        wait_until(lambda: ring.ready() >= 7, "all frames to be there")
        dirty = changed(b, before)
        marked = log.pages()
        assert dirty <= marked, f"round {round}: written and not marked: {sorted(dirty - marked)}"
        buffers = set()
        for pieces in b.slots[0].values():
            for gpa, size in pieces:
                buffers |= span(gpa, size)
        allowed = buffers | span(ring.used_gpa, 6 + 8 * ring.size) | span(b.tx_ring().used_gpa, 6 + 8 * 64)
        assert marked <= allowed, f"marked and never written: {sorted(marked - allowed)}"
        assert len(b.recv(3)) == 3
        b.send([F.sized(B, A, 60)])
        a.recv()
        b.wait_tx()
        assert span(b.tx_ring().used_gpa + 2, 2) <= log.pages(), "the used ring of the transmit queue"


def test_nothing_is_marked_before_it_is_asked_for_and_after(attach):
    a, b = attach("vm1"), attach("vm2")
    log = Log(b.memory)
    b.set_log_base(log.fd, log.size)
    frames = [F.sized(A, F.BROADCAST, 500) for _ in range(20)]
    assert exchange(a, frames, [b], A) == [frames]
    assert log.pages() == set(), "logging was not switched on yet"
    log_on(b, log)
    assert exchange(a, frames, [b], A) == [frames]
    assert log.pages()
    log_off(b)
    log.pages()
    assert exchange(a, frames, [b], A) == [frames]
    stays(lambda: log.pages() == set(), "nothing marked")


def test_a_log_that_starts_inside_its_file(attach):
    a, b = attach("vm1"), attach("vm2")
    log = Log(b.memory, offset=PAGE)
    log_on(b, log)
    frames = [F.sized(A, F.BROADCAST, 500)]
    assert exchange(a, frames, [b], A) == [frames]
    assert span(b.rx_ring().used_gpa + 2, 2) <= log.pages()
    assert log.map[:PAGE] == bytes(PAGE)


def test_a_log_too_short_for_the_memory_is_not_written_past_its_end(switch, attach):
    """The pages it has are marked; the rest cannot be, and nothing breaks."""
    a, b = attach("vm1"), attach("vm2")
    log = Log(b.memory, size=1)
    log_on(b, log)
    frames = [F.sized(A, F.BROADCAST, 500) for _ in range(100)]
    assert exchange(a, frames, [b], A) == [frames]
    assert set(log.pages()) <= set(range(8))
    assert switch.port("vm2")["state"] == "up"


def test_switching_the_log_loses_next_to_nothing(switch, attach):
    """As on a migration that is started and cancelled, under traffic. Rings pause for that moment: what comes just then
    is dropped and counted, and everything else arrives in order."""
    a, b = attach("vm1"), attach("vm2")
    log = Log(b.memory)
    sent, got = 0, []

    def lost():
        return switch.drops("vm1").get("no_destination", 0) + switch.drops("vm2").get("port_down", 0)

    for i in range(200):
        a.send([F.numbered(A, F.BROADCAST, sent + k) for k in range(30)])
        sent += 30
        if i % 10 == 0:
            log_on(b, log) if i % 20 == 0 else log_off(b)

        def all_accounted_for():
            got.extend(b.pending())
            return len(got) + lost() == sent

        wait_until(all_accounted_for, "every frame to arrive or to be counted as dropped", pause_s=0.0005)
    numbers = [F.number_of(f) for f in got]
    assert numbers == sorted(set(numbers))
    assert lost() <= 20 * 30, "more was lost than the bursts that met a switch"


def test_a_guest_moves_from_one_port_to_another(switch, attach):
    """What QEMU does at the end of a migration, within one switch: stop at the source, take memory and bases along,
    start at the destination, announce. Rings go on where they were."""
    other = attach("vm3")
    source = attach("vm1")
    log = Log(source.memory)
    log_on(source, log)
    first = [F.numbered(A, F.BROADCAST, i) for i in range(40)]
    assert exchange(source, first, [other], A) == [first]
    source.wait_tx()
    bases = source.stop_rings()
    stopped = snapshot(source)
    other.send([F.numbered(B, A, 1)])
    other.wait_tx()
    assert changed(source, stopped) == set(), "flued wrote into a stopped guest"
    source.close()
    source.path = switch.add("vm2")["socket"]
    source.reconnect()
    assert bases == [source.rx_ring().used16[1], source.tx_ring().used16[1]]
    source.tell(vu.SEND_RARP, F.mac_bytes(A).ljust(8, b"\0"))
    assert other.recv()[0][12:14] == b"\x80\x35"
    frame = F.numbered(B, A, 2)
    other.send([frame])
    assert source.recv() == [frame]
    then = [F.numbered(A, B, 100 + i) for i in range(40)]
    assert exchange(source, then, [other], A) == [then]
