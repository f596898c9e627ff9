# SPDX-License-Identifier: Apache-2.0
"""Guest memory made of memfds, as a front end shares it: regions with a guest-physical and a user address each."""

import itertools
import mmap
import os

# Where the front end pretends to have its regions: anywhere, but no two in the same place.
_uva = itertools.count(0x7000_0000_0000, 0x10_0000_0000)


class Region:
    def __init__(self, gpa, size, uva, file_offset=0):
        self.gpa, self.size, self.uva, self.file_offset = gpa, size, uva, file_offset
        self.fd = os.memfd_create("guest-ram", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, file_offset + size)
        self.map = mmap.mmap(self.fd, file_offset + size)
        self.view = memoryview(self.map)[file_offset:]

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)  # the mapping goes with the last view of it
            self.fd = -1


class Memory:
    def __init__(self, layout=8 << 20, file_offset=0):
        """@layout: a size, or a list of (guest-physical address, size)."""
        if isinstance(layout, int):
            layout = [(0, layout)]
        self.regions = [Region(gpa, size, next(_uva), file_offset) for gpa, size in sorted(layout)]
        self.next = self.regions[0].gpa

    def close(self):
        for region in self.regions:
            region.close()

    def region(self, gpa):
        for region in self.regions:
            if 0 <= gpa - region.gpa < region.size:
                return region
        raise IndexError(f"guest-physical {gpa:#x} is in no region")

    def uva(self, gpa):
        region = self.region(gpa)
        return gpa - region.gpa + region.uva

    def view(self, gpa, size):
        """The bytes themselves; they must lie in one region."""
        region = self.region(gpa)
        at = gpa - region.gpa
        assert at + size <= region.size, f"{gpa:#x} + {size} leaves its region"
        return region.view[at : at + size]

    def _pieces(self, gpa, size):
        while size:
            region = self.region(gpa)
            at = gpa - region.gpa
            n = min(size, region.size - at)
            yield region.view[at : at + n]
            gpa += n
            size -= n

    def read(self, gpa, size):
        region = self.region(gpa)
        at = gpa - region.gpa
        if at + size <= region.size:
            return bytes(region.view[at : at + size])
        return b"".join(bytes(piece) for piece in self._pieces(gpa, size))

    def write(self, gpa, data):
        region = self.region(gpa)
        at = gpa - region.gpa
        if at + len(data) <= region.size:
            region.view[at : at + len(data)] = data
            return
        for piece in self._pieces(gpa, len(data)):
            piece[:] = data[: len(piece)]
            data = data[len(piece) :]

    def alloc(self, size, align=64, whole=True):
        """Addresses never given before. @whole: in one region; else the block may run on into the next one."""
        for region in self.regions:
            gpa = max(self.next, region.gpa)
            gpa += -gpa % align
            if gpa >= region.gpa + region.size or (whole and gpa + size > region.gpa + region.size):
                continue
            self.region(gpa + size - 1)
            self.next = gpa + size
            return gpa
        raise MemoryError(f"no {size} bytes of guest memory left")
