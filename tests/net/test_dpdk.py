# SPDX-License-Identifier: Apache-2.0
"""DPDK's virtio-user as the guest, beside the matrix of its data paths: under load, with several queues, killed."""

import contextlib

import frames as F
import pytest
from testpmd import Testpmd
from wait import wait_until

NAMES = ("d0", "d1")


def add_ports(switch, tmp_path):
    paths = [str(tmp_path / f"{name}.sock") for name in NAMES]
    for name, path in zip(NAMES, paths):
        switch.add(name, socket=path, queues=2)
    return paths


@contextlib.contextmanager
def launch(switch, paths, tmp_path, mode, *arguments, **options):
    """A testpmd on both ports, which forwards in @mode. @options: of its devices."""
    devices = [{"path": path, **options} for path in paths]
    with Testpmd(devices, tmp_path, "--total-num-mbufs=4096", *arguments) as testpmd:
        testpmd.say(f"set fwd {mode}", f"Set {mode}")
        testpmd.say("set eth-peer 0 52:00:00:00:0d:01", "testpmd> ")
        testpmd.say("set eth-peer 1 52:00:00:00:0d:00", "testpmd> ")
        for name in NAMES:
            switch.wait_state(name, "up")
        testpmd.start()
        yield testpmd


def test_frames_are_forwarded_and_counted(switch, tmp_path):
    """testpmd receives on one port what it has sent on the other, and sends it back: a few frames, going round."""
    paths = add_ports(switch, tmp_path)
    with launch(switch, paths, tmp_path, "txonly") as testpmd:
        wait_until(lambda: switch.counters("d0")["rx_frames"] > 20000, "frames to flow", 60)
        testpmd.stop()
        sent = {i: testpmd.counted(i)[1] for i in (0, 1)}
        for i, name in enumerate(NAMES):
            wait_until(lambda: switch.counters(name)["rx_frames"] == sent[i], f"all {sent[i]} frames sent by {i}")
        assert switch.drops("d0").keys() | switch.drops("d1").keys() <= {"queue_full", "same_port"}
    for name in NAMES:
        switch.wait_state(name, "waiting")
        assert switch.port(name)["reason"] == ""


@pytest.mark.parametrize("options", [{"queues": 2}, {"queue_size": 1024}], ids=["queues=2", "queue_size=1024"])
def test_every_frame_that_goes_through_testpmd_comes_back(switch, attach, tmp_path, options):
    """Our own guest sends to testpmd's first port; testpmd passes it on to its second, behind which a third port hears
    it: every byte through two drivers and twice through the switch."""
    paths = add_ports(switch, tmp_path)
    switch.set("d0", vlan=10)
    switch.set("d1", vlan=20)
    a, b = attach("vm1", {"vlan": 10}), attach("vm2", {"vlan": 20})
    src, dst = F.mac(1), F.mac(2)
    queues = ("--rxq=2", "--txq=2") if "queues" in options else ()
    with launch(switch, paths, tmp_path, "io", *queues, mrg_rxbuf=1, **options) as testpmd:
        for size in range(60, 1515, 50):
            frames = [F.sized(src, dst, size, i) for i in range(16)]
            a.send(frames)
            assert sorted(b.recv(16, 60)) == sorted(frames)
        frame = F.sized(dst, src, 700)
        b.send([frame])
        assert a.recv(1, 60) == [frame]
        for i, name in enumerate(NAMES):
            counters = switch.counters(name)
            assert testpmd.counted(i) == (counters["tx_frames"], counters["rx_frames"])


def test_a_testpmd_that_is_killed(switch, attach, tmp_path):
    a, b = attach("vm1"), attach("vm2")
    paths = add_ports(switch, tmp_path)
    with launch(switch, paths, tmp_path, "txonly") as testpmd:
        wait_until(lambda: switch.counters("d0")["rx_frames"] > 1000, "frames to flow", 60)
        testpmd.process.kill()
        testpmd.process.wait()
    for name in NAMES:
        switch.wait_state(name, "waiting")
    frame = F.sized(F.mac(1), F.BROADCAST, 100)
    a.pending()
    b.pending()
    a.send([frame])
    wait_until(lambda: frame in b.pending(), "the others to go on")
