# SPDX-License-Identifier: Apache-2.0
"""One dpdk-testpmd whose ports are virtio-user devices: DPDK's driver as the guest.

    with Testpmd([{"path": path, "packed_vq": 1}, ...], tmp_path) as testpmd:
        testpmd.start()

The number of a port is the place of its device in the list.
"""

import os
import re
import subprocess

from wait import wait_until


def vdev(i, device):
    """The name and the arguments of one device, as EAL and `port attach` take them. What is not said is off."""
    told = {"mac": f"52:00:00:00:0d:{i:02x}", "packed_vq": 0, "in_order": 0, **device}
    return f"net_virtio_user{i}," + ",".join(f"{key}={value}" for key, value in told.items())


class Testpmd:
    """@devices: arguments of each virtio-user device. @arguments: of testpmd itself."""

    __test__ = False  # for pytest, which likes the name

    def __init__(self, devices, tmp_path, *arguments):
        vdevs = [word for i, device in enumerate(devices) for word in ("--vdev", vdev(i, device))]
        command = [
            "stdbuf", "-oL", "dpdk-testpmd", "--no-huge", "-m", "256", "--no-pci", "--no-telemetry",
            "--single-file-segments", "--lcores", "0@0,1@0", "--force-max-simd-bitwidth=512",
            "--log-level=pmd.net.virtio.*:info", *vdevs,
            "--", "-i", "--no-mlockall", "--nb-cores=1", *arguments,
        ]  # fmt: skip
        self.log = tmp_path / "testpmd.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=tmp_path,
                env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)},
            )  # fmt: skip

    def __enter__(self):
        """When it has started."""
        try:
            self.wait_text("testpmd> ", "testpmd to start")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """At the end of its input it takes its leave."""
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def text(self):
        return self.log.read_text(errors="replace")

    def wait_text(self, pattern, what, since=0, timeout_s=60):
        """Wait until @pattern is in its log behind the first @since characters; the match."""

        def said():
            assert self.process.poll() is None, "testpmd has ended"
            return re.search(pattern, self.text()[since:], re.S)

        try:
            return wait_until(said, what, timeout_s)
        except AssertionError as e:
            raise AssertionError(f"{e}; its log ends with:\n{self.text()[-4000:]}") from None

    def say(self, line, answer):
        """Type a line and wait until the pattern @answer has come since; its match."""
        before = len(self.text())
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return self.wait_text(answer, f"testpmd to answer {line!r}", before)

    def start(self):
        """Forward. It throws away what it finds before it begins, and prompts when it has begun."""
        self.say("start", "packet forwarding - .*testpmd> ")

    def stop(self):
        self.say("stop", "Done")

    def counted(self, port):
        """(received, sent) frames of one of its ports."""
        got = self.say(f"show port stats {port}", rf"port {port} .*?RX-packets: (\d+).*?TX-packets: (\d+)")
        return int(got[1]), int(got[2])

    def datapath(self, port, direction):
        """The function its driver chose, in its own words: "packed ring vectorized"."""
        return re.findall(rf"virtio: using (.*) {direction} path on port {port}\b", self.text())[-1]
