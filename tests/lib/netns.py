# SPDX-License-Identifier: Apache-2.0
"""Network namespaces, and sockets of ours inside them."""

import ctypes
import fcntl
import hashlib
import itertools
import os
import select
import socket
import struct
import subprocess
import threading
import time

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23
PACKET_AUXDATA = 8
TP_STATUS_VLAN_VALID = 1 << 4
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFF_UP = 1

_libc = ctypes.CDLL(None, use_errno=True)
_count = itertools.count()


def run(*command, check=True):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done


class Netns:
    """A namespace of `ip netns`, gone at the end of the with."""

    def __init__(self):
        self.name = f"flue{os.getpid()}n{next(_count)}"
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        run("ip", "netns", "del", self.name, check=False)

    def ip(self, *args):
        return run("ip", "-n", self.name, *args)

    def exec(self, *command, check=True):
        return run("ip", "netns", "exec", self.name, *command, check=check)

    def up(self, ifname, address=None, mtu=None):
        if mtu:
            self.ip("link", "set", "dev", ifname, "mtu", str(mtu))
        if address:
            self.ip("addr", "add", address, "dev", ifname, *(["nodad"] if ":" in address else []))
        self.ip("link", "set", "dev", ifname, "up")

    def quiet(self):
        """No frames of the kernel's own (IPv6 solicitations and such) on interfaces that appear from now on."""
        self.exec("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")

    def mac(self, ifname):
        return self.exec("cat", f"/sys/class/net/{ifname}/address").stdout.strip()

    def veth(self, ifname, peer, peer_ns):
        self.ip("link", "add", ifname, "type", "veth", "peer", "name", peer, "netns", peer_ns.name)

    def vlan(self, ifname, vid):
        """A VLAN interface of the kernel's; False if this kernel cannot."""
        made = run(
            "ip", "-n", self.name, "link", "add", "link", ifname, "name", f"{ifname}.{vid}",
            "type", "vlan", "id", str(vid), check=False,
        )  # fmt: skip
        assert made.returncode == 0 or "Unknown device type" in made.stderr, made.stderr
        return made.returncode == 0

    def switch(self, ifname, on):
        """Up or down, without the time it takes to start a program."""
        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            request = struct.pack("16sH14x", ifname.encode(), 0)
            flags = struct.unpack("16sH14x", fcntl.ioctl(sock, SIOCGIFFLAGS, request))[1]
            flags = flags | IFF_UP if on else flags & ~IFF_UP
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", ifname.encode(), flags))

    def call(self, function, *args):
        """Run @function on a thread inside the namespace; sockets it makes stay there."""
        result = []

        def body():
            fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(fd, CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
                result.append((function(*args), None))
            except BaseException as e:
                result.append((None, e))
            finally:
                os.close(fd)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        value, error = result[0]
        if error:
            raise error
        return value

    def socket(self, *args):
        return self.call(socket.socket, *args)

    def raw(self, ifname):
        return self.call(RawSocket, ifname)

    def ping(self, address, count=3, size=56, interval_s=0.05):
        """The kernel's own stack asks until it has @count answers. (By -c and -W alone ping would wait for the last answer
        no longer than two round trips of the first, which a busy machine exceeds.)"""
        done = self.exec(
            "ping", "-n", "-c", str(count), "-i", str(interval_s), "-w", "10", "-s", str(size), address, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


class RawSocket:
    """Frames of one interface as they are, tags included."""

    def __init__(self, ifname):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(ETH_P_ALL))
        self.sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind((ifname, ETH_P_ALL))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.send(data)

    def _take(self):
        data, ancillary, _, _ = self.sock.recvmsg(1 << 17, 256)
        for level, kind, aux in ancillary:
            if level == SOL_PACKET and kind == PACKET_AUXDATA:
                status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", aux[:20])
                if status & TP_STATUS_VLAN_VALID:
                    data = data[:12] + struct.pack(">HH", tpid or 0x8100, tci) + data[12:]
        return data

    def recv(self, n=1, timeout_s=20, wanted=lambda data: True):
        """The next @n frames that are @wanted."""
        frames, deadline = [], time.monotonic() + timeout_s
        while len(frames) < n:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise AssertionError(f"{len(frames)} of {n} frames came in {timeout_s:g} s")
            data = self._take()
            if wanted(data):
                frames.append(data)
        return frames

    def pending(self):
        frames = []
        while select.select([self.sock], [], [], 0)[0]:
            frames.append(self._take())
        return frames


def bulk(sender_ns, receiver_ns, address, size, port=5001):
    """TCP from one namespace to another; both ends must have seen the same bytes. Returns the seconds it took."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = receiver_ns.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen()
    listener.settimeout(30)
    received = hashlib.sha256()
    failure = []

    def serve():
        try:
            peer, _ = listener.accept()
            peer.settimeout(30)
            while data := peer.recv(1 << 18):
                received.update(data)
            peer.close()
        except OSError as e:
            failure.append(e)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    sent = hashlib.sha256()
    began = time.monotonic()
    with sender_ns.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(30)
        sock.connect((address, port))
        while size > 0:
            data = os.urandom(min(size, 1 << 18))
            sent.update(data)
            sock.sendall(data)
            size -= len(data)
    thread.join(60)
    listener.close()
    assert not failure and not thread.is_alive(), failure or "the receiver hangs"
    assert received.digest() == sent.digest(), "TCP delivered other bytes than were sent"
    return time.monotonic() - began


def datagrams(sender_ns, receiver_ns, address, sizes, port=5002):
    """UDP datagrams of these sizes; each must arrive unchanged."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM
    with receiver_ns.socket(family, kind) as receiver, sender_ns.socket(family, kind) as sender:
        receiver.bind((address, port))
        receiver.settimeout(20)
        for size in sizes:
            data = os.urandom(size)
            sender.sendto(data, (address, port))
            assert receiver.recv(65536) == data, f"a datagram of {size} bytes"
