"""The examples of docs/platforms.md do what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.config.model_config import parse_model_server_config
from cluster.config.platform_config_file import parse_platform_config
from cluster.config.platform_names import BUILT_IN, GROUP
from cluster.core.errors import NotFound
from cluster.protos import ConfigProto
from servables import platforms
from servables.servable import PlatformOptions

PAGE = (Path(__file__).parents[3] / "docs" / "platforms.md").read_text()


def example(marker: str) -> str:
    """The code block that has `marker` in it."""
    (found,) = [block for block in re.findall(r"```\w*\n(.*?)```", PAGE, re.DOTALL) if marker in block]
    return str(found)


def test_the_table_has_every_platform() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == BUILT_IN


def test_a_platform_of_ones_own_loads_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": "line"}
    exec(compile(example("class LinePlatform"), "docs/platforms.md", "exec"), names)
    monkeypatch.setattr(platforms, "_FACTORIES", dict(platforms._FACTORIES))
    platforms.register("line", names["LinePlatform"])
    with pytest.raises(NotFound):
        platforms.platform("line").check(str(tmp_path), PlatformOptions())
    (tmp_path / "line.json").write_text('{"slope": 2, "offset": 1}')
    platforms.platform("line").check(str(tmp_path), PlatformOptions())
    servable = platforms.platform("line").load(str(tmp_path), PlatformOptions())
    assert servable.run("serving_default", {"x": np.array([3.0], np.float32)}, ["y"], None)["y"].tolist() == [7.0]
    assert servable.deterministic


def test_the_entry_point_is_of_the_group_that_is_looked_at() -> None:
    assert f'[project.entry-points."{GROUP}"]' in example("my_package.line:LinePlatform")


def test_the_platform_config_file_is_one() -> None:
    config = parse_platform_config(example("SavedModelBundleSourceAdapterConfig"), "platforms.md")
    assert ConfigProto.FromString(config.session.config_proto).intra_op_parallelism_threads == 4
    assert config.batching is not None
    assert (config.batching.max_batch_size, config.model_warmup) == (64, True)


def test_the_model_config_file_is_one() -> None:
    (model,) = parse_model_server_config(example("model_config_list"), "platforms.md").models
    assert (model.name, model.platform) == ("capitals", "hashmap")
