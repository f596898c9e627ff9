# SPDX-License-Identifier: Apache-2.0
"""Offloads and MTU: what a guest is offered, what counts as agreed, and what `flue port show` says of the rest."""

import pytest

import state_file
import vhost_user as vu
from flued import ApiError
from guest import Guest
from wait import wait_until

FROM_GUEST = {
    "csum": vu.NET_F_CSUM, "tso4": vu.NET_F_HOST_TSO4, "tso6": vu.NET_F_HOST_TSO6, "ecn": vu.NET_F_HOST_ECN, "uso": vu.NET_F_HOST_USO,
}  # fmt: skip
TO_GUEST = {
    "guest_csum": vu.NET_F_GUEST_CSUM, "guest_tso4": vu.NET_F_GUEST_TSO4, "guest_tso6": vu.NET_F_GUEST_TSO6,
    "guest_ecn": vu.NET_F_GUEST_ECN, "guest_uso4": vu.NET_F_GUEST_USO4, "guest_uso6": vu.NET_F_GUEST_USO6,
}  # fmt: skip
BIT = FROM_GUEST | TO_GUEST | {"mrg_rxbuf": vu.NET_F_MRG_RXBUF, "mtu": vu.NET_F_MTU}
ALL = sum((FROM_GUEST | TO_GUEST).values())
CTRL_GUEST_OFFLOADS = 1 << 2
NOT_ASKED = "not asked for by the guest's driver or its hypervisor"


def bits(words):
    return sum(BIT[w] for w in words.split())


def told(switch, name="vm1"):
    """(from the guest, to the guest, {what is off: why}) as users read it."""
    detail = switch.port(name)["detail"]
    off = {}
    for part in filter(None, detail.get("offloads_not_agreed", "").split("; ")):
        words, why = part.split(": ", 1)
        off |= dict.fromkeys(words.split(), why)
    return detail["offloads_from_guest"], detail["offloads_to_guest"], off


def test_everything_is_offered_and_can_be_agreed_on(switch, attach):
    guest = attach("vm1", also=ALL)
    assert guest.offered & ALL == ALL and not guest.offered & CTRL_GUEST_OFFLOADS
    assert told(switch) == (" ".join(FROM_GUEST), " ".join(TO_GUEST) + " mrg_rxbuf", {})
    assert "offloads_not_agreed" not in switch.port("vm1")["detail"]
    assert switch.port("vm1")["detail"]["guest_mtu"] == "the guest's driver was told 1500"
    switch.set("vm1", mtu=4000)
    assert switch.port("vm1")["detail"]["guest_mtu"] == "the guest's driver was told 4000"


def test_nothing_is_said_before_the_driver_has_spoken(switch):
    with Guest(switch.add("vm1")["socket"]) as guest:
        guest.connect()
        guest.negotiate(guest.want, guest.want_protocol)
        guest.sync()
        detail = switch.port("vm1")["detail"]
        assert "features" in detail and not [key for key in detail if "offload" in key or "mtu" in key]


@pytest.mark.parametrize(
    "off, not_offered, needs",
    [
        ("", "", {}),
        ("tso4", "tso4", {}),
        ("uso4", "uso", {}),
        ("tso4,tso6", "tso4 tso6 ecn", {"ecn": "needs tso4 or tso6"}),
        ("csum", " ".join(FROM_GUEST), dict.fromkeys(["tso4", "tso6", "uso"], "needs csum") | {"ecn": "needs tso4 or tso6"}),
        ("guest_tso4 guest_tso6", "guest_tso4 guest_tso6 guest_ecn", {"guest_ecn": "needs guest_tso4 or guest_tso6"}),
        ("guest_uso", "guest_uso4 guest_uso6", {}),
        ("guest_csum", " ".join(TO_GUEST),
         dict.fromkeys([w for w in TO_GUEST if w not in ("guest_csum", "guest_ecn")], "needs guest_csum")
         | {"guest_ecn": "needs guest_tso4 or guest_tso6"}),
        ("mrg_rxbuf", "mrg_rxbuf", {}),
        ("all", " ".join(FROM_GUEST | TO_GUEST), {}),
    ],
)  # fmt: skip
def test_what_is_switched_off_is_not_offered(switch, off, not_offered, needs):
    with Guest(switch.add("vm1", offloads_off=off)["socket"], also=ALL, mergeable="mrg_rxbuf" not in off).up() as guest:
        switch.wait_state("vm1", "up")
        everything = ALL | vu.NET_F_MRG_RXBUF | vu.NET_F_MTU
        assert guest.offered & everything == everything & ~bits(not_offered)
        from_guest, to_guest, why = told(switch)
        off = not_offered.split()
        assert from_guest == (" ".join(w for w in FROM_GUEST if w not in off) or "none")
        assert to_guest == (" ".join(w for w in (*TO_GUEST, "mrg_rxbuf") if w not in off) or "none")
        assert why == dict.fromkeys(off, "switched off (offloads_off)") | needs


def test_the_mtu_may_be_kept_from_the_driver(switch):
    with Guest(switch.add("vm1", offloads_off="mtu", mtu=9000)["socket"], frame_max=9018).up() as guest:
        assert not guest.offered & vu.NET_F_MTU
        assert switch.port("vm1")["detail"]["guest_mtu"] == "not told, switched off (offloads_off): set it in the guest"


def test_what_the_driver_does_not_ask_for_is_named(switch, attach):
    attach("vm1", also=bits("csum tso4 guest_csum"), drop=vu.NET_F_MTU)
    missing = [w for w in FROM_GUEST | TO_GUEST if w not in ("csum", "tso4", "guest_csum")]
    assert told(switch) == ("csum tso4", "guest_csum mrg_rxbuf", dict.fromkeys(missing, NOT_ASKED))
    assert switch.port("vm1")["detail"]["guest_mtu"] == "the guest's driver did not ask for it: set it in the guest"


def test_what_lacks_its_need_does_not_count(switch, attach):
    """A driver may not take TSO without checksums (virtio 1.2, 5.1.3.1); its connection goes on without."""
    attach("vm1", also=bits("tso4 ecn guest_csum guest_ecn"))
    from_guest, to_guest, why = told(switch)
    assert (from_guest, to_guest) == ("none", "guest_csum mrg_rxbuf")
    assert (why["tso4"], why["ecn"], why["guest_ecn"]) == ("needs csum", "needs tso4 or tso6", "needs guest_tso4 or guest_tso6")
    assert why["csum"] == why["guest_tso4"] == NOT_ASKED


def test_an_old_promise_is_told(switch):
    with Guest(switch.add("vm1")["socket"], drop=vu.NET_F_MTU).up() as guest:
        switch.wait_state("vm1", "up")
        switch.kill9()
        path = switch.run_dir / "flued.state"
        kept = state_file.read(path)["vm1"]
        kept["offered"] &= ~(ALL | vu.NET_F_MTU)
        state_file.write(path, "vm1", kept)
        switch.start()
        switch.add("vm1")
        guest.reconnect()
        switch.wait_state("vm1", "up")
        assert not guest.offered & ALL
        *_, why = told(switch)
        assert set(why) == FROM_GUEST.keys() | TO_GUEST.keys()
        assert {"not promised to this guest before flued was restarted: restart its VM"} == set(why.values())
        assert switch.port("vm1")["detail"]["guest_mtu"].startswith("not promised")


def test_a_promise_goes_before_what_is_switched_off_later(switch):
    with Guest(switch.add("vm1")["socket"], also=ALL).up() as guest:
        switch.wait_state("vm1", "up")
        switch.kill9()
        switch.start()
        path = switch.add("vm1", offloads_off="all")["socket"]
        guest.reconnect()
        switch.wait_state("vm1", "up")
        assert guest.offered & ALL == ALL and told(switch)[0] == " ".join(FROM_GUEST)
        wait_until(lambda: "are switched off, but were offered to this guest" in switch.log(), "a word in the log")
    switch.delete("vm1")
    with Guest(switch.add("vm1", offloads_off="all", socket=path)["socket"]).up() as guest:
        assert not guest.offered & ALL


@pytest.mark.parametrize("kind", ["tap", "packet"])
def test_an_mtu_that_the_interface_cannot_carry_is_refused(switch, netns, kind):
    """At birth, and while the port runs; the port goes on with the MTU it had."""
    inside, outside = netns(), netns()
    conf = {"kind": kind, "ifname": "one0", "netns": inside.name}
    if kind == "packet":
        inside.veth("one0", "two0", outside)
        for ns, ifname in ((inside, "one0"), (outside, "two0")):
            ns.up(ifname, mtu=4000)
    limit = {"tap": 9216, "packet": 4000}[kind]
    says, remedy = {
        "tap": ("9217 is not an MTU for a port of kind tap", "write a number from 68 to 9216: an interface carries no more"),
        "packet": ("MTU 4001 asked, but interface one0 carries 4000", f"raise it with `ip -n {inside.name} link set one0 mtu 4001`"),
    }[kind]
    for attempt in (lambda: switch.add("one", mtu=limit + 1, **conf), lambda: switch.set("one", mtu=limit + 1)):
        with pytest.raises(ApiError) as refused:
            attempt()
        assert (refused.value.status, refused.value.field) == (400, "mtu")
        assert (refused.value.message, refused.value.remedy) == (says, remedy)
        if not switch.api("GET", "/v1/ports")["ports"]:
            switch.add("one", mtu=2000, **conf)
    assert switch.port("one")["mtu"] == 2000
    assert switch.set("one", mtu=limit)["mtu"] == limit
    assert f"mtu {limit}" in inside.ip("link", "show", "one0").stdout


def test_each_kind_has_its_own_words(switch):
    with pytest.raises(ApiError) as refused:
        switch.add("t0", kind="tap", ifname="flue-t0", offloads_off="csum guest_csum")
    assert refused.value.field == "offloads_off" and refused.value.remedy == "the words are all csum tso4 tso6 ecn uso uso4 uso6"
    assert switch.add("t0", kind="tap", ifname="flue-t0", offloads_off="csum tso4 tso6 ecn uso")["offloads_off"] == "all"
