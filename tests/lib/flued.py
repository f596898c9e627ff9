# SPDX-License-Identifier: Apache-2.0
"""One running flued: start, talk to, look into, stop.

    with Flued() as switch:
        switch.add("vm1", vlan=10)
        switch.port("vm1")["state"]

The binaries come from $FLUE_BUILD, or from build/ beside tests/. A run ends with stop(), which demands exit status 0
and a log without a sanitizer's report; kill9() and crashed runs are told apart from that by the test.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import yaml

from wait import wait_until

BUILD = Path(os.environ.get("FLUE_BUILD") or Path(__file__).resolve().parents[2] / "build").resolve()
SANITIZER_REPORT = re.compile(r"(Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer|runtime error:")


def sanitized():
    """Is this a build with a sanitizer (slower, larger)?"""
    options = json.loads((BUILD / "meson-info/intro-buildoptions.json").read_text())
    return next(o["value"] for o in options if o["name"] == "b_sanitize") not in ("none", [])


class ApiError(Exception):
    """flued refused a request: status, and what its body says."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        error = body.get("error", {}) if isinstance(body, dict) else {}
        self.status = status
        self.body = body
        self.field = error.get("field")
        self.message = error.get("message")
        self.remedy = error.get("remedy")


class UnixHTTPConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=10):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Flued:
    live = []  # for the log of a failed test

    def __init__(self, config=None, *, args=(), start=True, env=None):
        """@config: a dict, written as YAML; or text, written as it is; or None for no file."""
        self.run_dir = Path(tempfile.mkdtemp(prefix="flue-"))
        self.api_path = str(self.run_dir / "api.sock")
        self.log_path = self.run_dir / "flued.log"
        self.config_path = None
        self.args = list(args)
        self.env = env or {}
        self.process = None
        if config is not None:
            self.config_path = self.run_dir / "flue.yaml"
            self.config_path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
        if start:
            try:
                self.start()
            except BaseException:
                shutil.rmtree(self.run_dir, ignore_errors=True)
                raise

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close(check=kind is None)

    # -- life --

    def spawn(self):
        """Start the program without waiting until it serves."""
        command = [str(BUILD / "src/main/flued"), "--run-dir", str(self.run_dir)]
        if self.config_path:
            command += ["--config", str(self.config_path)]
        environment = dict(os.environ)
        environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        environment.setdefault("ASAN_OPTIONS", "detect_stack_use_after_return=0")
        environment.update(self.env)
        with open(self.log_path, "ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                command + self.args, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True,  # Ctrl-C is for whoever runs it
            )
        Flued.live.append(self)

    def start(self):
        self.spawn()
        wait_until(lambda: self.process.poll() is not None or self.ready(), "flued to be ready")
        if self.process.poll() is not None:
            Flued.live.remove(self)
            raise AssertionError(f"flued ended with {self.process.returncode} at start:\n{self.log()}")

    def ready(self):
        return f"ready, api {self.api_path}" in self.log()

    def wait_exit(self, timeout_s=20):
        status = self.process.wait(timeout_s)
        if self in Flued.live:
            Flued.live.remove(self)
        return status

    def stop(self):
        """End it in order; fails if it ends badly, late, or said something that only a sanitizer says."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.wait_exit()
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"flued does not end when it is told to:\n{self.log()}") from None
        self.stop_s = time.monotonic() - began
        self.assert_clean()
        assert status == 0, f"flued ended with status {status}:\n{self.log()}"

    def kill9(self):
        self.process.kill()
        self.wait_exit()

    def restart(self):
        self.stop()
        self.start()

    def close(self, check=True):
        """What a fixture calls at the end: stop whatever runs and remove the files."""
        try:
            if self.process and self.process.poll() is None:
                if check:
                    self.stop()
                else:
                    self.kill9()
            elif self in Flued.live:
                Flued.live.remove(self)
                raise AssertionError(f"flued ended by itself with status {self.process.returncode}:\n{self.log()}")
        finally:
            shutil.rmtree(self.run_dir, ignore_errors=True)

    def assert_clean(self):
        report = SANITIZER_REPORT.search(self.log())
        assert not report, f"a sanitizer complained:\n{self.log()}"

    def log(self):
        """What it wrote since it was last started."""
        with open(self.log_path, "rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    # -- API and command line --

    def request(self, method, path, body=None, headers=None):
        """One raw request: (status, headers, body as bytes)."""
        connection = UnixHTTPConnection(self.api_path)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def api(self, method, path, body=None):
        """A request and its answer as Python values; ApiError if it was refused."""
        data = None if body is None else json.dumps(body)
        status, _, answer = self.request(method, path, data, {"Content-Type": "application/json"})
        value = json.loads(answer) if answer else None
        if status >= 400:
            raise ApiError(status, value)
        return value

    def metrics(self):
        status, _, body = self.request("GET", "/metrics")
        assert status == 200
        return body.decode()

    def cli(self, *args, check=True):
        """Run flue; its CompletedProcess. @check: it must succeed."""
        done = subprocess.run(
            [str(BUILD / "cli/flue"), "--api", self.api_path, *args],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"flue {' '.join(args)}: {done.returncode}\n{done.stderr}"
        return done

    def status(self):
        return self.api("GET", "/v1/status")

    def port(self, name):
        return self.api("GET", f"/v1/ports/{name}")

    def add(self, name, **conf):
        return self.api("POST", "/v1/ports", {"name": name, **conf})

    def set(self, name, **conf):
        return self.api("PATCH", f"/v1/ports/{name}", conf)

    def delete(self, name):
        return self.api("DELETE", f"/v1/ports/{name}")

    def socket_of(self, name):
        return self.port(name)["socket"]

    def counters(self, name):
        return self.port(name)["counters"]

    def drops(self, name):
        """Reasons and numbers, nonzero ones only."""
        return self.port(name)["drops"]

    def fdb(self):
        """{(mac, vlan): entry}"""
        return {(e["mac"], e["vlan"]): e for e in self.api("GET", "/v1/fdb")["entries"]}

    def flush_fdb(self):
        return self.api("DELETE", "/v1/fdb")["flushed"]

    def wait_state(self, name, state):
        def arrived():
            port = self.port(name)
            return port if port["state"] == state else None

        try:
            return wait_until(arrived, f"port {name} to be {state}")
        except AssertionError as e:
            raise AssertionError(f"{e}; it is {self.port(name)}") from None

    def wait_drops(self, name, **reasons):
        """Wait until exactly these drops are counted at @name."""
        try:
            return wait_until(lambda: self.drops(name) == reasons, f"drops {reasons} at {name}")
        except AssertionError as e:
            raise AssertionError(f"{e}; it counts {self.drops(name)}") from None

    # -- what it uses --

    @property
    def pid(self):
        return self.process.pid

    def proc(self, name):
        return Path(f"/proc/{self.pid}/{name}").read_text()

    def fds(self):
        """Open descriptors: {number: what}."""
        found = {}
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                found[int(entry.name)] = os.readlink(entry)
            except FileNotFoundError:
                pass
        return found

    def n_fds(self):
        """How many it has open, without API connections that are just being closed."""
        counts = []
        for _ in range(5):
            counts.append(len(self.fds()))
            time.sleep(0.004)
        return min(counts)

    def wait_fds(self, n):
        """Wait until it has no more than @n open."""
        wait_until(lambda: len(self.fds()) <= n, f"descriptors to be closed, down to {n}: {self.fds()}")

    def rss_bytes(self):
        return int(re.search(r"VmRSS:\s+(\d+) kB", self.proc("status"))[1]) * 1024

    def own_rss_bytes(self, guest_memory="/memfd:"):
        """Resident memory without what belongs to guests (mappings of files named @guest_memory...)."""
        total, mine = 0, True
        for line in self.proc("smaps").splitlines():
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                mine = guest_memory not in line
            elif line.startswith("Rss:") and mine:
                total += int(line.split()[1]) * 1024
        return total

    def maps(self, name="/memfd:"):
        """Mappings of files whose name contains @name."""
        return [line for line in self.proc("maps").splitlines() if name in line]

    def cpu_s(self):
        """CPU time of all its threads."""
        return time.clock_gettime(~self.pid << 3 | 2)  # the process's CPU clock, see clock_getcpuclockid(3)
