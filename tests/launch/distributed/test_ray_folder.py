"""Ray's sockets need a short path: the one that Ray would make is measured before it starts."""

from __future__ import annotations

import os

import pytest
from ray._private.utils import validate_socket_filepath

from launch.distributed.local import RaySettings, running_ray
from launch.distributed.ray_folder import _LONGEST, LIMIT, check_ray_folder, too_long
from launch.errors import UserError


def of_length(length: int) -> str:
    return "/tmp/" + "d" * (length - 5)


def test_the_limit_is_the_one_at_which_ray_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    room = LIMIT - len(_LONGEST.format(pid=os.getpid())) - 1
    for length, fits in ((room, True), (room + 1, False)):
        monkeypatch.setenv("TMPDIR", of_length(length))
        assert bool(too_long()) is not fits
        socket = os.path.join(of_length(length), _LONGEST.format(pid=os.getpid()))
        if fits:
            validate_socket_filepath(socket)
        else:
            with pytest.raises(OSError, match="AF_UNIX path length"):
                validate_socket_filepath(socket)


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_long_folder_is_told_with_the_variable_before_ray_starts(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, of_length(80))
    with pytest.raises(UserError, match=f"{variable} is a path of 80 bytes.*e.g. {variable}=/tmp"):
        check_ray_folder()
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray was started"))
    with pytest.raises(UserError, match="Ray cannot start on this machine"), running_ray(RaySettings()):
        pass
