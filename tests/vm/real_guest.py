# SPDX-License-Identifier: Apache-2.0
"""Real guests for tests: QEMU with a stock Debian kernel, and a channel to run commands in it.

    with Guest("vm1", nics=[VhostUser("/run/flue/vm1.sock", mac="52:54:00:00:00:01")]) as vm1:
        vm1.ok("ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up")
        status, output = vm1.run("ping -c 1 10.0.0.2")

A Guest starts QEMU at once and waits for the boot at its first command, so several boot side by side. It never outlives
the thread that made it (PR_SET_PDEATHSIG): make guests in the main thread. Commands may be given from any thread.

Uses KVM where KVM really boots this guest, else emulation (TCG). $FLUE_QEMU names another QEMU. The kernel and the
initramfs are made by devtools/guest-image; the other end of the command channel is devtools/guest-init.
"""

import base64
import ctypes
import dataclasses
import hashlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QEMU = os.environ.get("FLUE_QEMU", "qemu-system-x86_64")
BOOT_SECONDS = 60  # emulated, on a machine with other work
COMMAND_SECONDS = 60
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


class GuestError(Exception):
    """The guest, QEMU or a command in the guest did not do what the test relies on."""


def cache_directory():
    """Where kernel and initramfs are; makes them if need be."""
    subprocess.run([f"{TOP}/devtools/guest-image"], check=True, stdin=subprocess.DEVNULL)
    return os.path.join(TOP, os.environ.get("FLUE_CACHE", "build/guest"))


def qemu_version():
    """As a tuple: (7, 2, 22)."""
    text = subprocess.run([QEMU, "--version"], check=True, capture_output=True, text=True).stdout
    return tuple(int(n) for n in re.search(r"version ([\d.]+)", text).group(1).split("."))


def accel_args(cache):
    """QEMU arguments for the fastest accelerator that boots the guest here.

    /dev/kvm may exist and still not run a kernel (nested, without full support), so one guest is booted to see. The
    answer holds for this boot of the machine and this QEMU, and is kept in the cache.
    """
    kvm = ["-accel", "kvm", "-cpu", "host"]
    tcg = ["-accel", "tcg,thread=multi", "-cpu", "max"]
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return tcg
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot_id:
        key = hashlib.sha256(f"{boot_id.read()} {QEMU} {qemu_version()}".encode()).hexdigest()[:16]
    path = os.path.join(cache, f"accel-{key}")
    if not os.path.exists(path):
        with open(f"{path}.{os.getpid()}", "w", encoding="ascii") as answer:
            answer.write("kvm" if _boots(kvm) else "tcg")
        os.rename(answer.name, path)
    with open(path, encoding="ascii") as answer:
        return kvm if answer.read() == "kvm" else tcg


def _boots(accel):
    try:
        with Guest("kvm-probe", accel=accel) as guest:
            guest.wait_ready(5)
            return True
    except GuestError:
        return False


@dataclasses.dataclass
class VhostUser:
    """A virtio-net device on a vhost-user socket. Sizes in descriptors; @extra are further device properties."""

    path: str
    mac: str
    server: bool = False  # QEMU listens (and waits for the switch); else it connects, and again when the switch comes back
    queue_pairs: int = 1
    mtu: int = None  # told to the guest (host_mtu)
    rx_queue_size: int = 256
    tx_queue_size: int = 256
    packed: bool = False
    extra: dict = dataclasses.field(default_factory=dict)

    def args(self, index):
        role = "server=on" if self.server else "reconnect-ms=1000" if qemu_version() >= (9, 2) else "reconnect=1"
        return [
            "-chardev",
            f"socket,id=chr{index},path={self.path},{role}",
            "-netdev",
            f"vhost-user,id=net{index},chardev=chr{index},vhostforce=on,queues={self.queue_pairs}",
            "-device",
            _device(self, index),
        ], []


@dataclasses.dataclass
class Cable:
    """A virtio-net device on one end of a socket.socketpair(); the other end is another guest's. No switch between."""

    end: socket.socket
    mac: str
    mtu: int = None
    extra: dict = dataclasses.field(default_factory=dict)

    def args(self, index):
        return [
            "-netdev",
            f"socket,id=net{index},fd={self.end.fileno()}",
            "-device",
            _device(self, index),
        ], [self.end.fileno()]


def _device(nic, index):
    """The -device argument of a NIC. Modern virtio only: legacy rings have another byte order and layout."""
    properties = {"netdev": f"net{index}", "id": f"nic{index}", "mac": nic.mac, "disable-legacy": "on", "romfile": ""}
    if isinstance(nic, VhostUser):
        properties |= {"rx_queue_size": nic.rx_queue_size, "tx_queue_size": nic.tx_queue_size}
        # As `flue qemu` prints it: QEMU answers that command itself, and the switch would not know.
        properties |= {"ctrl_guest_offloads": "off"}
        properties |= {"packed": "on"} if nic.packed else {}
        # One vector for each ring, one for configuration changes and one for the control queue.
        properties |= {"mq": "on", "vectors": 2 * nic.queue_pairs + 2} if nic.queue_pairs > 1 else {}
        # QEMU 7.2 without KVM crashes when a vhost-user device starts with MSI-X: it unmasks vectors by KVM's means.
        properties |= {"vectors": 0} if qemu_version() < (8, 0) else {}
    properties |= {"host_mtu": nic.mtu} if nic.mtu else {}
    return ",".join(["virtio-net-pci", *(f"{key}={value}" for key, value in (properties | nic.extra).items())])


class Command:
    """A command on its way. wait() gives (status, output); the guest kills it after its limit (status 137)."""

    def __init__(self, guest, text, limit):
        self.guest, self.text, self.limit = guest, text, limit
        self.answer = None
        self.ended = threading.Event()

    def wait(self):
        # The guest ends it in time; only a guest that is stuck or gone does not answer.
        if not self.ended.wait(self.limit + 15) or self.answer is None:
            raise GuestError(f"{self.guest.name}: no answer to: {self.text}\n{self.guest.last_words()}")
        return self.answer


class Guest:
    """One virtual machine. @memory in MiB; @incoming starts it as the destination of a migration."""

    live = []  # for the log of a failed test

    def __init__(self, name, nics=(), *, cpus=1, memory=256, accel=None, incoming=False, extra=(), log_directory=None):
        cache = cache_directory()
        self.name = name
        self.directory = log_directory or tempfile.mkdtemp(prefix=f"flue-{name}-")
        self.keep_log = log_directory is not None
        self.console = os.path.join(self.directory, f"{name}.console")
        self.errors = os.path.join(self.directory, f"{name}.qemu")
        self._next_id = itertools.count(1)
        self._commands = {}
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._gone = False
        self._channel, channel_end = socket.socketpair()
        self._qmp, qmp_end = socket.socketpair()
        self._qmp_file = None
        self._qmp_lock = threading.Lock()
        accel = accel or accel_args(cache)
        self.emulated = accel[1].startswith("tcg")
        args, fds = self._args(cache, cpus, memory, incoming, nics, [channel_end.fileno(), qmp_end.fileno()])
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                [QEMU, *accel, *args, *extra],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[channel_end.fileno(), qmp_end.fileno(), *fds],
                start_new_session=True,  # Ctrl-C is for whoever runs the guests
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        channel_end.close()
        qmp_end.close()
        self._reader = threading.Thread(target=self._read_answers, daemon=True)
        self._reader.start()
        Guest.live.append(self)

    def _args(self, cache, cpus, memory, incoming, nics, channel_fds):
        args = ["-name", self.name, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35,memory-backend=ram"]
        args += ["-object", f"memory-backend-memfd,id=ram,size={memory}M,share=on", "-m", f"{memory}M", "-smp", str(cpus)]
        args += ["-kernel", f"{cache}/vmlinuz", "-initrd", f"{cache}/initramfs"]
        args += ["-append", "console=ttyS0 quiet loglevel=5 random.trust_cpu=on mitigations=off"]
        args += ["-serial", f"file:{self.console}"]
        args += ["-chardev", f"socket,id=ctl,fd={channel_fds[0]}", "-device", "virtio-serial-pci,disable-legacy=on"]
        args += ["-device", "virtserialport,chardev=ctl,name=flue.ctl"]
        args += ["-chardev", f"socket,id=qmp,fd={channel_fds[1]}", "-mon", "chardev=qmp,mode=control"]
        args += ["-incoming", "defer"] if incoming else []
        fds = []
        for index, nic in enumerate(nics):
            nic_args, nic_fds = nic.args(index)
            args += nic_args
            fds += nic_fds
        return args, fds

    def _read_answers(self):
        try:
            with self._channel.makefile("rb") as channel:
                while line := channel.readline():
                    self._read_answer(line.split(), channel)
        except OSError:
            pass  # a reset connection is QEMU's end like any other
        self._gone = True
        self._fail_pending()
        self._ready.set()

    def _read_answer(self, words, channel):
        if words == [b"ready"]:
            self._fail_pending()
            self._ready.set()
        elif len(words) == 3:
            self._take_answer(int(words[0]), int(words[1]), channel.read(int(words[2])))

    def _take_answer(self, number, status, output):
        with self._lock:
            command = self._commands.pop(number, None)
        if command:
            command.answer = status, output.decode(errors="replace")
            command.ended.set()

    def _fail_pending(self):
        """The guest booted anew or is gone: what was asked before is lost."""
        with self._lock:
            lost, self._commands = self._commands, {}
        for command in lost.values():
            command.ended.set()

    def wait_ready(self, limit=BOOT_SECONDS):
        if not self._ready.wait(limit):
            raise GuestError(f"{self.name}: did not boot in {limit} s\n{self.last_words()}")
        if self._gone:
            raise GuestError(f"{self.name}: QEMU ended\n{self.last_words()}")

    def alive(self):
        return self.process.poll() is None

    def start(self, command, limit=COMMAND_SECONDS):
        """Start a shell command in the guest; .wait() for its answer. Commands run side by side."""
        self.wait_ready()
        with self._lock:
            number = next(self._next_id)
            started = self._commands[number] = Command(self, command, limit)
            encoded = base64.b64encode(command.encode()).decode()
            try:
                self._channel.sendall(f"{number} {limit} {encoded}\n".encode())
            except OSError:
                started.ended.set()
        return started

    def run(self, command, limit=COMMAND_SECONDS):
        """Run a shell command in the guest: (exit status, standard output and error)."""
        return self.start(command, limit).wait()

    def ok(self, command, limit=COMMAND_SECONDS):
        """Run a command that must succeed; its output."""
        status, output = self.run(command, limit)
        if status != 0:
            raise GuestError(f"{self.name}: status {status} from: {command}\n{output}")
        return output

    def configure(self, *addresses, device="eth0"):
        """Give @device @addresses (with prefix lengths), bring it up, and wait until the guest's kernel sends through it."""
        adding = "".join(f"ip addr add {address} dev {device}\n" for address in addresses)
        self.ok(f"set -e\n{adding}ip link set {device} up")
        self.ok(f"until grep -q up /sys/class/net/{device}/operstate; do usleep 10000; done", 20)

    def put(self, path, data):
        """Write a small file (bytes) in the guest."""
        self.ok(f"base64 -d >'{path}' <<'EOF'\n{base64.encodebytes(data).decode()}EOF\n")

    def qmp(self, command, **arguments):
        """A command of QEMU's own control protocol; its result."""
        with self._qmp_lock:
            if not self._qmp_file:
                self._qmp_file = self._qmp.makefile("rwb")
                self._qmp_file.readline()  # the greeting
                self._qmp_call("qmp_capabilities", {})
            return self._qmp_call(command, arguments)

    def _qmp_call(self, command, arguments):
        self._qmp_file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._qmp_file.flush()
        while line := self._qmp_file.readline():
            message = json.loads(line)
            if "error" in message:
                raise GuestError(f"{self.name}: {command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
        raise GuestError(f"{self.name}: QEMU is gone\n{self.last_words()}")

    def reboot(self):
        """Restart as an administrator would; returns when the guest is up again."""
        self.wait_ready()
        self._ready.clear()
        with self._lock:
            self._channel.sendall(f"0 60 {base64.b64encode(b'reboot -f').decode()}\n".encode())
        self.wait_ready()

    def reset(self):
        """Pull the reset line in the middle of whatever the guest does; returns when it is up again."""
        self.wait_ready()
        self._ready.clear()
        self.qmp("system_reset")
        self.wait_ready()

    def migrate_to(self, destination, limit=60):
        """Move this running guest into @destination (a Guest made with incoming=True and the same devices)."""
        path = os.path.join(destination.directory, f"{destination.name}.migration")
        destination.qmp("migrate-incoming", uri=f"unix:{path}")
        self.qmp("migrate", uri=f"unix:{path}")
        deadline = time.monotonic() + limit
        while (status := self.qmp("query-migrate")["status"]) != "completed":
            if status in ("failed", "cancelled") or time.monotonic() > deadline:
                raise GuestError(f"{self.name}: migration is {status}\n{self.last_words()}{destination.last_words()}")
            time.sleep(0.02)
        destination._next_id = self._next_id  # pylint: disable=protected-access
        destination._ready.set()  # pylint: disable=protected-access

    def last_words(self):
        """What to show when something went wrong: QEMU's messages and the end of the console."""
        text = ""
        for path in (self.errors, self.console):
            try:
                with open(path, encoding="utf-8", errors="replace") as log:
                    text += f"--- {path}\n" + "".join(log.readlines()[-30:])
            except OSError:
                pass
        return text

    def kill(self):
        """The virtual machine is gone without a word, as after kill -9."""
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def close(self):
        """End the virtual machine and remove its logs, unless they were asked for."""
        if self in Guest.live:
            Guest.live.remove(self)
        self.kill()
        self._channel.close()
        if self._qmp_file:
            self._qmp_file.close()
        self._qmp.close()
        if not self.keep_log:
            subprocess.run(["rm", "-rf", self.directory], check=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@dataclasses.dataclass
class Copied:
    """What came of copy_file()."""

    seconds: float
    sent_sha256: str
    received_sha256: str


def copy_file(sender, receiver, address, mebibytes=64, port=5000):
    """Make a random file in guest @sender and send it over TCP to @address of guest @receiver."""
    sender.ok(f"dd if=/dev/urandom of=/tmp/sent bs=1M count={mebibytes} 2>/dev/null")
    # nc ends its half of the connection when its input ends; the pipe, open at both ends, never does.
    receiver.ok("rm -f /tmp/quiet /tmp/received; mkfifo /tmp/quiet")
    listening = receiver.start(f"nc -l -p {port} <>/tmp/quiet >/tmp/received", 120)
    receiver.ok(f"until netstat -ltn | grep -q ':{port} '; do usleep 20000; done", 20)
    start = time.monotonic()
    sender.ok(f"nc {address} {port} </tmp/sent", 120)
    status, output = listening.wait()
    seconds = time.monotonic() - start
    if status != 0:
        raise GuestError(f"{receiver.name}: nc ended with {status}: {output}")
    sums = sender.start("sha256sum /tmp/sent; rm /tmp/sent"), receiver.start("sha256sum /tmp/received; rm /tmp/received")
    return Copied(seconds, *(command.wait()[1].split()[0] for command in sums))
