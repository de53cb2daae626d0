"""TF Serving's REST bodies: JSON to tensors and back, byte for byte as its json_tensor.cc does.

    request   document -- reader            one JSON object: orjson, or the exact reader behind it
              number_arrays                    its large lists of numbers, by simdjson
              predict_body -- tensor_values    `instances` / `inputs` -> arrays
              examples                         `examples` / `context` -> serialized tf.Examples
    reply     predictions, replies          arrays and results -> text
              decimals, strings                how one number, one string is written
    errors    quotation                     how a value is shown in a message

Nothing here knows of HTTP, models or TensorFlow. Every error is InvalidArgument or Unimplemented with TF Serving's text.
"""

from servables.json_codec.examples import ExamplesBody, decode_examples
from servables.json_codec.predict_body import PredictBody
from servables.json_codec.predictions import encode_predictions
from servables.json_codec.replies import encode_classifications, encode_error, encode_regressions

__all__ = [
    "ExamplesBody",
    "PredictBody",
    "decode_examples",
    "encode_classifications",
    "encode_error",
    "encode_predictions",
    "encode_regressions",
]
