"""The tf.Examples of a Classify or Regress request, as the graph takes them: serialized."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import InvalidArgument
from servables.tensors import string_array


def input_to_examples(message: Any) -> NDArray[np.object_]:
    """A one-dimensional array of serialized tf.Examples (TF Serving: `servables/tensorflow/util.cc`).

    `message` is our `Input`, whose examples are bytes already. A context is put in front of each example: concatenating two
    serialized messages merges them. Raises InvalidArgument when there is none.
    """
    kind = message.WhichOneof("kind")
    examples: list[bytes] = []
    if kind == "example_list":
        examples = list(message.example_list.examples)
    elif kind == "example_list_with_context":
        context = message.example_list_with_context.context
        examples = [context + example for example in message.example_list_with_context.examples]
    if not examples:
        raise InvalidArgument("Input is empty.")
    return string_array(examples)
