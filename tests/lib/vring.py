# SPDX-License-Identifier: Apache-2.0
"""Virtqueues seen from the driver, laid out by hand in guest memory: split (virtio 1.2, 2.7) and packed (2.8).

What is written here is read by another process at the same moment: indices and flags are single 16-bit stores, and where
the specification asks for a full barrier there is one.
"""

import os
import select
import struct
import threading
from collections import deque

NEXT, WRITE, INDIRECT = 1, 2, 4
NO_INTERRUPT = 1  # avail flags
NO_NOTIFY = 1  # used flags
AVAIL, USED = 1 << 7, 1 << 15  # packed: descriptor flags
WRAP = 1 << 15  # packed: of a position, whose lower bits are the entry
EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC = range(3)  # packed: event flags

_DESC = struct.Struct("=QIHH")
_barrier = threading.Lock()


def full_barrier():
    """Taking a lock is an atomic read-modify-write, which no load or store passes."""
    with _barrier:
        pass


def _passed(event, new, old):
    """virtio 1.2, 2.7.7.2: was the index @event passed on the way from @old to @new?"""
    return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF


class _Notified:
    """What both kinds have: the two sides' ways of waking each other."""

    def _open(self):
        self.kick_fd, self.call_fd, self.err_fd = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(3))
        self.kicks = 0
        self.interrupts = 0

    def close(self):
        for fd in (self.kick_fd, self.call_fd, self.err_fd):
            if fd >= 0:
                os.close(fd)
        self.kick_fd = self.call_fd = self.err_fd = -1

    def kick(self):
        self.kicks += 1
        os.eventfd_write(self.kick_fd, 1)

    def interrupted(self):
        """Take pending interrupts; how many there were."""
        try:
            n = os.eventfd_read(self.call_fd)
        except BlockingIOError:
            return 0
        self.interrupts += n
        return n


class Ring(_Notified):
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
        self._open()
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


class PackedRing(_Notified):
    """The same from the outside. @start counts descriptors from a new ring's beginning. A chain takes as many ids from
    `free` as it has descriptors, and the first one stands for it."""

    def __init__(self, mem, size, *, event_idx=False, start=0):
        self.mem, self.size, self.event_idx = mem, size, event_idx
        self.desc_gpa = mem.alloc(16 * size, 16)
        self.avail_gpa = mem.alloc(4, 4)  # the driver's events
        self.used_gpa = mem.alloc(4, 4)  # the device's
        self.table_gpa = mem.alloc(16 * 64 * size, 16) if size <= 1024 else None
        self.desc = mem.view(self.desc_gpa, 16 * size)
        self.desc16, self.desc32 = self.desc.cast("H"), self.desc.cast("I")
        self.driver16 = mem.view(self.avail_gpa, 4).cast("H")  # off_wrap, flags
        self.device32 = mem.view(self.used_gpa, 4).cast("I")
        self._open()
        self.reset(start)

    def reset(self, start=0):
        """As a driver leaves it after a device reset, or where all before @start has been used."""
        self.free = deque(range(self.size))
        self.chain = {}  # id: the ids it takes
        self.order = deque()  # ids as made available
        self.next_avail = self.last_used = self.position(start)
        self.held = None  # of what is not shown yet: the first descriptor's index, and its flags
        self.shown = self.next_avail
        for i in range(self.size):
            lap = (start - 1 - i) // self.size  # the last one in which entry i was used
            _DESC.pack_into(self.desc, 16 * i, 0, 0, 0, AVAIL | USED if lap >= 0 and lap % 2 == 0 else 0)
        self.driver16[0] = self.driver16[1] = 0
        self.device32[0] = 0

    def position(self, n):
        """Of the descriptor number @n."""
        return n % self.size | (0 if n // self.size % 2 else WRAP)

    def on(self, at, n):
        """The position @n descriptors on from @at, less than two laps."""
        return self.position((at & ~WRAP) + (0 if at & WRAP else self.size) + n)

    # -- making buffers available --

    def write_desc(self, i, gpa, length, flags=0, id_=0):
        """Anywhere, and whatever the flags. They come last, in a store of their own."""
        flags_now = self.desc16[8 * i + 7]
        _DESC.pack_into(self.desc, 16 * i, gpa, length, id_, flags_now)
        self.desc16[8 * i + 7] = flags

    def write_indirect(self, table_gpa, pieces, flags=0):
        """A table of its own at @table_gpa."""
        for i, (gpa, length) in enumerate(pieces):
            self.mem.write(table_gpa + 16 * i, _DESC.pack(gpa, length, 0, flags))

    def available(self, at):
        """The flags that make the descriptor at position @at available."""
        return AVAIL if at & WRAP else USED

    def put(self, gpa, length, flags=0, id_=0):
        """The next descriptor, as it is. The first that is not shown gets its flags when it is: publish()."""
        at, i = self.next_avail, self.next_avail & ~WRAP
        flags |= self.available(at)
        if self.held is None:
            self.held = (i, flags)
            _DESC.pack_into(self.desc, 16 * i, gpa, length, id_, self.desc16[8 * i + 7])
        else:
            self.write_desc(i, gpa, length, flags, id_)
        self.next_avail = self.on(at, 1)

    def add(self, pieces, flags=0, indirect=False):
        """A chain of @pieces [(gpa, length)], not shown before publish(). Its id."""
        ids = tuple(self.free.popleft() for _ in range(1 if indirect else len(pieces)))
        if indirect:
            table = self.table_gpa + 16 * 64 * ids[0]
            self.write_indirect(table, pieces, flags)
            self.put(table, 16 * len(pieces), INDIRECT, ids[0])
        else:
            for i, (gpa, length) in enumerate(pieces):
                self.put(gpa, length, flags | (NEXT if i < len(pieces) - 1 else 0), ids[0])
        self.chain[ids[0]] = ids
        self.order.append(ids[0])
        return ids[0]

    def publish(self, kick=True):
        """Show what was added; notify the device if it wants that. True: notified."""
        old, self.shown = self.shown, self.next_avail
        if self.held:
            i, flags = self.held
            self.desc16[8 * i + 7] = flags
            self.held = None
        full_barrier()
        if kick and self.kick_wanted(old):
            self.kick()
            return True
        return False

    def _event(self):
        both = self.device32[0]
        return both & 0xFFFF, both >> 16

    def kick_wanted(self, old):
        off_wrap, flags = self._event()
        if flags != EVENT_DESC:
            return flags == EVENT_ENABLE
        return self._distance(old, off_wrap) < self._distance(old, self.next_avail)

    def kick_armed(self):
        off_wrap, flags = self._event()
        return flags == EVENT_ENABLE or flags == EVENT_DESC and off_wrap == self.next_avail

    def _distance(self, a, b):
        """Descriptors from position @a to @b, which is at most a lap ahead."""
        n = (b & ~WRAP) - (a & ~WRAP) + (self.size if (a ^ b) & WRAP else 0)
        return n if n >= 0 else n + 2 * self.size

    # -- taking them back --

    def ready(self):
        """Is the next one used?"""
        flags = self.desc16[8 * (self.last_used & ~WRAP) + 7]
        return flags & (AVAIL | USED) == (AVAIL | USED if self.last_used & WRAP else 0) and bool(self.order)

    def reap(self):
        """Everything used since the last time: [(id, length written)], checked to be in the order it was given."""
        done = []
        while self.ready():
            i = self.last_used & ~WRAP
            id_, length = self.desc16[8 * i + 6], self.desc32[4 * i + 2]
            assert id_ == self.order[0], f"used {id_}, due was {self.order[0]}"
            written = self.desc16[8 * i + 7] & WRITE
            assert written or length == 0, f"length {length} without the flag WRITE"
            self.order.popleft()
            ids = self.chain.pop(id_)
            self.free.extend(ids)
            # a table is one descriptor
            self.last_used = self.on(self.last_used, len(ids))
            done.append((id_, length))
        return done

    def interrupts_on(self):
        """Ask for an interrupt for the next used buffer. True: there are some already."""
        self.driver16[0] = self.last_used
        self.driver16[1] = EVENT_DESC if self.event_idx else EVENT_ENABLE
        full_barrier()
        return self.ready()

    def interrupts_off(self):
        self.driver16[1] = EVENT_DISABLE


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
