"""The replies to `:classify` and `:regress`, and the reply that is an error."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from cluster.core.errors import InvalidArgument
from servables.json_codec.decimals import decimal_json, float32_texts, is_bulk
from servables.json_codec.strings import string_json


def encode_classifications(results: Sequence[Sequence[tuple[bytes, float]]]) -> bytes:
    """The (label, score) pairs of each example. Raises InvalidArgument when there are no examples."""
    if not results:
        raise InvalidArgument("Cannot convert empty ClassificationResults to JSON")
    scores = iter(_float_texts([score for classes in results for _, score in classes]))
    examples = [
        b"[%b]" % b", ".join([b"[%b, %b]" % (string_json(label), next(scores)) for label, _ in classes]) for classes in results
    ]
    return b'{\n    "results": [%b\n    ]\n}' % b", ".join(examples)


def encode_regressions(results: Sequence[float]) -> bytes:
    """The value of each example. Raises InvalidArgument when there are none."""
    if not results:
        raise InvalidArgument("Cannot convert empty RegressionResults to JSON")
    return b'{\n    "results": [%b]\n}' % b", ".join(_float_texts(results))


def encode_error(message: str) -> bytes:
    return b'{\n    "error": %b\n}' % string_json(message.encode("utf-8", "replace"))


def _float_texts(values: Sequence[float]) -> list[bytes]:
    if not values:
        return []
    floats = array("f", values)
    if is_bulk(len(floats)):
        return decimal_json(np.asarray(floats))[1:-1].split(b",")
    return ",".join(float32_texts(floats.tolist())).encode().split(b",")
