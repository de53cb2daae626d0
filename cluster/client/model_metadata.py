"""A model version's signatures, as GetModelMetadata tells them, and how long they are believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.client.model_spec import ModelSpec
from cluster.core.errors import InvalidArgument
from servables.signatures import DEFAULT_SIGNATURE_NAME, Signature


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """Signature name -> signature, of `version`."""

    signatures: Mapping[str, Signature]
    version: int

    def signature(self, name: str) -> Signature:
        """The signature that a request with this `signature_name` runs. Raises InvalidArgument with TF Serving's text."""
        try:
            return self.signatures[name or DEFAULT_SIGNATURE_NAME]
        except KeyError:
            raise InvalidArgument(
                f'Serving signature name: "{name or DEFAULT_SIGNATURE_NAME}" not found in signature def'
            ) from None


def same_tensors(a: ModelMetadata, b: ModelMetadata, signature_name: str) -> bool:
    """Whether a call of this signature would be written and read alike under both."""
    name = signature_name or DEFAULT_SIGNATURE_NAME
    one, other = a.signatures.get(name), b.signatures.get(name)
    if one is None or other is None:
        return one is other
    return (one.inputs, one.outputs) == (other.inputs, other.outputs)


class MetadataCache:
    """Metadata by what was asked for. The latest version or a label's may change, so theirs is forgotten after `ttl_s`.

    Safe to use from several threads: at worst two of them fetch the same metadata.
    """

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._entries: dict[ModelSpec, tuple[ModelMetadata, float]] = {}

    def get(self, spec: ModelSpec, now: float) -> ModelMetadata | None:
        entry = self._entries.get(spec)
        if entry is None:
            return None
        metadata, since = entry
        return metadata if spec.version is not None or now - since < self._ttl_s else None

    def put(self, spec: ModelSpec, metadata: ModelMetadata, now: float) -> None:
        self._entries[spec] = (metadata, now)

    def answered_by(self, spec: ModelSpec, version: int | None) -> None:
        """Forgets what belongs to another version than the one that has just answered a request for `spec`."""
        entry = self._entries.get(spec)
        if entry is not None and version is not None and entry[0].version != version:
            self._entries.pop(spec, None)
