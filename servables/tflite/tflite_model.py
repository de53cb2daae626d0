"""What a model's flatbuffer says that its interpreter does not."""

from __future__ import annotations

from dataclasses import dataclass

from tensorflow.lite.python import schema_py_generated as schema

_OPS_WITH_STATE = frozenset(
    [
        schema.BuiltinOperator.ASSIGN_VARIABLE,
        schema.BuiltinOperator.HASHTABLE_IMPORT,
        schema.BuiltinOperator.MULTINOMIAL,
        schema.BuiltinOperator.RANDOM_STANDARD_NORMAL,
        schema.BuiltinOperator.RANDOM_UNIFORM,
        schema.BuiltinOperator.CUSTOM,  # nobody knows
    ]
)


@dataclass(frozen=True, slots=True)
class TfLiteModel:
    """A model's bytes, and what is known of them.

    `keeps_state`: some op draws random numbers, writes a variable, or may do so. `has_variable_tensors`: a recurrent op leaves
    its state in a tensor for the next run.
    """

    content: bytes
    keeps_state: bool
    has_variable_tensors: bool


def read_model(content: bytes) -> TfLiteModel:
    """Reads what the interpreter has found to be a valid flatbuffer; others make no sense here."""
    model = schema.Model.GetRootAs(content)
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    subgraphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    return TfLiteModel(
        content=content,
        # Old files have the code in a field of 8 bits, new ones say more in the other.
        keeps_state=any(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) in _OPS_WITH_STATE for code in codes),
        has_variable_tensors=any(
            subgraph.Tensors(index).IsVariable() for subgraph in subgraphs for index in range(subgraph.TensorsLength())
        ),
    )
