# SPDX-License-Identifier: Apache-2.0
"""The vhost-user protocol from the front end's side (QEMU docs/interop/vhost-user.rst), message by message.

FrontEnd sends what it is told to, well-formed or not: the tests of malice need that. guest.py builds a network driver
on top of it.
"""

import array
import os
import select
import socket
import struct
import time

VERSION = 1
REPLY = 1 << 2
NEED_REPLY = 1 << 3

# requests
GET_FEATURES = 1
SET_FEATURES = 2
SET_OWNER = 3
RESET_OWNER = 4
SET_MEM_TABLE = 5
SET_LOG_BASE = 6
SET_LOG_FD = 7
SET_VRING_NUM = 8
SET_VRING_ADDR = 9
SET_VRING_BASE = 10
GET_VRING_BASE = 11
SET_VRING_KICK = 12
SET_VRING_CALL = 13
SET_VRING_ERR = 14
GET_PROTOCOL_FEATURES = 15
SET_PROTOCOL_FEATURES = 16
GET_QUEUE_NUM = 17
SET_VRING_ENABLE = 18
SEND_RARP = 19
NET_SET_MTU = 20
SET_BACKEND_REQ_FD = 21
IOTLB_MSG = 22
SET_VRING_ENDIAN = 23
GET_CONFIG = 24
SET_CONFIG = 25
CREATE_CRYPTO_SESSION = 26
CLOSE_CRYPTO_SESSION = 27
POSTCOPY_ADVISE = 28
GET_INFLIGHT_FD = 31
SET_INFLIGHT_FD = 32
GPU_SET_SOCKET = 33
RESET_DEVICE = 34
VRING_KICK = 35
GET_MAX_MEM_SLOTS = 36
ADD_MEM_REG = 37
REM_MEM_REG = 38
SET_STATUS = 39
GET_STATUS = 40

BACKEND_CONFIG_CHANGE = 2

# with an answer of their own
ANSWERED = {
    GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, GET_VRING_BASE, GET_CONFIG, GET_MAX_MEM_SLOTS, GET_STATUS,
}  # fmt: skip

# virtio features
NET_F_CSUM = 1 << 0
NET_F_GUEST_CSUM = 1 << 1
NET_F_MTU = 1 << 3
NET_F_MAC = 1 << 5
NET_F_GUEST_TSO4 = 1 << 7
NET_F_GUEST_TSO6 = 1 << 8
NET_F_GUEST_ECN = 1 << 9
NET_F_HOST_TSO4 = 1 << 11
NET_F_HOST_TSO6 = 1 << 12
NET_F_HOST_ECN = 1 << 13
NET_F_MRG_RXBUF = 1 << 15
NET_F_STATUS = 1 << 16
NET_F_CTRL_VQ = 1 << 17
NET_F_MQ = 1 << 22
F_LOG_ALL = 1 << 26
F_ANY_LAYOUT = 1 << 27
F_INDIRECT_DESC = 1 << 28
F_EVENT_IDX = 1 << 29
F_PROTOCOL_FEATURES = 1 << 30
F_VERSION_1 = 1 << 32
F_RING_PACKED = 1 << 34
F_IN_ORDER = 1 << 35
NET_F_GUEST_USO4 = 1 << 54
NET_F_GUEST_USO6 = 1 << 55
NET_F_HOST_USO = 1 << 56

# protocol features
PF_MQ = 1 << 0
PF_LOG_SHMFD = 1 << 1
PF_RARP = 1 << 2
PF_REPLY_ACK = 1 << 3
PF_NET_MTU = 1 << 4
PF_BACKEND_REQ = 1 << 5
PF_CONFIG = 1 << 9
PF_BACKEND_SEND_FD = 1 << 10
PF_RESET_DEVICE = 1 << 13
PF_CONFIGURE_MEM_SLOTS = 1 << 15
PF_STATUS = 1 << 16

NO_FD = 1 << 8  # in SET_VRING_KICK, _CALL, _ERR
FDS_MAX = 32


class Closed(Exception):
    """flued closed the connection."""


class Refused(Exception):
    """flued answered a NEED_REPLY message with failure."""


def u64(value):
    return struct.pack("=Q", value)


def region_record(gpa, size, uva, file_offset):
    return struct.pack("=QQQQ", gpa, size, uva, file_offset)


def memory_table(records):
    return struct.pack("=II", len(records), 0) + b"".join(records)


class FrontEnd:
    """One connection. @role "connect": flued listens at @path; "listen": flued connects to us there."""

    def __init__(self, path, role="connect", timeout_s=20):
        self.path, self.role, self.timeout_s = str(path), role, timeout_s
        self.protocol = 0
        self.listener = None
        self.sock = None
        if role == "listen":
            self.listen()

    def listen(self):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.listener.bind(self.path)
        self.listener.listen(1)

    def connect(self):
        self.sock = self._accept() if self.listener else self._connect()
        self.sock.settimeout(self.timeout_s)
        return self

    def _accept(self):
        self.listener.settimeout(self.timeout_s)
        return self.listener.accept()[0]

    def _connect(self):
        """flued serves one front end at a time, so right after another one left it may still be busy with that."""
        deadline = time.monotonic() + self.timeout_s
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                sock.connect(self.path)
                return sock
            except (ConnectionRefusedError, FileNotFoundError):
                sock.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def close(self):
        if self.sock:
            self.sock.close()
            self.sock = None

    def close_all(self):
        self.close()
        if self.listener:
            self.listener.close()
            os.unlink(self.path)
            self.listener = None

    # -- messages --

    def send_message(self, request, payload=b"", fds=(), *, flags=VERSION, size=None):
        """Send one message; @size: lie about the payload's length."""
        header = struct.pack("=III", request, flags, len(payload) if size is None else size)
        self.send_bytes(header + payload, fds)

    def send_bytes(self, data, fds=()):
        try:
            if fds:
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                sent = self.sock.sendmsg([data], ancillary)
                data = data[sent:]
            if data:
                self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise Closed(str(e)) from None

    def _receive_exactly(self, size):
        data = b""
        while len(data) < size:
            try:
                more = self.sock.recv(size - len(data))
            except ConnectionResetError as e:
                raise Closed(str(e)) from None
            if not more:
                raise Closed("flued closed the connection")
            data += more
        return data

    def receive(self, request):
        """The answer to @request: its payload."""
        got, flags, size = struct.unpack("=III", self._receive_exactly(12))
        assert size <= 4096, f"an answer of {size} bytes"
        payload = self._receive_exactly(size)
        assert got == request, f"asked {request}, answered {got}"
        assert flags & 3 == VERSION and flags & REPLY, f"flags {flags:#x} in the answer to {request}"
        return payload

    def ask(self, request, payload=b"", fds=()):
        self.send_message(request, payload, fds)
        return self.receive(request)

    def ask_u64(self, request, payload=b"", fds=()):
        return struct.unpack("=Q", self.ask(request, payload, fds))[0]

    def tell(self, request, payload=b"", fds=()):
        """A message without an answer; it is acknowledged if that was negotiated."""
        if not self.protocol & PF_REPLY_ACK:
            self.send_message(request, payload, fds)
            return
        self.send_message(request, payload, fds, flags=VERSION | NEED_REPLY)
        (failed,) = struct.unpack("=Q", self.receive(request))
        if failed:
            raise Refused(f"request {request} refused: {failed}")

    def sync(self):
        """Wait until everything sent before has been dealt with."""
        self.ask(GET_FEATURES)

    def closed(self, timeout_s=20):
        """Has flued closed the connection (or does so soon)? Swallows what it still sends."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            if not poll.poll(left * 1000):
                return False
            try:
                if not self.sock.recv(4096):
                    return True
            except ConnectionResetError:
                return True
        return False

    # -- the requests, well-formed --

    def negotiate(self, want, protocol):
        """Features as a driver does it: what both have. Leaves SET_FEATURES to set_features()."""
        self.offered = self.ask_u64(GET_FEATURES)
        self.features = self.offered & want
        if self.offered & want & F_PROTOCOL_FEATURES:
            self.offered_protocol = self.ask_u64(GET_PROTOCOL_FEATURES)
            wanted = self.offered_protocol & protocol
            self.send_message(SET_PROTOCOL_FEATURES, u64(wanted))
            self.protocol = wanted
        self.tell(SET_OWNER)

    def set_features(self, extra=0):
        self.tell(SET_FEATURES, u64(self.features | extra))

    def queue_num(self):
        return self.ask_u64(GET_QUEUE_NUM)

    def set_mem_table(self, regions):
        records = [region_record(r.gpa, r.size, r.uva, r.file_offset) for r in regions]
        self.tell(SET_MEM_TABLE, memory_table(records), [r.fd for r in regions])

    def add_mem_reg(self, r):
        self.tell(ADD_MEM_REG, u64(0) + region_record(r.gpa, r.size, r.uva, r.file_offset), [r.fd])

    def rem_mem_reg(self, r):
        self.tell(REM_MEM_REG, u64(0) + region_record(r.gpa, r.size, r.uva, r.file_offset))

    def vring_state(self, request, ring, value):
        self.tell(request, struct.pack("=II", ring, value))

    def vring_fd(self, request, ring, fd):
        self.tell(request, u64(ring | (0 if fd is not None else NO_FD)), [] if fd is None else [fd])

    def vring_addr(self, ring, desc, used, avail, log=0, flags=0):
        self.tell(SET_VRING_ADDR, struct.pack("=IIQQQQ", ring, flags, desc, used, avail, log))

    def vring_base(self, ring):
        """GET_VRING_BASE: stops the ring; where it stands."""
        got, base = struct.unpack("=II", self.ask(GET_VRING_BASE, struct.pack("=II", ring, 0)))
        assert got == ring
        return base

    def set_log_base(self, fd, size, offset=0):
        self.ask(SET_LOG_BASE, struct.pack("=QQ", size, offset), [fd])
