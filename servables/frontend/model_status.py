"""The states of a model's versions as the message that both protocols answer with."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.core.servable_state import ServableState
from cluster.protos import GetModelStatusResponse


def model_status_response(states: Sequence[ServableState]) -> GetModelStatusResponse:
    """TF Serving: `model_servers/get_model_status_impl.cc`."""
    response = GetModelStatusResponse()
    for state in states:
        row = response.model_version_status.add()
        row.version = state.id.version
        row.state = int(state.state)
        row.status.SetInParent()
        row.status.error_code = int(state.status.code)
        row.status.error_message = state.status.message
    return response
