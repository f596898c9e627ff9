# SPDX-License-Identifier: Apache-2.0
"""A switch with well-behaved neighbours, and ports for guests that misbehave: fault containment (design D1)."""

import contextlib
import os

import frames as F
from flued import Flued
from guest import Guest
from traffic import Traffic
from wait import wait_until

BAD, B, C, D = (F.mac(i) for i in range(1, 5))
BAD_PORTS = 16  # used in turn: after a break flued makes the next front end wait a little


class Street:
    """Ports b and c talk to each other all the time; d hears floods and sends them; bad0, bad1, ... are for crime."""

    def __init__(self, stack):
        cpus = sorted(os.sched_getaffinity(0))[:2]
        self.switch = Flued({"workers": {"cpus": cpus}})  # two, so that the guilty and their neighbours meet
        stack.callback(self.switch.close)
        b, c, self.d = (stack.enter_context(Guest(self.switch.add(name)["socket"]).up()) for name in ("b", "c", "d"))
        self.bad = [f"bad{i}" for i in range(BAD_PORTS)]
        self.path = {name: self.switch.add(name, mtu=9000)["socket"] for name in self.bad}
        for name in ("b", "c", "d"):
            self.switch.wait_state(name, "up")
        self.traffic = Traffic(b, c, B, C)
        stack.callback(self.traffic.stop)
        self.traffic.flows_on()
        self.fds = self.switch.n_fds()
        self.maps = len(self.switch.maps())

    def next_port(self):
        self.bad.append(self.bad.pop(0))
        return self.bad[-1]

    def flood(self):
        """One broadcast, which reaches every guest that is up."""
        self.d.pending()
        self.d.send([F.sized(D, F.BROADCAST, 1000)])

    def hears(self, frame):
        """The third neighbour gets this frame."""
        wait_until(lambda: frame in self.d.pending(), "a frame from the port in question")

    def greet(self, guest):
        """Show that @guest is served: a frame from it, and one to it."""
        frame = F.sized(BAD, F.BROADCAST, 300)
        guest.send([frame])
        self.hears(frame)
        self.flood()
        wait_until(lambda: any(f[6:12] == F.mac_bytes(D) for f in guest.pending()), "a frame for the guest")
        guest.wait_tx()

    def assert_contained(self, name, reason):
        """The port is broken for this reason, all it had is released, the neighbours are well."""
        port = self.switch.wait_state(name, "broken")
        assert reason in port["reason"], f"the reason given: {port['reason']!r}"
        self.assert_released()
        self.traffic.flows_on()
        return port["reason"]

    def assert_released(self):
        self.switch.wait_fds(self.fds)
        wait_until(lambda: len(self.switch.maps()) == self.maps, "guest memory to be unmapped")

    def assert_heals(self, name):
        """The next connection starts clean; the reason is kept for whoever looks later."""
        reason = self.switch.port(name)["reason"]
        with Guest(self.path[name]).up() as guest:
            assert self.switch.wait_state(name, "up")["reason"] == reason
            self.greet(guest)
        self.switch.wait_state(name, "waiting")
        self.assert_released()

    def leave(self):
        """Every port heals, whatever happened to it."""
        for name in self.bad:
            self.assert_heals(name)
        self.traffic.flows_on()


@contextlib.contextmanager
def open_street():
    with contextlib.ExitStack() as stack:
        street = Street(stack)
        yield street
        street.leave()
