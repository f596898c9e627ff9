# SPDX-License-Identifier: Apache-2.0
"""flued killed under load, at any moment, and started again: every ring goes on exactly where it was.

Two front ends of tests/front send to each other, check every frame and outlive flued; one connects, the other waits for
flued's connection. Nothing may come twice, changed or out of order. Lost is at most what one worker had in its hands:
one batch in each direction, completed to its sender and not yet shown to the receiver. Nothing else is dropped, though
the switch comes back port by port.
"""

import json
import os
import random
import select
import subprocess
import time

import pytest
from flued import BUILD, sanitized

KILLS = 10 if sanitized() else 100
LATEST_S = 0.030  # a kill comes so long after frames flow again, at most
BATCH = 64  # FRAME_BATCH in src/port/frame.h
SMALL = ["--least", "60", "--most", "300"]
JUMBO = ["--least", "1515", "--most", "9014", "--piece", "2048", "--ring", "1024", "--mergeable"]
LOADS = {
    "split-small": SMALL,
    "split-jumbo": [*JUMBO, "--event-idx"],
    "packed-small": [*SMALL, "--packed", "--event-idx"],
    "packed-jumbo": [*JUMBO, "--packed"],
}


class Verify:
    """tests/front/verify: its events, one after the other."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [str(BUILD / "tests/front/verify"), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.unread = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def event(self, timeout_s=40):
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self.unread:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.process.stdout], [], [], left)[0], "verify says nothing any more"
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, f"verify ended with status {self.process.wait()}"
            self.unread += more
        line, _, self.unread = self.unread.partition(b"\n")
        return json.loads(line)

    def expect(self, name):
        event = self.event()
        assert event["event"] == name, f"not {name!r} but {event}"
        return event

    def end(self):
        self.process.stdin.close()
        return self.expect("end")


def judge(event):
    """What is wrong with an interval. A loss shows when frames flow again: in the interval after the kill."""
    wrong = []
    for flow in event["flows"]:
        wrong += [f"{flow[key]} {key}" for key in ("duplicates", "reordered", "corrupt", "dropped") if flow[key]]
        if flow["lost"] > BATCH:
            wrong.append(f"{flow['lost']} lost")
    return f"interval {event['interval']}: {', '.join(wrong)}: {event['flows']}" if wrong else None


def ports(tmp_path):
    return [
        {"name": role, "socket": str(tmp_path / f"{role}.sock"), "role": role, "mtu": 9000}
        for role in ("listen", "connect")
    ]


@pytest.mark.parametrize("load", LOADS)
def test_every_ring_goes_on_after_a_kill(start_flued, tmp_path, load):
    seed = int(os.environ.get("FLUE_SEED") or random.randrange(1 << 32))
    print(f"again with FLUE_SEED={seed}")
    chance = random.Random(seed)
    sockets = ports(tmp_path)
    switch = start_flued({"ports": sockets})
    # flued's role is the opposite of verify's
    with Verify("--connect", sockets[0]["socket"], "--listen", sockets[1]["socket"], *LOADS[load]) as verify:
        events = []
        for _ in range(KILLS):
            verify.expect("flowing")
            time.sleep(chance.uniform(0, LATEST_S))
            switch.kill9()
            events.append(verify.expect("down"))
            switch.start()
        verify.expect("flowing")
        events.append(verify.end())
    lost = [flow["lost"] for event in events for flow in event["flows"]]
    print(f"{sum(lost)} frames lost by {KILLS} kills, {max(lost)} at most in one direction")
    wrong = [text for text in map(judge, events) if text]
    assert not wrong, f"{len(wrong)} of {len(events)} intervals are wrong:\n" + "\n".join(wrong)
