from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cluster.bench.generated_input import Data, InputOptions, generate_inputs, parse_shapes
from cluster.client.results import Array
from cluster.core.errors import ConfigError
from servables.signatures import Signature, TensorInfo
from servables.tensors import DataType, to_numpy


def generate(
    shape: tuple[int, ...] | None, dtype: DataType = DataType.DT_FLOAT, seed: int = 0, defaults: Any = None, **options: Any
) -> dict[str, Array]:
    signature = Signature("", {"x": TensorInfo("x:0", dtype, shape)}, {}, defaults or {})
    return generate_inputs(signature, InputOptions(**options), np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("shape", "options", "generated"),
    [
        ((-1, 3), {}, (1, 3)),
        ((-1, 3), {"batch_size": 8}, (8, 3)),
        ((2, 3), {"batch_size": 8}, (2, 3)),
        ((), {"batch_size": 8}, ()),
        ((-1, -1), {"shapes": {"x": (4, 5)}}, (4, 5)),
        ((-1, -1), {"shapes": {"x": (8, 5)}, "batch_size": 8}, (8, 5)),
        (None, {"shapes": {"x": ()}}, ()),
    ],
)
def test_an_input_has_the_shape_of_the_signature_or_of_the_flags(
    shape: tuple[int, ...] | None, options: dict[str, Any], generated: tuple[int, ...]
) -> None:
    assert generate(shape, **options)["x"].shape == generated


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (None, {}, "input x may have any shape: give one with --shape x:SIZE,SIZE,..."),
        ((-1, -1, 3), {}, "input x is [-1,-1,3] (-1: any size): give its shape with --shape x:SIZE,SIZE,..."),
        ((-1, 3), {"shapes": {"x": (1, 4)}}, "--shape=x:1,4: the model's input is [-1,3] (-1: any size)"),
        ((-1, 3), {"shapes": {"x": (3,)}}, "--shape=x:3: the model's input is [-1,3] (-1: any size)"),
        (
            (-1, 3),
            {"shapes": {"x": (2, 3)}, "batch_size": 4},
            "--shape=x:2,3 and --batch_size=4 disagree: leave one out",
        ),
        ((-1,), {"shapes": {"y": (2,)}}, "--shape=y: the signature has no such input; its inputs are x"),
    ],
)
def test_a_shape_that_is_not_known_or_does_not_fit_is_told_with_the_flag_that_helps(
    shape: tuple[int, ...] | None, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        generate(shape, **options)
    assert caught.value.message == message


@pytest.mark.parametrize(
    "dtype", [DataType.DT_FLOAT, DataType.DT_HALF, DataType.DT_DOUBLE, DataType.DT_INT8, DataType.DT_UINT64, DataType.DT_BOOL]
)
@pytest.mark.parametrize("data", Data)
def test_values_have_the_type_of_the_signature(dtype: DataType, data: Data) -> None:
    array = generate((-1, 1000), dtype, data=data)["x"]
    assert array.dtype == to_numpy(dtype)
    assert (len(np.unique(array)) > 1) == (data is Data.RANDOM)
    assert array.min() >= 0
    assert array.max() < 100


def test_strings_are_of_the_length_asked_for_and_differ() -> None:
    strings = generate((-1, 20), DataType.DT_STRING, string_length=5)["x"]
    assert strings.shape == (1, 20)
    assert {len(value) for value in strings.flat} == {5}
    assert len(set(strings.flat)) == 20
    assert generate((-1, 2), DataType.DT_STRING, data=Data.ZERO)["x"].tolist() == [[b"", b""]]


def test_a_seed_decides_what_random_data_are() -> None:
    assert np.array_equal(generate((-1, 9), seed=1)["x"], generate((-1, 9), seed=1)["x"])
    assert not np.array_equal(generate((-1, 9), seed=1)["x"], generate((-1, 9), seed=2)["x"])


def test_an_input_with_a_default_is_left_out_unless_its_shape_is_given() -> None:
    defaults = {"x": np.zeros((1,), np.float32)}
    assert generate((-1,), defaults=defaults) == {}
    assert generate((-1,), defaults=defaults, shapes={"x": (3,)})["x"].shape == (3,)


def test_reads_shapes_of_inputs() -> None:
    assert parse_shapes(("image:1,224,224,3", "scope:name:2", "scalar:")) == {
        "image": (1, 224, 224, 3),
        "scope:name": (2,),
        "scalar": (),
    }


@pytest.mark.parametrize("text", ["1,2", ":1,2", "x:a", "x:1,,2", "x:-1,2"])
def test_a_wrong_shape_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^--shape={text}: expected NAME:SIZE,SIZE,..., as in input:1,224,224,3$"):
        parse_shapes((text,))


def test_a_second_shape_of_an_input_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^--shape=x:2: x has a shape already$"):
        parse_shapes(("x:1", "x:2"))
