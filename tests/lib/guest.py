# SPDX-License-Identifier: Apache-2.0
"""A virtio-net driver (virtio 1.2, 5.1) behind a vhost-user front end: the guest of the tests.

    with Guest(switch.socket_of("vm1")).up() as guest:
        guest.send([frame])
        guest.recv(1)

Everything that comes back is checked: order and length of used buffers, the virtio-net header (net_header.py),
num_buffers, and that nothing was written behind the end of a frame.
"""

import os
import struct
import time
from collections import deque

import vhost_user as vu
from guest_memory import Memory
from net_header import Received
from vhost_user import FrontEnd
from vring import WRITE, PackedRing, Ring, wait_any

POISON = b"\xa5"
GUARD = 64  # bytes behind a received frame that must still be poison
FEATURES = (
    vu.F_VERSION_1 | vu.F_INDIRECT_DESC | vu.F_PROTOCOL_FEATURES | vu.NET_F_MRG_RXBUF | vu.NET_F_MTU | vu.NET_F_MQ
    | vu.NET_F_STATUS | vu.NET_F_MAC
)  # fmt: skip
PROTOCOL = (
    vu.PF_MQ | vu.PF_LOG_SHMFD | vu.PF_RARP | vu.PF_REPLY_ACK | vu.PF_NET_MTU | vu.PF_CONFIGURE_MEM_SLOTS
    | vu.PF_STATUS | vu.PF_RESET_DEVICE
)  # fmt: skip


class Guest(FrontEnd):
    """@packed, @mergeable, @event_idx, @version_1: features the driver takes. @frame_max: the largest frame it is ready for.
    @rx_buffer: bytes of one receive buffer (default: 2 KiB, or a whole frame if not mergeable). @rx_pieces: descriptors
    per receive buffer. @layout: of its memory. @start: where its rings begin. @crossing: let buffers run over the
    boundaries of regions."""

    def __init__(
        self, path, role="connect", *, pairs=1, size=256, packed=False, mergeable=True, event_idx=False, version_1=True, drop=0,
        also=0, protocol=PROTOCOL, frame_max=1518, rx_buffer=None, rx_pieces=1, layout=None, file_offset=0, start=0,
        crossing=False, timeout_s=20,
    ):  # fmt: skip
        super().__init__(path, role, timeout_s)
        self.pairs, self.size, self.crossing = pairs, size, crossing
        self.want = FEATURES & ~drop | also
        if not mergeable:
            self.want &= ~vu.NET_F_MRG_RXBUF
        if not version_1:
            self.want &= ~vu.F_VERSION_1
        if event_idx:
            self.want |= vu.F_EVENT_IDX
        if packed:
            self.want |= vu.F_RING_PACKED
        self.want_protocol = protocol
        self.mergeable, self.event_idx = mergeable, event_idx
        self.header = 12 if mergeable or version_1 else 10
        self.frame_max = frame_max
        self.tx_slot = (self.header + frame_max + 4 * 64 + 63) & ~63  # room for the gaps between pieces
        self.rx_buffer = rx_buffer or (2048 if mergeable else self.header + frame_max)
        self.rx_slot = (self.rx_buffer + 3 * rx_pieces + GUARD + 63) & ~63
        self.rx_pieces = rx_pieces
        per_pair = size * (self.tx_slot + self.rx_slot + 2 * (16 + 2 + 8) + 2 * 1024) + 65536
        self.memory = Memory(layout or (pairs * per_pair + 65535) & ~65535, file_offset)
        kind = PackedRing if packed else Ring
        self.rings = [kind(self.memory, size, event_idx=event_idx, start=start) for _ in range(2 * pairs)]
        self.tx_base = [self._buffers(self.tx_slot) for _ in range(pairs)]
        self.rx_base = [self._buffers(self.rx_slot) for _ in range(pairs)]
        self.slots = [{} for _ in range(pairs)]  # posted receive buffers: {head: its pieces}
        self.received = deque()
        self.check_tail = True
        self.bases = {}
        self.features = 0

    def _buffers(self, slot):
        return self.memory.alloc(slot * self.size, whole=not self.crossing)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close_all()
        for ring in self.rings:
            ring.close()
        self.memory.close()

    def rx_ring(self, pair=0):
        return self.rings[2 * pair]

    def tx_ring(self, pair=0):
        return self.rings[2 * pair + 1]

    # -- coming up, step by step --

    def up(self, pairs=None):
        """From nothing to frames flowing."""
        self.connect()
        self.attach()
        self.share_memory()
        for pair in range(self.pairs if pairs is None else pairs):
            self.post(pair)
            self.start_pair(pair)
        self.driver_ok()
        return self

    def attach(self):
        self.negotiate(self.want, self.want_protocol)
        if self.protocol & vu.PF_MQ:
            assert self.queue_num() >= self.pairs
        self.set_features()

    def share_memory(self):
        if len(self.memory.regions) <= 8:
            self.set_mem_table(self.memory.regions)
        else:
            for region in self.memory.regions:
                self.add_mem_reg(region)

    def start_pair(self, pair=0):
        """Enabled, then started, in QEMU's order: what is sent through a started ring before that is discarded."""
        rings = (2 * pair, 2 * pair + 1)
        if self.features & vu.F_PROTOCOL_FEATURES:
            for ring in rings:
                self.vring_state(vu.SET_VRING_ENABLE, ring, 1)
        for ring in rings:
            self.start_ring(ring)
        self.sync()

    def start_ring(self, i, base=None):
        ring = self.rings[i]
        self.vring_state(vu.SET_VRING_NUM, i, ring.size)
        self.vring_state(vu.SET_VRING_BASE, i, ring.last_used if base is None else base)
        self.address_ring(i)
        self.vring_fd(vu.SET_VRING_ERR, i, ring.err_fd)
        self.vring_fd(vu.SET_VRING_CALL, i, ring.call_fd)
        self.vring_fd(vu.SET_VRING_KICK, i, ring.kick_fd)

    def address_ring(self, i, log=False):
        ring, uva = self.rings[i], self.memory.uva
        self.vring_addr(
            i, uva(ring.desc_gpa), uva(ring.used_gpa), uva(ring.avail_gpa), ring.used_gpa if log else 0, int(log)
        )

    def driver_ok(self):
        if self.protocol & vu.PF_STATUS:
            self.tell(vu.SET_STATUS, vu.u64(0xF))

    def stop_ring(self, i):
        self.bases[i] = self.vring_base(i)
        return self.bases[i]

    def stop_rings(self):
        return [self.stop_ring(i) for i in range(len(self.rings))]

    def reconnect(self):
        """The same guest behind a new connection: its memory and rings stay as they are, its driver notices nothing."""
        self.close()
        self.connect()
        self.attach()
        self.share_memory()
        for pair in range(self.pairs):
            self.start_pair(pair)
        self.driver_ok()
        return self

    # -- sending --

    def send(self, frames, *, pair=0, cuts=(), indirect=False, header=None, wait_s=20):
        """Send @frames, as many at once as the ring holds; returns when all are in it.

        @cuts: lengths of the first pieces, the header counted in; the rest is the last piece. () is one descriptor.
        @header: of each of the frames, bytes; shorter than a header it is filled up with zeros."""
        ring = self.tx_ring(pair)
        header = (header or b"").ljust(self.header, b"\0")
        need = 1 if indirect else len(cuts) + 1
        for frame in frames:
            if len(ring.free) < need:
                ring.publish()
                self.wait_tx(pair, need, wait_s)
            ring.add(self._fill_tx(pair, ring.free[0], header + frame, cuts), 0, indirect)
        return ring.publish()

    def prepare(self, frame, pair=0):
        """Put one frame into the ring and do not show it yet."""
        ring = self.tx_ring(pair)
        ring.add(self._fill_tx(pair, ring.free[0], bytes(self.header) + frame, ()))

    def _fill_tx(self, pair, slot, data, cuts):
        """Write @data into the transmit buffer of descriptor @slot, in pieces with gaps between them."""
        gpa = self.tx_base[pair] + slot * self.tx_slot
        if not cuts:
            self.memory.write(gpa, data)
            return [(gpa, len(data))]
        pieces = []
        for i in range(len(cuts) + 1):
            part = data[: cuts[i]] if i < len(cuts) else data
            assert part, "a piece of length zero"
            data = data[len(part) :]
            self.memory.write(gpa, part)
            pieces.append((gpa, len(part)))
            gpa += len(part) + 3
        return pieces

    def reap_tx(self, pair=0):
        done = self.tx_ring(pair).reap()
        for _, length in done:
            assert length == 0, f"flued claims to have written {length} bytes into a transmit buffer"
        return len(done)

    def wait_tx(self, pair=0, free=None, timeout_s=20):
        """Wait until @free descriptors of the transmit ring are ours (default: all of them)."""
        ring = self.tx_ring(pair)
        free = ring.size if free is None else free
        deadline = time.monotonic() + timeout_s
        while True:
            ring.interrupts_off()
            self.reap_tx(pair)
            if len(ring.free) >= free:
                return
            left = deadline - time.monotonic()
            assert left > 0 and wait_any([ring], left), f"transmit buffers not returned in {timeout_s:g} s"

    # -- receiving --

    def post(self, pair=0, n=None):
        """Make receive buffers available: @n, or as many as there is room for."""
        ring = self.rx_ring(pair)
        room = len(ring.free) // self.rx_pieces
        for _ in range(room if n is None else min(n, room)):
            self._post_one(pair, ring)
        ring.publish()

    def _post_one(self, pair, ring):
        gpa = self.rx_base[pair] + ring.free[0] * self.rx_slot
        pieces = self._rx_pieces(gpa)
        for at, length in pieces[:-1]:
            self.memory.write(at, POISON * length)
        self.memory.write(pieces[-1][0], POISON * (pieces[-1][1] + GUARD))
        self.slots[pair][ring.add(pieces, WRITE)] = pieces

    def _rx_pieces(self, gpa):
        if self.rx_pieces == 1:
            return [(gpa, self.rx_buffer)]
        each = self.rx_buffer // self.rx_pieces
        sizes = [each] * (self.rx_pieces - 1) + [self.rx_buffer - each * (self.rx_pieces - 1)]
        pieces = []
        for size in sizes:
            pieces.append((gpa, size))
            gpa += size + 3
        return pieces

    def _gather(self, pieces, length):
        data = b""
        for gpa, size in pieces:
            part = self.memory.read(gpa, min(size, length - len(data)))
            data += part
            if len(data) == length:
                room = size - len(part) + (GUARD if (gpa, size) == pieces[-1] else 0)
                tail = self.memory.read(gpa + len(part), min(GUARD, room))
                assert not self.check_tail or not tail.strip(POISON), "flued wrote behind the end of the frame"
                return data
        raise AssertionError(f"flued claims {length} bytes in a buffer of {sum(size for _, size in pieces)}")

    def collect(self, pair=0, repost=True):
        """Take what has arrived on one receive ring into self.received; how many frames."""
        ring = self.rx_ring(pair)
        done = ring.reap()
        if done:
            buffers = [self._gather(self.slots[pair].pop(head), length) for head, length in done]
            self._frames(buffers, pair)
            if repost:
                self.post(pair)
        return len(done)

    def _frames(self, buffers, pair):
        i = 0
        while i < len(buffers):
            header, body = buffers[i][: self.header], buffers[i][self.header :]
            assert len(header) == self.header, f"a first buffer of {len(buffers[i])} bytes"
            n = struct.unpack("=H", header[10:12])[0] if self.header == 12 else 1
            assert n == 1 or self.mergeable, f"num_buffers {n} without mergeable buffers"
            assert 1 <= n <= len(buffers) - i, f"num_buffers {n}, but {len(buffers) - i} were used"
            for more in buffers[i : i + n - 1]:
                assert len(more) == self.rx_buffer, "a buffer before the last is not full"
            self.received.append((pair, Received(header, body + b"".join(buffers[i + 1 : i + n]), self.features)))
            i += n

    def recv_pairs(self, n=1, timeout_s=20, repost=True):
        """Wait for @n frames: [(queue pair, frame)]."""
        deadline = time.monotonic() + timeout_s
        rings = [self.rx_ring(pair) for pair in range(self.pairs)]
        while True:
            for pair, ring in enumerate(rings):
                ring.interrupts_off()
                self.collect(pair, repost)
            if len(self.received) >= n:
                return [self.received.popleft() for _ in range(n)]
            left = deadline - time.monotonic()
            if left <= 0 or not wait_any(rings, left):
                raise AssertionError(f"{len(self.received)} of {n} frames came in {timeout_s:g} s")

    def recv(self, n=1, timeout_s=20, repost=True):
        return [frame for _, frame in self.recv_pairs(n, timeout_s, repost)]

    def pending(self):
        """Frames that have arrived and were not asked for."""
        for pair in range(self.pairs):
            self.collect(pair)
        frames = [frame for _, frame in self.received]
        self.received.clear()
        return frames

    def memfds(self):
        return [region.fd for region in self.memory.regions]


def shrink(guest, region=0):
    """Take the memory away under everybody who has it mapped."""
    os.ftruncate(guest.memory.regions[region].fd, 0)
