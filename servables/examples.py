"""The `Input` of Classify and Regress requests, as what the graph parses: serialized tf.Examples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import InvalidArgument
from cluster.protos import SerializedInput
from servables.tensors import string_array


def input_to_examples(request_input: Any) -> NDArray[np.object_]:
    """A one-dimensional string tensor with an `Input`'s examples (TF Serving: `InputToSerializedExampleTensor`).

    A context is put in front of each example: serialized messages one after the other parse as their merge, in which the
    example's features win. Raises InvalidArgument when there are no examples.
    """
    # Reading the bytes again, with examples as bytes fields, saves serializing them one by one.
    serialized = SerializedInput.FromString(request_input.SerializeToString())
    match serialized.WhichOneof("kind"):
        case "example_list":
            examples = list(serialized.example_list.examples)
        case "example_list_with_context":
            with_context = serialized.example_list_with_context
            context = with_context.context
            examples = [context + example for example in with_context.examples]
        case _:
            examples = []
    if not examples:
        raise InvalidArgument("Input is empty.")
    return string_array(examples)
