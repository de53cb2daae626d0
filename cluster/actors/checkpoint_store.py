"""Small things that must survive a control actor's restart."""

from __future__ import annotations

from typing import Protocol

from ray.experimental import internal_kv

_NAMESPACE = b"aspired"


class CheckpointStore(Protocol):
    """A key-value store; each value is written whole."""

    def load(self, key: str) -> bytes | None:
        """The value last saved under `key`, None if there is none."""

    def save(self, key: str, value: bytes) -> None:
        """Keeps `value`; returns when it is safe."""

    def delete(self, key: str) -> None:
        """Forgets the key; no error when it is not there."""

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, sorted."""


class GcsCheckpointStore:
    """Ray's own key-value store in the GCS: as durable as the cluster (with Redis behind the GCS it outlives the head node)."""

    def load(self, key: str) -> bytes | None:
        value: bytes | None = internal_kv._internal_kv_get(key.encode(), namespace=_NAMESPACE)
        return value

    def save(self, key: str, value: bytes) -> None:
        internal_kv._internal_kv_put(key.encode(), value, overwrite=True, namespace=_NAMESPACE)

    def delete(self, key: str) -> None:
        internal_kv._internal_kv_del(key.encode(), namespace=_NAMESPACE)

    def keys(self, prefix: str) -> list[str]:
        return sorted(key.decode() for key in internal_kv._internal_kv_list(prefix.encode(), namespace=_NAMESPACE))
