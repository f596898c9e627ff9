# SPDX-License-Identifier: Apache-2.0
"""The switches that are measured. Each is started for a scenario, offers a socket for each port, and tells what it has
spent: frames, and the cycles of its polls that found some ("busy"), both since it started.

A Peer raises Failed when it cannot do what is asked; the run goes on without it.
"""

import json
import re
import shutil
import subprocess
import time

from processes import SWITCH_CPU, Failed, Process, cpu_seconds, private_bytes, wait_for


class Peer:
    name = ""
    what = ""  # for readers of the results
    switches = True  # looks addresses up, or forwards blindly
    listens = True  # the client connects to its sockets; or it connects to the client's

    @classmethod
    def is_for(cls, scenario):
        """Is there something to learn from it? What it is asked and cannot do, it says (Failed)."""
        return True

    def __init__(self, build, directory, scenario):
        self.build, self.directory, self.scenario = build, directory, scenario
        self.sockets = [directory / f"p{i}.sock" for i in range(scenario.ports)]
        self.processes = []
        self.main = None  # the process that forwards

    def __enter__(self):
        try:
            self.start()
            wait_for(lambda: self.is_ready() or not self.main.alive(), f"{self.name}'s sockets")
            if not self.main.alive():
                raise Failed(self.main.last_words())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.stop()

    def is_ready(self):
        return not self.listens or all(s.exists() for s in self.sockets)

    def run(self, name, command, **how):
        self.processes.append(Process(self.directory, name, command, **how))
        return self.processes[-1]

    def cpu_s(self):
        return cpu_seconds(self.main.pid)

    def memory_bytes(self):
        return private_bytes(self.main.pid)

    def counters(self):
        """{"cpu_s", and if it can tell: "frames", "busy", "stages"}."""
        return {"cpu_s": self.cpu_s()} | self.own_counters()

    def own_counters(self):
        return {}


class Flue(Peer):
    name = "flue"
    what = "learning switch, one copy"

    def start(self):
        ports = "".join(
            f"  - {{name: p{i}, mtu: 65535, queues: {self.scenario.pairs}, socket: {path}}}\n"
            for i, path in enumerate(self.sockets)
        )
        config = self.directory / "flue.yaml"
        config.write_text(f"workers: {{cpus: [{SWITCH_CPU}]}}\nports:\n{ports}")
        self.main = self.run("flued", [self.build / "src/main/flued", "--run-dir", self.directory, "--config", config])

    def own_counters(self):
        command = [self.build / "cli/flue", "--api", self.directory / "api.sock", "--json", "stats", "--cycles"]
        answer = subprocess.run(command, capture_output=True, text=True)
        if answer.returncode != 0:
            return {}
        worker = json.loads(answer.stdout)["workers"][0]
        stages = worker["stages"]
        return {
            "frames": worker["frames"], "busy": sum(c for name, c in stages.items() if name != "empty"),
            "stages": stages, "worker_cpu_s": worker["cpu_s"], "hz": worker["hz"],
            "polled": sum(stages.values()),
        }  # fmt: skip


class Bare(Peer):
    name = "bare"
    what = "two rings, one copy, nothing else: the practical limit"
    switches = False

    def start(self):
        s = self.scenario
        if s.ports != 2 or s.pairs != 1 or s.packed or s.piece:
            raise Failed("the bare loop joins two ports with one queue pair, split rings and whole buffers")
        self.main = self.run("bare", [self.build / "tests/bench/bare", *self.sockets, SWITCH_CPU])

    def own_counters(self):
        self.main.say()
        answer = json.loads(self.main.line(5))
        return {"frames": answer["frames"], "busy": answer["busy_cycles"]}


def testpmd(devices, cpu, prefix, arguments, memory_mb=768, mbufs=32768):
    """Both its threads on one CPU: the one that forwards is busy, the other sleeps."""
    if not shutil.which("dpdk-testpmd"):
        raise Failed("dpdk-testpmd is not installed (devtools/deps bench)")
    command = ["stdbuf", "-oL", "dpdk-testpmd", "--no-huge", "-m", memory_mb, "--no-pci", "--no-telemetry"]
    command += ["--single-file-segments", "--file-prefix", prefix, "--lcores", f"0@{cpu},1@{cpu}"]
    command += [word for device in devices for word in ("--vdev", device)]
    command += ["--", "-i", f"--total-num-mbufs={mbufs}", "--no-mlockall", "--rxd=1024", "--txd=1024"]
    return command + ["--max-pkt-len=9018", "--no-lsc-interrupt", "--mbuf-size=9728", *arguments]


class Console:
    """testpmd's prompt, over a Process that writes to a file."""

    def __init__(self, process):
        self.process = process
        self.wait("testpmd> ", 0)

    def wait(self, pattern, since, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            text = self.process.out.read_text(errors="replace")
            if found := re.search(pattern, text[since:], re.S):
                return found
            if not self.process.alive():
                raise Failed(f"testpmd ended: {text.strip().splitlines()[-1] if text.strip() else ''}")
            time.sleep(0.02)
        raise Failed(f"testpmd did not say {pattern!r}")

    def say(self, line, answer):
        since = len(self.process.out.read_text(errors="replace"))
        self.process.say(line)
        return self.wait(answer, since)


class Testpmd(Peer):
    name = "testpmd"
    what = "DPDK's vhost driver, forwards blindly between two ports, two copies"
    switches = False

    def start(self):
        queues = self.scenario.pairs
        if self.scenario.ports > 32:
            raise Failed("the distribution's DPDK has 32 ports at most")
        devices = [f"net_vhost{i},iface={path},queues={queues}" for i, path in enumerate(self.sockets)]
        arguments = ["--forward-mode=io", "--record-core-cycles", f"--rxq={queues}", f"--txq={queues}"]
        prefix = f"peer-{self.directory.name}"
        self.main = self.run("testpmd", testpmd(devices, SWITCH_CPU, prefix, arguments), to_file=True)
        self.console = Console(self.main)
        self.console.say("start", "packet forwarding - .*testpmd> ")

    def own_counters(self):
        # Its "total cycles" are those of polls that received something.
        found = self.console.say("show fwd stats all", r"Accumulated forward.*?RX-packets: (\d+)(.*?)testpmd> ")
        cycles = re.search(r"total cycles=(\d+) / total \w+ packets=(\d+)", found[2])
        return {"frames": int(cycles[2]), "busy": int(cycles[1])} if cycles else {"frames": 0, "busy": 0}


class Ovs(Peer):
    name = "ovs-dpdk"
    what = "Open vSwitch with DPDK, L2 learning, two copies"
    vswitchd = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
    schema = "/usr/share/openvswitch/vswitch.ovsschema"
    more_options = {}

    def start(self):
        d = self.directory
        if not shutil.which(self.vswitchd):
            raise Failed("openvswitch-switch-dpdk is not installed (devtools/deps bench)")
        self.sockets = [d / f"p{i}" for i in range(self.scenario.ports)]
        self.tool("ovsdb-tool", "create", d / "conf.db", self.schema)
        command = ["ovsdb-server", d / "conf.db", f"--remote=punix:{d}/db.sock", f"--unixctl={d}/ovsdb.ctl"]
        self.run("ovsdb", command, to_file=True)
        wait_for((d / "db.sock").exists, "ovsdb-server")
        self.configure()
        command = ["env", f"OVS_RUNDIR={d}", f"OVS_LOGDIR={d}", self.vswitchd, f"unix:{d}/db.sock"]
        self.main = self.run("vswitchd", [*command, f"--unixctl={d}/vswitchd.ctl"], to_file=True)

    def tool(self, *command):
        answer = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=30)
        if answer.returncode != 0:
            raise Failed(f"{command[0]}: {answer.stderr.strip().splitlines()[-1]}")
        return answer.stdout

    def configure(self):
        mask = f"0x{1 << SWITCH_CPU:x}"
        extra = f"--no-huge --legacy-mem -m 1024 --no-pci --no-telemetry --file-prefix={self.directory.name}"
        options = {"dpdk-init": "true", "dpdk-extra": extra, "pmd-cpu-mask": mask, "dpdk-lcore-mask": mask}
        options |= self.more_options
        words = ["set", "Open_vSwitch", ".", *(f'other_config:{key}="{value}"' for key, value in options.items())]
        words += ["--", "add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=netdev"]
        for socket in self.sockets:
            words += ["--", "add-port", "br0", socket.name]
            words += ["--", "set", "Interface", socket.name, *self.interface(socket), "mtu_request=9000"]
        vsctl = ["ovs-vsctl", f"--db=unix:{self.directory}/db.sock", "--no-wait"]
        self.tool(*vsctl, "init")
        self.tool(*vsctl, *words)

    def interface(self, socket):
        return ["type=dpdkvhostuser"]

    def own_counters(self):
        text = self.tool("ovs-appctl", "-t", self.directory / "vswitchd.ctl", "dpif-netdev/pmd-stats-show")
        pmd = text.split("main thread:")[0]
        frames = re.search(r"packets received: (\d+)", pmd)
        busy = re.search(r"processing cycles: (\d+)", pmd)
        return {"frames": int(frames[1]), "busy": int(busy[1])} if frames and busy else {"frames": 0, "busy": 0}


class OvsTso(Ovs):
    name = "ovs-dpdk tso"
    what = "the same with userspace-tso-enable: takes super-frames from guests and gives them to guests"
    more_options = {"userspace-tso-enable": "true"}
    listens = False  # ports that listen offer no segmentation, whatever is enabled

    @classmethod
    def is_for(cls, scenario):
        return scenario.kind == "story"

    def interface(self, socket):
        return ["type=dpdkvhostuserclient", f"options:vhost-server-path={socket}"]


ALL = [Flue, Bare, Testpmd, Ovs, OvsTso]
