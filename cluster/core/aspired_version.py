"""One version that a source wants served."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from cluster.core.errors import Status
from cluster.core.servable_id import ServableId


@dataclass(frozen=True, slots=True)
class AspiredVersion:
    """A version as a source found it (TF Serving: `ServableData<StoragePath>`).

    `fingerprint` changes whenever the version's files change; `size_bytes` is what they take on disk. `platform` names what
    can load it, and `settings` say how it is to be loaded, as far as its model's config does
    (`cluster.config.model_settings.ServingSettings`); here they are only carried and compared.
    `status` that is not OK: the source or an adapter found the version unusable. The error travels beside the
    version, so that one bad version cannot stop its stream.
    """

    id: ServableId
    path: str
    fingerprint: str = ""
    size_bytes: int = 0
    status: Status = Status()
    platform: str = "tensorflow"
    settings: Hashable = None

    @property
    def files(self) -> tuple[str, str]:
        """What it is loaded from; two versions of one number that differ here are loaded as two copies."""
        return self.path, self.fingerprint
