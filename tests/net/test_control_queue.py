# SPDX-License-Identifier: Apache-2.0
"""The control queue of virtio-net (virtio 1.2, 5.1.6.5), which crosvm forwards to the back end."""

import struct

import frames as F
import pytest
import vhost_user as vu
from guest import PROTOCOL, Guest
from lan import exchange
from vring import NEXT, WRITE, Ring
from wait import wait_until

A, B = F.mac(1), F.mac(2)
OK, ERR = b"\0", b"\1"
RX, MAC, ANNOUNCE, MQ = 0, 1, 3, 4


class Crosvm(Guest):
    """A guest of two pairs whose control queue is ring 4."""

    def __init__(self, path, **kwargs):
        super().__init__(
            path, pairs=2, also=vu.NET_F_CTRL_VQ, protocol=PROTOCOL | vu.PF_CONFIG, layout=4 << 20, **kwargs
        )
        self.control = Ring(self.memory, 16)
        self.rings.append(self.control)
        self.scratch = self.memory.alloc(8192)

    def up_with_control(self):
        self.up()
        self.vring_state(vu.SET_VRING_ENABLE, 4, 1)
        self.start_ring(4)
        return self

    def offer_command(self, *pieces, answer_flags=WRITE):
        """Readable @pieces, then a byte for the answer."""
        ring, gpa = self.control, self.scratch
        for i, piece in enumerate(pieces):
            self.memory.write(gpa, piece)
            ring.write_desc(i, gpa, len(piece), NEXT, i + 1)
            gpa += len(piece)
        self.memory.write(gpa, b"\xff")
        ring.write_desc(len(pieces), gpa, 1, answer_flags)
        ring.offer(0)
        ring.publish()
        return gpa

    def command(self, *pieces):
        """Send it and wait for the interrupt; the answer."""
        ring = self.control
        ring.interrupted()
        ring.interrupts_on()
        at = self.offer_command(*pieces)
        wait_until(ring.interrupted, "the answer's interrupt")
        assert ring.ready() == 1
        assert (ring.used32[1 + 2 * (ring.last_used % 16)], ring.used32[2 + 2 * (ring.last_used % 16)]) == (0, 1)
        ring.last_used += 1
        ring.order.clear()
        return self.memory.read(at, 1)


@pytest.fixture
def crosvm(switch):
    with Crosvm(switch.add("vm1", front_end="crosvm", queues=2)["socket"]) as guest:
        guest.up_with_control()
        switch.wait_state("vm1", "up")
        yield guest


def head(class_, command):
    return bytes([class_, command])


def test_all_rings_are_counted(crosvm):
    assert crosvm.queue_num() == 5


def test_the_guest_chooses_its_number_of_pairs(switch, crosvm, attach):
    """Fewer pairs: frames go to those only; transmit queues of the others stay served."""
    other = attach("vm2")
    frames = [F.sized(B, A, 200 + i) for i in range(64)]
    for pairs in (1, 2, 1):
        assert crosvm.command(head(MQ, 0), struct.pack("<H", pairs)) == OK
        assert switch.port("vm1")["detail"]["queue_pairs"] == f"{pairs} of 2"
        exchange(crosvm, [], [other], A)
        other.send(frames)
        got = crosvm.recv_pairs(len(frames))
        assert sorted(f for _, f in got) == sorted(frames)
        assert {pair for pair, _ in got} <= set(range(pairs))


@pytest.mark.parametrize(
    "command,answer",
    [
        ((head(MQ, 0), struct.pack("<H", 0)), ERR),
        ((head(MQ, 0), struct.pack("<H", 3)), ERR),
        ((head(MQ, 0), b"\1"), ERR),
        ((head(MQ, 1), struct.pack("<H", 1)), ERR),
        ((head(RX, 0), b"\1"), OK),
        ((head(RX, 5), b"\0"), OK),
        ((head(RX, 6), b"\1"), ERR),
        ((head(RX, 0), b"\2"), ERR),
        ((head(RX, 0), b"\1\1"), ERR),
        ((head(MAC, 0), struct.pack("<I", 1) + bytes(6), struct.pack("<I", 0)), OK),
        ((head(MAC, 0), struct.pack("<I", 0), struct.pack("<I", 100) + bytes(600)), OK),
        ((head(MAC, 0), struct.pack("<I", 0xFFFFFFFF), struct.pack("<I", 0)), ERR),
        ((head(MAC, 0), struct.pack("<I", 1) + bytes(5)), ERR),
        ((head(ANNOUNCE, 0),), OK),
        ((head(9, 9),), ERR),
        ((bytes([RX]), bytes([0]), b"\1"), OK),  # in crumbs
        ((b"\0",), ERR),
        ((bytes(6000),), ERR),
    ],
)
def test_commands_and_their_answers(crosvm, command, answer):
    assert crosvm.command(*command) == answer
    assert crosvm.command(head(RX, 0), b"\0") == OK, "the queue goes on"


@pytest.mark.parametrize(
    "crime,reason",
    [
        (lambda g: g.offer_command(head(RX, 0), b"\1", answer_flags=0), "wrong direction"),
        (lambda g: (g.control.offer(99), g.control.publish()), "outside the table"),
        (lambda g: (g.control.write_desc(0, 1 << 50, 2, NEXT, 1), g.control.offer(0), g.control.publish()), "memory"),
    ],
    ids=["no_place_for_the_answer", "head_outside", "unmapped"],
)
def test_a_malformed_control_queue(switch, crosvm, crime, reason):
    crime(crosvm)
    port = switch.wait_state("vm1", "broken")
    assert port["reason"].startswith("control queue 0: ") and reason in port["reason"]
    assert crosvm.closed()
