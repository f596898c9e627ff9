# SPDX-License-Identifier: Apache-2.0
"""Guests that talk to each other all the time, the neighbours who must notice nothing; and guests that flood."""

import threading
import time

import frames as F
from vring import NO_NOTIFY, full_barrier
from wait import wait_until

BURST = 16


class Traffic(threading.Thread):
    """Bursts from @a to @b and back; every frame must come, unchanged and in order."""

    def __init__(self, a, b, mac_a, mac_b, pause_s=0.002):
        super().__init__(daemon=True)
        self.ends = [(a, b, mac_a, mac_b), (b, a, mac_b, mac_a)]
        self.pause_s = pause_s
        self.bursts = 0
        self.error = None
        self.ending = False
        self.start()

    def run(self):
        try:
            while not self.ending:
                for sender, receiver, src, dst in self.ends:
                    self._burst(sender, receiver, src, dst)
                self.bursts += 1
                time.sleep(self.pause_s)
        except BaseException as e:
            self.error = e

    def _burst(self, sender, receiver, src, dst):
        frames = [F.numbered(src, dst, self.bursts * BURST + i, 60 + i * 90) for i in range(BURST)]
        sender.send(frames)
        got = []
        while len(got) < BURST:
            # others may be heard as well: floods by those who misbehave
            got += [f for f in receiver.recv() if f[6:12] == frames[0][6:12]]
        assert got == frames, "a neighbour's frames were lost or changed"

    def flows_on(self, bursts=2):
        """Wait for some more bursts; fails if one was lost."""
        before = self.bursts
        wait_until(lambda: self.error or self.bursts >= before + bursts, "the neighbours' traffic to flow on")
        if self.error:
            raise AssertionError(f"the neighbours were disturbed: {self.error!r}") from self.error

    def stop(self):
        self.ending = True
        self.join(30)
        if self.error:
            raise AssertionError(f"the neighbours were disturbed: {self.error!r}") from self.error


class Flood(threading.Thread):
    """As much as the switch takes: the whole ring of each of @guests is made available again as soon as any of it was
    used. Always the same @frame; what becomes of it is nobody's business. Guests are of no other use then."""

    def __init__(self, guests, frame):
        super().__init__(daemon=True)
        self.rings = [guest.tx_ring() for guest in guests]
        for guest, ring in zip(guests, self.rings):
            while ring.free:
                guest.prepare(frame)
        self.ending = False
        self.start()

    def run(self):
        while not self.ending:
            for ring in self.rings:
                ring.avail[1] = (ring.used16[1] + ring.size) & 0xFFFF
                full_barrier()
                if not ring.used16[0] & NO_NOTIFY:
                    ring.kick()
            time.sleep(0)  # this interpreter runs other guests, too

    def stop(self):
        self.ending = True
        self.join(30)
