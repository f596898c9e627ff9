# SPDX-License-Identifier: Apache-2.0
"""What drives the switches: our own load generator, and as an independent witness DPDK's virtio-user."""

import json
import os
import time

from peers import Console, testpmd
from processes import CLIENT_CPU, SWITCH_CPU, Failed, Process


def load_command(build, mode, peer):
    scenario = peer.scenario
    command = [build / "tests/bench/load", mode, "--cpu", CLIENT_CPU, "--size", scenario.size]
    command += ["--pairs", scenario.pairs, "--flight", scenario.flight, "--ring", scenario.ring]
    required = ["packed"] * scenario.packed + ["mergeable"] * bool(scenario.piece)
    if required:
        command += ["--require", ",".join(required)]
    if scenario.gso:
        command += ["--gso", scenario.gso]
    if scenario.piece:
        command += ["--piece", scenario.piece]
    if not peer.listens:
        command += ["--listen"]
    return command + [word for socket in peer.sockets for word in ("--socket", socket)]


class Load:
    """`load rate` that runs until its end, and reports when asked."""

    def __init__(self, peer, *more):
        command = load_command(peer.build, "rate", peer)
        self.process = Process(peer.directory, "load", [*command, "--marks", *more])

    def __enter__(self):
        try:
            self.process.line(30)  # it is ready
        except BaseException:
            self.process.stop()
            raise
        return self

    def __exit__(self, *_):
        self.process.stop()

    def mark(self):
        """What has happened since the last mark."""
        self.process.say("mark")
        return json.loads(self.process.line(10))


def load_once(build, directory, mode, seconds, *more, peer=None):
    """Run a mode that ends by itself; its report."""
    if peer:
        command = load_command(build, mode, peer)
    else:
        command = [build / "tests/bench/load", mode, "--cpu", CLIENT_CPU, "--peer-cpu", SWITCH_CPU]
    process = Process(directory, "load", [*command, "--seconds", seconds, *more])
    try:
        return json.loads(process.line(seconds + 30))
    finally:
        process.stop()


class VirtioUser:
    """testpmd with two virtio-user ports that sends back what it gets, with the partner's address."""

    BURSTS = 32  # of 32 frames, from each port

    def __init__(self, peer):
        macs = [f"52:54:00:00:be:0{i}" for i in "ab"]
        devices = [
            f"net_virtio_user{i},path={path},queue_size=1024,mac={macs[i]},packed_vq=0,in_order=0"
            for i, path in enumerate(peer.sockets)
        ]
        arguments = ["--forward-mode=mac", f"--txpkts={peer.scenario.size}"]
        arguments += [f"--eth-peer={i},{macs[1 - i]}" for i in range(2)]
        prefix = f"client{os.getpid()}"
        self.process = Process(peer.directory, "client", testpmd(devices, CLIENT_CPU, prefix, arguments), to_file=True)

    def __enter__(self):
        try:
            self.console = Console(self.process)
            self.console.say(f"start tx_first {self.BURSTS}", "packet forwarding - .*testpmd> ")
            self.marked = self.received()
        except BaseException:
            self.process.stop()
            raise
        return self

    def __exit__(self, *_):
        self.process.stop()

    def received(self):
        total = 0
        for port in range(2):
            said = self.console.say(f"show port stats {port}", rf"port {port} .*?RX-packets: (\d+).*?testpmd> ")
            total += int(said[1])
        return total, time.monotonic()

    def mark(self):
        then, self.marked = self.marked, self.received()
        frames, seconds = self.marked[0] - then[0], self.marked[1] - then[1]
        if frames == 0:
            raise Failed("no frame came round")
        return {"frames": frames, "seconds": seconds, "fps": frames / seconds}
