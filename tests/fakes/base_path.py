"""Where tests publish to, seen by other means than ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Place:
    """A base path, and what is needed to look at it and to change it by other means."""

    base_path: str
    client: Any = None  # of S3
    bucket: str = ""

    @property
    def local(self) -> bool:
        return self.client is None

    def names(self) -> set[str]:
        """Every file under the base path, hidden ones too."""
        if self.local:
            base = Path(self.base_path)
            return {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()}
        listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix="models/m/").get("Contents", ())
        return {entry["Key"].removeprefix("models/m/") for entry in listed}

    def put(self, name: str, content: bytes) -> None:
        if self.local:
            path = Path(self.base_path, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        else:
            self.client.put_object(Bucket=self.bucket, Key=f"models/m/{name}", Body=content)

    def delete(self, name: str) -> None:
        if self.local:
            Path(self.base_path, name).unlink()
        else:
            self.client.delete_object(Bucket=self.bucket, Key=f"models/m/{name}")
