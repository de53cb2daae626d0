from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.errors import Unauthenticated, Unavailable
from cluster.storage.google_storage import GoogleStorage
from cluster.storage.object_storage import Patience

HASTY = Patience(connect_timeout_s=0.5, read_timeout_s=0.5, retries=0)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file"),
        ("SECRET", "Unable to decode service account file"),
        ('{"type": "SECRET"}', "Unable to decode service account file"),
        ('{"type": "service_account", "client_email": "a@b", "private_key_id": "x", "private_key": "SECRET"}', "pem file"),
    ],
)
def test_credentials_that_cannot_be_used_are_named(
    content: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    message = rf"gs://bucket/m: .*{expected}.*set GOOGLE_APPLICATION_CREDENTIALS"
    with pytest.raises(Unauthenticated, match=message) as refusal:
        GoogleStorage(HASTY).children("gs://bucket/m")
    assert "SECRET" not in str(refusal.value)


@pytest.mark.parametrize("host", ["127.0.0.1:1", "http://127.0.0.1:1/"])
def test_an_emulator_is_asked_without_credentials(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
    with pytest.raises(Unavailable, match="Google Cloud Storage cannot be reached"):
        GoogleStorage(HASTY).children("gs://bucket/m")
