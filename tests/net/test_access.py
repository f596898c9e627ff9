# SPDX-License-Identifier: Apache-2.0
"""Who may connect to a guest's socket."""

import grp
import os
import stat

import pytest
from flued import ApiError


def access(path):
    st = os.stat(path)
    return stat.S_IMODE(st.st_mode), grp.getgrgid(st.st_gid).gr_name


def test_a_guests_socket_is_its_owners_alone_unless_a_group_is_named(switch):
    assert access(switch.add("vm1")["socket"])[0] == 0o600
    port = switch.add("vm2", group="daemon")
    assert port["group"] == "daemon"
    assert access(port["socket"]) == (0o660, "daemon")


def test_a_group_that_does_not_exist_is_refused_and_leaves_no_socket(switch):
    with pytest.raises(ApiError) as refused:
        switch.add("vm1", group="no-such-group")
    assert (refused.value.status, refused.value.field) == (400, "group")
    assert "groupadd" in refused.value.remedy
    assert not os.path.exists(switch.run_dir / "vm1.sock")
    switch.add("vm1")


@pytest.mark.parametrize("group", ["", "x" * 40, 7])
def test_a_group_is_a_name(switch, group):
    with pytest.raises(ApiError) as refused:
        switch.add("vm1", group=group)
    assert (refused.value.status, refused.value.field) == (400, "group")
