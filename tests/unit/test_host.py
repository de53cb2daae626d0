from __future__ import annotations

import pytest
import ray

from cluster.core.errors import Unavailable
from cluster.host import connected


@pytest.mark.parametrize("error", [RuntimeError("no raylet"), Exception("The current node\ntimed out during startup.")])
def test_whatever_ray_says_of_its_start_is_told_in_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(Unavailable, match=f"^Ray cannot be started: {' '.join(str(error).split())}$"), connected(None):
        pass
