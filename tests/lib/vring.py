# SPDX-License-Identifier: Apache-2.0
"""A split virtqueue seen from the driver (virtio 1.2, 2.7), laid out by hand in guest memory.

What is written here is read by another process at the same moment: indices are single 16-bit stores, and where the
specification asks for a full barrier there is one.
"""

import os
import select
import struct
import threading
from collections import deque

NEXT, WRITE, INDIRECT = 1, 2, 4
NO_INTERRUPT = 1  # avail flags
NO_NOTIFY = 1  # used flags

_DESC = struct.Struct("=QIHH")
_barrier = threading.Lock()


def full_barrier():
    """Taking a lock is an atomic read-modify-write, which no load or store passes."""
    with _barrier:
        pass


def _passed(event, new, old):
    """virtio 1.2, 2.7.7.2: was the index @event passed on the way from @old to @new?"""
    return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF


class Ring:
    def __init__(self, mem, size, *, event_idx=False, start=0):
        """@start: the index where both sides begin, as on a ring that has run before."""
        self.mem, self.size, self.event_idx = mem, size, event_idx
        self.desc_gpa = mem.alloc(16 * size, 16)
        self.avail_gpa = mem.alloc(6 + 2 * size, 2)
        self.used_gpa = mem.alloc(6 + 8 * size, 4)
        self.table_gpa = mem.alloc(16 * 64 * size, 16) if size <= 1024 else None
        self.desc = mem.view(self.desc_gpa, 16 * size)
        self.avail = mem.view(self.avail_gpa, 6 + 2 * size).cast("H")  # flags, idx, ring, used_event
        self.used16 = mem.view(self.used_gpa, 6 + 8 * size).cast("H")
        self.used32 = mem.view(self.used_gpa, 4 + 8 * size).cast("I")
        self.kick_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.call_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.err_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.kicks = 0
        self.interrupts = 0
        self.reset(start)

    def reset(self, start=0):
        """As a driver leaves it after a device reset."""
        self.free = deque(range(self.size))
        self.chain = {}  # head: its descriptors in the table
        self.order = deque()  # heads as made available
        self.next_avail = start  # not shown yet
        self.last_used = start
        self.avail[0] = 0
        self.avail[1] = start
        self.avail[2 + self.size] = start  # used_event
        self.used16[0] = 0
        self.used16[1] = start
        self.used16[2 + 4 * self.size] = start  # avail_event

    def close(self):
        for fd in (self.kick_fd, self.call_fd, self.err_fd):
            if fd >= 0:
                os.close(fd)
        self.kick_fd = self.call_fd = self.err_fd = -1

    # -- making buffers available --

    def write_desc(self, i, gpa, length, flags=0, following=0):
        _DESC.pack_into(self.desc, 16 * i, gpa, length, flags, following)

    def write_indirect(self, table_gpa, pieces, flags=0):
        """A table of its own at @table_gpa."""
        last = len(pieces) - 1
        for i, (gpa, length) in enumerate(pieces):
            more = NEXT if i < last else 0
            self.mem.write(table_gpa + 16 * i, _DESC.pack(gpa, length, flags | more, i + 1 if more else 0))

    def add(self, pieces, flags=0, indirect=False):
        """A chain of @pieces [(gpa, length)], not shown before publish(). Its head."""
        if indirect:
            head = self.free.popleft()
            table = self.table_gpa + 16 * 64 * head
            self.write_indirect(table, pieces, flags)
            self.write_desc(head, table, 16 * len(pieces), INDIRECT)
            self.chain[head] = (head,)
        elif len(pieces) == 1:
            head = self.free.popleft()
            self.write_desc(head, *pieces[0], flags)
            self.chain[head] = (head,)
        else:
            used = [self.free.popleft() for _ in pieces]
            for i, (gpa, length) in enumerate(pieces):
                following = used[i + 1] if i + 1 < len(used) else None
                self.write_desc(used[i], gpa, length, flags | (0 if following is None else NEXT), following or 0)
            head = used[0]
            self.chain[head] = tuple(used)
        self.offer(head)
        return head

    def offer(self, head):
        """Put a head into the avail ring, whatever it is."""
        self.avail[2 + self.next_avail % self.size] = head
        self.next_avail = (self.next_avail + 1) & 0xFFFF
        self.order.append(head)

    def publish(self, kick=True):
        """Show what was added; notify the device if it wants that. True: notified."""
        old = self.avail[1]
        self.avail[1] = self.next_avail
        full_barrier()
        if kick and self.kick_wanted(old):
            self.kick()
            return True
        return False

    def kick_wanted(self, old):
        if self.event_idx:
            return _passed(self.used16[2 + 4 * self.size], self.next_avail, old)
        return not self.used16[0] & NO_NOTIFY

    def kick_armed(self):
        """Does the device sleep and want to hear of the next buffer?"""
        if self.event_idx:
            return self.used16[2 + 4 * self.size] == self.next_avail
        return not self.used16[0] & NO_NOTIFY

    def kick(self):
        self.kicks += 1
        os.eventfd_write(self.kick_fd, 1)

    # -- taking them back --

    def ready(self):
        return (self.used16[1] - self.last_used) & 0xFFFF

    def reap(self):
        """Everything used since the last time: [(head, length written)], checked to be in the order it was given."""
        done = []
        for _ in range(n := self.ready()):
            at = 1 + 2 * (self.last_used % self.size)
            head, length = self.used32[at], self.used32[at + 1]
            assert self.order and head == self.order[0], f"used {head}, due was {self.order[0] if self.order else None}"
            self.order.popleft()
            self.free.extend(self.chain.pop(head))
            self.last_used = (self.last_used + 1) & 0xFFFF
            done.append((head, length))
        assert n <= self.size, f"used index jumped by {n}"
        return done

    def interrupts_on(self):
        """Ask for an interrupt for the next used buffer. True: there are some already."""
        self.avail[0] = 0
        self.avail[2 + self.size] = self.last_used
        full_barrier()
        return self.ready() > 0

    def interrupts_off(self):
        self.avail[0] = NO_INTERRUPT
        self.avail[2 + self.size] = (self.last_used - 1) & 0xFFFF  # with EVENT_IDX: a long way ahead

    def interrupted(self):
        """Take pending interrupts; how many there were."""
        try:
            n = os.eventfd_read(self.call_fd)
        except BlockingIOError:
            return 0
        self.interrupts += n
        return n


def wait_any(rings, timeout_s):
    """Sleep until one of @rings has used buffers, as a driver does: on its interrupt. False: it did not come.

    The eventfds alone wake us up; an interrupt that flued forgets shows as a time-out.
    """
    if any([ring.interrupts_on() for ring in rings]):
        return True
    poll = select.poll()
    for ring in rings:
        poll.register(ring.call_fd, select.POLLIN)
    woken = poll.poll(timeout_s * 1000)
    for ring in rings:
        ring.interrupted()
    return bool(woken)
