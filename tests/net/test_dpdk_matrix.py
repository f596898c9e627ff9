# SPDX-License-Identifier: Apache-2.0
"""Every data path of DPDK's virtio driver against the switch: ring layout, buffers, order, vectors, sizes, roles.

One testpmd holds a pair of virtio-user devices for each way a ring can be. Two guests of ours are put into the VLANs of
the pair under test: what one sends enters testpmd at one device, leaves it at the other, and is compared byte by byte
by the second guest, in both directions at once.

What was asked for must have been negotiated, and the function DPDK chose must be the one its rules give; where those
make it fall back from a vectorised function the name of the cell says so.
"""

import contextlib
import dataclasses
import itertools
from pathlib import Path

import frames as F
import pytest
import vhost_user as vu
from flued import Flued
from guest import Guest
from testpmd import Testpmd, vdev

A, B = F.mac(1), F.mac(2)
SIZES = (60, 1514, 9014)
ROUNDS = 10
HEADER = 12
PLAIN_HEADER = bytes(10) + b"\1\0"  # one buffer, no offloads
AVX512 = " avx512f " in Path("/proc/cpuinfo").read_text()
FEATURES = vu.NET_F_MRG_RXBUF | vu.F_RING_PACKED | vu.F_IN_ORDER


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a device is: what its driver is told on the command line."""

    packed: bool
    in_order: bool
    vectorized: bool
    mergeable: bool

    def arguments(self):
        return {
            "packed_vq": int(self.packed), "in_order": int(self.in_order), "vectorized": int(self.vectorized),
            "mrg_rxbuf": int(self.mergeable),
        }  # fmt: skip

    def features(self):
        return (
            vu.NET_F_MRG_RXBUF * self.mergeable | vu.F_RING_PACKED * self.packed | vu.F_IN_ORDER * self.in_order
        )

    def is_packed_vectorized(self):
        return self.rx_path() == "packed ring vectorized"

    def rx_path(self):
        """virtio_dev_configure() of DPDK 22.11."""
        if self.packed and self.vectorized and self.in_order and AVX512 and not self.mergeable:
            return "packed ring vectorized"
        if self.packed:
            return "packed ring mergeable buffer" if self.mergeable else "packed ring standard"
        if self.in_order:
            return "inorder"
        if self.mergeable:
            return "mergeable buffer"
        return "vectorized" if self.vectorized else "standard"

    def tx_path(self):
        if self.packed:
            return "packed ring " + ("vectorized" if self.vectorized and self.in_order and AVX512 else "standard")
        return "inorder" if self.in_order else "standard"

    def __str__(self):
        words = ["packed" if self.packed else "split"]
        words += [word for word in ("mergeable", "in_order") if getattr(self, word)]
        if self.vectorized:
            falls_back = "vectorized" not in self.rx_path() + self.tx_path()
            words.append("vectorized" + ("(falls_back)" if falls_back else ""))
        return "-".join(words)


def kinds(mergeable):
    return [Kind(*how, mergeable) for how in itertools.product((False, True), repeat=3)]


def assert_same(came, sent):
    wrong = [i for i, (one, other) in enumerate(zip(came, sent)) if one != other]
    # which of the sent ones came there, or else what it is
    what = {i: sent.index(came[i]) if came[i] in sent else f"{len(came[i])} B {came[i][:24].hex()}" for i in wrong}
    assert not wrong, f"of {len(sent)} frames these came changed or out of order: {what}"


def without_driver_shift(came, sent):
    """@came, with the frames put right that DPDK 22.11's packed vectorized receive path cut wrongly out of their buffers.

    A ring filled at a port's start gets buffers as their last transmission left them, the start of the data moved forward
    by the header's 12 bytes, and this path alone takes that start as it finds it: such a frame comes with the virtio
    header it was delivered with before it, and as many bytes less at its end. All others must be right.
    """

    def put_right(one, whole):
        for shift in range(HEADER, 8 * HEADER, HEADER):
            if one[shift - HEADER : shift] == PLAIN_HEADER and one[shift:] == whole[: len(one) - shift]:
                return whole
        return one

    return [put_right(one, whole) for one, whole in zip(came, sent)]


class Lab:
    """A switch, a testpmd with two devices of each kind, and our guests a and b. @role: flued's."""

    def __init__(self, role, mergeable, tmp_path):
        self.role, self.mergeable, self.tmp_path = role, mergeable, tmp_path
        self.kinds = kinds(mergeable)
        self.stack = contextlib.ExitStack()
        self.sockets = [str(tmp_path / f"d{i}.sock") for i in range(2 * len(self.kinds))]
        with contextlib.ExitStack() as undo:
            undo.callback(self.stack.close)
            self._build()
            undo.pop_all()

    def _build(self):
        devices = [
            {"name": f"d{i}", "socket": path, "role": self.role, "vlan": 100 + i, "mtu": 9000}
            for i, path in enumerate(self.sockets)
        ]
        guests = [{"name": name, "mtu": 9000, "vlan": 2} for name in ("a", "b")]
        self.switch = Flued({"ports": devices + guests})
        self.stack.callback(self.switch.close)
        self.a, self.b = (
            self.stack.enter_context(Guest(self.switch.port(name)["socket"], frame_max=9014)).up() for name in "ab"
        )
        self.launch()

    def device(self, i):
        kind = self.kinds[i // 2]
        server = {"server": 1} if self.role == "connect" else {}
        return {"path": self.sockets[i], **kind.arguments(), **server}

    def launch(self):
        """Start testpmd and let it pass on frames within each pair."""
        # With small buffers a jumbo frame fills several; without merging it must fit into one.
        # A driver keeps what it has sent until its ring is nearly full: five buffers for each of 256 frames.
        few_large, many_small = ("--mbuf-size=9728", "--total-num-mbufs=8192"), ("--total-num-mbufs=32768",)
        buffers = ("--enable-scatter", *many_small) if self.mergeable else few_large
        devices = [self.device(i) for i in range(len(self.sockets))]
        self.testpmd = self.stack.enter_context(
            Testpmd(devices, self.tmp_path, "--max-pkt-len=9018", *buffers)
        )
        self.testpmd.say("set fwd io", "Set io")
        self.wait_state("up")
        self.testpmd.start()

    def wait_state(self, state):
        for i in range(len(self.sockets)):
            self.switch.wait_state(f"d{i}", state)

    def close(self):
        self.stack.close()

    def check_kind(self, kind):
        """The rings are as they were asked for, and DPDK works on them as it says it does."""
        for i in self.ports(kind):
            features = int(self.switch.port(f"d{i}")["detail"]["features"], 0)
            assert features & FEATURES == kind.features(), f"features {features:#x}, wanted {kind}"
            assert self.testpmd.datapath(i, "Rx") == kind.rx_path()
            assert self.testpmd.datapath(i, "Tx") == kind.tx_path()

    def ports(self, kind):
        first = 2 * self.kinds.index(kind)
        return first, first + 1

    def exchange(self, kind, size, rounds=ROUNDS, fresh_buffers=True):
        """Bursts through the pair of this kind, both ways at once: all of it comes, unchanged and in order.

        @fresh_buffers: nothing was sent from testpmd's buffers before its ports were started.
        """
        for guest, i in zip("ab", self.ports(kind)):
            self.switch.set(guest, vlan=100 + i)
        # so that two bursts fit into a ring of 256, whatever a frame takes
        burst = 32 if size <= 1514 else 16
        for _ in range(rounds):
            there = [F.sized(A, B, size) for _ in range(burst)]
            back = [F.sized(B, A, size) for _ in range(burst)]
            self.a.send(there)
            self.b.send(back)
            for guest, sent in ((self.b, there), (self.a, back)):
                came = guest.recv(burst, 60)
                if kind.is_packed_vectorized() and not fresh_buffers:
                    came = without_driver_shift(came, sent)
                try:
                    assert_same(came, sent)
                except AssertionError as e:
                    raise AssertionError(f"{kind}, {size} B: {e}") from e

    def exchange_all(self):
        for kind in self.kinds:
            self.check_kind(kind)
            for size in SIZES:
                self.exchange(kind, size, 2, fresh_buffers=False)

    # -- what may happen to it; afterwards testpmd forwards again --

    def restart_ports(self):
        self.testpmd.stop()
        self.testpmd.say("port stop all", "Done")
        self.testpmd.say("port start all", "Done")
        self.testpmd.start()

    def reattach_ports(self):
        self.testpmd.stop()
        everyone = range(len(self.sockets))
        for i in everyone:
            self._detach(i)
            self._attach(i)
        self._forward_between(everyone)

    def _detach(self, i):
        self.testpmd.say(f"port stop {i}", "Done")
        self.testpmd.say(f"port close {i}", "is closed.*Done")
        self.switch.wait_state(f"d{i}", "waiting")
        self.testpmd.say(f"device detach net_virtio_user{i}", "is detached")

    def _attach(self, i):
        self.testpmd.say(f"port attach {vdev(i, self.device(i))}", "is attached")
        self.testpmd.say(f"port start {i}", "Done")
        self.switch.wait_state(f"d{i}", "up")

    def restart_testpmd(self):
        fds = self.switch.n_fds()
        self._relaunch()
        self.switch.wait_fds(fds)

    def _relaunch(self):
        self.testpmd.end()
        self.wait_state("waiting")
        self.launch()

    def restart_switch(self):
        self._go_through(self.switch.stop)

    def kill_switch(self):
        self._go_through(self.switch.kill9)

    def _go_through(self, end_switch):
        """The switch ends so and is started again, while testpmd forwards."""
        if self.role == "listen":  # a virtio-user that connects does so only once
            end_switch()
            self._start_switch()
            self._relaunch()
            return
        with self._fragile_ports_away() as ports:
            before = len(self.testpmd.text())
            end_switch()
            self._start_switch()
            again = "(server mode virtio-user reconnection succeeds.*){%d}" % len(ports)
            self.testpmd.wait_text(again, "testpmd to take the new connections", before)
            for i in ports:
                self.switch.wait_state(f"d{i}", "up")

    @contextlib.contextmanager
    def _fragile_ports_away(self):
        """Without the devices that would not live through a reconnection; yields the others.

        DPDK 22.11's packed vectorized receive path refills a ring by 32 buffers, keeps those it has handed up in the
        ring's books until then, and frees them a second time when the device takes a new connection. From then on a
        buffer has two owners, on whatever ports of this testpmd, and frames overwrite each other in it.
        """
        fragile = [i for kind in self.kinds if kind.is_packed_vectorized() for i in self.ports(kind)]
        ports = [i for i in range(len(self.sockets)) if i not in fragile]
        self.testpmd.stop()
        for i in fragile:
            self._detach(i)
        self._forward_between(ports)
        yield ports
        self.testpmd.stop()
        for i in fragile:
            self._attach(i)
        self._forward_between(range(len(self.sockets)))

    def _forward_between(self, ports):
        self.testpmd.say("set portlist " + ",".join(map(str, ports)), "testpmd> ")
        self.testpmd.start()

    def _start_switch(self):
        self.switch.start()
        self.a.reconnect()
        self.b.reconnect()


@pytest.fixture(scope="module")
def lab_of(tmp_path_factory):
    """lab_of(role, mergeable): one at a time, kept while the next test wants the same."""
    labs = []

    def get(role, mergeable):
        if labs and (labs[0].role, labs[0].mergeable) != (role, mergeable):
            labs.pop().close()
        if not labs:
            labs.append(Lab(role, mergeable, tmp_path_factory.mktemp("lab")))
        return labs[0]

    yield get
    for lab in labs:
        lab.close()


ROLES = pytest.mark.parametrize("role", ["listen", "connect"])
EVENTS = (Lab.restart_ports, Lab.reattach_ports, Lab.restart_testpmd, Lab.restart_switch, Lab.kill_switch)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", kinds(False) + kinds(True), ids=str)
@ROLES
def test_cell(lab_of, role, kind, size):
    lab = lab_of(role, kind.mergeable)
    lab.check_kind(kind)
    lab.exchange(kind, size)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
@pytest.mark.parametrize("mergeable", [True, False], ids=["mergeable", "single"])
@ROLES
def test_all_kinds_go_on_after(lab_of, role, mergeable, event):
    lab = lab_of(role, mergeable)
    event(lab)
    lab.exchange_all()
