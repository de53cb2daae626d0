"""Config files from wherever models may lie."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.config.server_config import decode_config_text, read_config_text
from cluster.core.errors import AspiredError, error_for
from cluster.storage.storages import Storages


@dataclass(frozen=True, slots=True)
class StoredText:
    """Reads a config file by its path or URI (see `cluster.config.server_config.ReadText`). Travels to the source actor."""

    storages: Storages

    def __call__(self, path: str, named: str) -> str:
        try:
            local = self.storages.local_path(path)
            content = b"" if local is not None else self.storages.read(path)
        except AspiredError as error:
            told = error.message.removeprefix(f"{path}: ")  # which `named` says
            raise error_for(error.code, f"{named}: {told}") from error
        return read_config_text(local, named) if local is not None else decode_config_text(content, named)
