# SPDX-License-Identifier: Apache-2.0
"""DPDK's virtio-user as the guest: a second implementation of the driver's side, in both roles.

One dpdk-testpmd with two virtio-user ports sends frames into one port of the switch and counts them at the other.
"""

import os
import re
import subprocess

import frames as F
import pytest
from wait import wait_until


class Pmd:
    """@paths: of the two sockets; @server: it listens there; @options: of both devices; @arguments: of testpmd."""

    def __init__(self, paths, tmp_path, *arguments, server=False, options=""):
        devices = []
        for i, path in enumerate(paths):
            device = f"net_virtio_user{i},path={path},mac=52:00:00:00:0d:{i:02x},packed_vq=0,in_order=0{options}"
            devices += ["--vdev", device + (",server=1" if server else "")]
        command = [
            "stdbuf", "-oL", "dpdk-testpmd", "--no-huge", "-m", "256", "--no-pci", "--no-telemetry",
            "--single-file-segments", "--lcores", "0@0,1@0", *devices,
            "--", "-i", "--total-num-mbufs=4096", "--no-mlockall", "--nb-cores=1", *arguments,
        ]  # fmt: skip
        self.log = tmp_path / "testpmd.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=tmp_path,
                env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)},
            )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def text(self):
        return self.log.read_text(errors="replace")

    def say(self, line, answer, timeout_s=60):
        """Type a line and wait until the pattern @answer has come since; its match."""
        before = len(self.text())
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

        def answered():
            assert self.process.poll() is None, f"testpmd ended:\n{self.text()}"
            return re.search(answer, self.text()[before:], re.S)

        return wait_until(answered, f"testpmd to answer {line!r}", timeout_s)

    def ready(self):
        wait_until(lambda: self.process.poll() is not None or "testpmd> " in self.text(), "testpmd to start", 60)
        assert self.process.poll() is None, f"testpmd ended:\n{self.text()}"

    def start(self):
        """Forward. It throws away what it finds before it begins, and prompts when it has begun."""
        self.say("start", "packet forwarding - .*testpmd> ")

    def counted(self, port):
        """(received, sent) frames of one of its ports."""
        got = self.say(f"show port stats {port}", rf"port {port} .*?RX-packets: (\d+).*?TX-packets: (\d+)")
        return int(got[1]), int(got[2])


def add_ports(switch, tmp_path, role):
    paths = [str(tmp_path / f"{name}.sock") for name in ("d0", "d1")]
    for name, path in zip(("d0", "d1"), paths):
        switch.add(name, socket=path, role=role, queues=2)
    return paths


@pytest.mark.parametrize("mrg_rxbuf", [0, 1])
@pytest.mark.parametrize("role", ["listen", "connect"])
def test_frames_are_forwarded_and_counted(switch, attach, tmp_path, role, mrg_rxbuf):
    """testpmd receives on one port what it has sent on the other, and sends it back: a few frames, going round."""
    paths = add_ports(switch, tmp_path, role)
    with Pmd(paths, tmp_path, server=role == "connect", options=f",mrg_rxbuf={mrg_rxbuf}") as testpmd:
        testpmd.ready()
        testpmd.say("set fwd txonly", "Set txonly")
        testpmd.say("set eth-peer 0 52:00:00:00:0d:01", "testpmd> ")
        testpmd.say("set eth-peer 1 52:00:00:00:0d:00", "testpmd> ")
        for name in ("d0", "d1"):
            switch.wait_state(name, "up")
        testpmd.start()
        wait_until(lambda: switch.counters("d0")["rx_frames"] > 20000, "frames to flow", 60)
        testpmd.say("stop", "Done")
        sent = {i: testpmd.counted(i)[1] for i in (0, 1)}
        for i, name in enumerate(("d0", "d1")):
            wait_until(lambda: switch.counters(name)["rx_frames"] == sent[i], f"all {sent[i]} frames sent by {i}")
        assert switch.drops("d0").keys() | switch.drops("d1").keys() <= {"queue_full", "same_port"}
    for name in ("d0", "d1"):
        switch.wait_state(name, "waiting")
        assert switch.port(name)["reason"] == ""


@pytest.mark.parametrize(
    "options", [",mrg_rxbuf=1,queues=2", ",mrg_rxbuf=0,vectorized=1", ",mrg_rxbuf=1,queue_size=1024"]
)
def test_every_frame_that_goes_through_testpmd_comes_back(switch, attach, tmp_path, options):
    """Our own guest sends to testpmd's first port; testpmd passes it on to its second, behind which a third port hears
    it: every byte through two drivers and twice through the switch."""
    paths = add_ports(switch, tmp_path, "listen")
    switch.set("d0", vlan=10)
    switch.set("d1", vlan=20)
    a, b = attach("vm1", {"vlan": 10}), attach("vm2", {"vlan": 20})
    src, dst = F.mac(1), F.mac(2)
    queues = ("--rxq=2", "--txq=2") if "queues=2" in options else ()
    with Pmd(paths, tmp_path, *queues, options=options) as testpmd:
        testpmd.ready()
        testpmd.say("set fwd io", "Set io")
        for name in ("d0", "d1"):
            switch.wait_state(name, "up")
        testpmd.start()
        for size in range(60, 1515, 50):
            frames = [F.sized(src, dst, size, i) for i in range(16)]
            a.send(frames)
            assert sorted(b.recv(16, 60)) == sorted(frames)
        frame = F.sized(dst, src, 700)
        b.send([frame])
        assert a.recv(1, 60) == [frame]
        for i, name in enumerate(("d0", "d1")):
            counters = switch.counters(name)
            assert testpmd.counted(i) == (counters["tx_frames"], counters["rx_frames"])


def test_testpmd_comes_and_goes(switch, attach, tmp_path):
    """The connecting role finds each new one."""
    paths = add_ports(switch, tmp_path, "connect")
    fds = None
    for _ in range(3):
        with Pmd(paths, tmp_path, server=True) as testpmd:
            testpmd.ready()
            for name in ("d0", "d1"):
                switch.wait_state(name, "up")
        for name in ("d0", "d1"):
            switch.wait_state(name, "waiting")
        fds = fds or switch.n_fds()
        switch.wait_fds(fds)


def test_a_testpmd_that_is_killed(switch, attach, tmp_path):
    a, b = attach("vm1"), attach("vm2")
    paths = add_ports(switch, tmp_path, "listen")
    with Pmd(paths, tmp_path) as testpmd:
        testpmd.ready()
        for name in ("d0", "d1"):
            switch.wait_state(name, "up")
        testpmd.say("set fwd txonly", "Set txonly")
        testpmd.start()
        wait_until(lambda: switch.counters("d0")["rx_frames"] > 1000, "frames to flow", 60)
        testpmd.process.kill()
        testpmd.process.wait()
    for name in ("d0", "d1"):
        switch.wait_state(name, "waiting")
    frame = F.sized(F.mac(1), F.BROADCAST, 100)
    a.pending()
    b.pending()
    a.send([frame])
    wait_until(lambda: frame in b.pending(), "the others to go on")
