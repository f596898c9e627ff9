# SPDX-License-Identifier: Apache-2.0
"""flued's state file (src/state/state_layout.h): what it keeps of each port, and how to change that.

    port = read(path)["vm1"]
    port["offered"] &= ~NET_F_MQ
    write(path, "vm1", port)
"""

import struct

HEADER = struct.Struct("=8sII40sII")
RECORD = struct.Struct("=Q32sQQQQIIIIII")
FIELDS = ("offered", "acked", "protocol_offered", "protocol_acked", "pairs", "front_end", "peer_pid", "bound")
SLOTS = 256
PAGE = 4096
SLOT_BYTES = 17 * PAGE
FILE_BYTES = PAGE + SLOTS * SLOT_BYTES


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _records(path):
    """(offset, number, name, fields) of each good record."""
    with open(path, "rb") as file:
        for slot in range(SLOTS):
            for record in range(2):
                at = PAGE + slot * SLOT_BYTES + record * RECORD.size
                file.seek(at)
                data = file.read(RECORD.size)
                number, name, *values, _, crc = RECORD.unpack(data)
                if number and crc == crc32c(data[:-4]):
                    yield at, number, name.rstrip(b"\0").decode(), dict(zip(FIELDS, values))


def _newest(path):
    newest = {}
    for at, number, name, fields in _records(path):
        if name not in newest or newest[name][1] < number:
            newest[name] = at, number, fields
    return newest


def read(path):
    """{name of the port: its fields}"""
    return {name: fields for name, (_, _, fields) in _newest(path).items()}


def write(path, name, fields):
    """Replace what is kept of a port that has a slot."""
    at, number, _ = _newest(path)[name]
    data = RECORD.pack(number, name.encode(), *(fields[key] for key in FIELDS), 0, 0)[:-4]
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data + struct.pack("=I", crc32c(data)))
