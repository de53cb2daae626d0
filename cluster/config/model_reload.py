"""Whether a running server may take on another model config."""

from __future__ import annotations

from collections.abc import Collection

from cluster.config.model_config import ModelServerConfig
from cluster.core.errors import FailedPrecondition, InvalidArgument
from cluster.core.servable_id import ServableId


def check_reload(
    current: ModelServerConfig,
    requested: ModelServerConfig,
    available: Collection[ServableId],
    *,
    allow_labels_for_unavailable: bool,
) -> None:
    """Raises when `requested` may not take the place of `current`; then nothing is to change.

    A label must name a version that is available now. With `allow_labels_for_unavailable` that holds only for a label that
    moves to another version (TF Serving: `model_servers/server_core.cc`). Raises InvalidArgument for a model that changes its
    platform, FailedPrecondition for a label.
    """
    before = {model.name: model for model in current.models}
    for model in requested.models:
        known = before.get(model.name)
        if known is not None and known.platform != model.platform:
            raise InvalidArgument(
                f"Illegal to change a model's platform. For model {model.name} platform was {known.platform} "
                f"and new platform requested is {model.platform}"
            )
    for model in requested.models:
        known = before.get(model.name)
        labels = known.version_labels if known is not None else {}
        for label, version in model.version_labels.items():
            moves = labels.get(label, version) != version
            if allow_labels_for_unavailable and not moves:
                continue
            if ServableId(model.name, version) not in available:
                raise FailedPrecondition(
                    f"Request to assign label to version {version} of model {model.name}, "
                    "which is not currently available for inference"
                )
