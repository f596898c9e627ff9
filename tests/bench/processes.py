# SPDX-License-Identifier: Apache-2.0
"""Processes of a measurement: where they run, what they cost, and how they end."""

import os
import select
import subprocess
import time
from pathlib import Path

CLIENT_CPU, SWITCH_CPU = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))


class Failed(Exception):
    """A peer or a client did not do what it should; the text says why."""


class Process:
    """A program with its standard output as lines (or in a file), ended and waited for by stop()."""

    def __init__(self, directory, name, command, *, to_file=False):
        self.name = name
        self.log = directory / f"{name}.log"
        self.out = directory / f"{name}.out"
        log = open(self.log, "w")
        try:
            self.popen = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.PIPE, stderr=log, cwd=directory,
                stdout=open(self.out, "w") if to_file else subprocess.PIPE,
            )
        except OSError as e:
            raise Failed(f"{command[0]}: {e.strerror}") from e
        self.pid = self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def say(self, line=""):
        try:
            self.popen.stdin.write(line.encode() + b"\n")
            self.popen.stdin.flush()
        except BrokenPipeError:
            raise Failed(self.last_words()) from None

    def line(self, seconds):
        """The next line it prints."""
        ready, _, _ = select.select([self.popen.stdout], [], [], seconds)
        text = self.popen.stdout.readline().decode() if ready else ""
        if not text:
            raise Failed(self.last_words() if ready else f"{self.name} said nothing for {seconds} s")
        return text

    def last_words(self):
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            return f"{self.name} does not answer"
        text = self.log.read_text(errors="replace").strip()
        return text.splitlines()[-1] if text else f"{self.name} ended with {self.popen.returncode}"

    def stop(self):
        if self.alive():
            self.popen.terminate()
        try:
            self.popen.wait(3)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def wait_for(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds} s for {what}")
        time.sleep(0.02)


def cpu_seconds(pid):
    """CPU time of all its threads, to the nanosecond."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except (OSError, IndexError):  # a thread that ended, or a kernel without these counters
            pass
    return total / 1e9


def private_bytes(pid):
    """Memory that is its own: not the guests', which they share."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(fields[name].split()[0]) << 10 for name in ("Private_Clean", "Private_Dirty"))
