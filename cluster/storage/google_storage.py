"""Buckets of Google Cloud Storage."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from cluster.core.object_uri import ObjectUri, parse_google_uri
from cluster.storage.object_error import StoreAdvice
from cluster.storage.object_storage import WritableObjectStorage

if TYPE_CHECKING:
    from obstore.store import GCSConfig, GCSStore


class GoogleStorage(WritableObjectStorage):
    """`gs://bucket/prefix`.

    Credentials are those of GOOGLE_APPLICATION_CREDENTIALS, of `gcloud auth application-default login`, or of the node by its
    metadata server. STORAGE_EMULATOR_HOST names an emulator, which is asked without credentials unless GOOGLE_BEARER_TOKEN
    is set.
    """

    advice: ClassVar[StoreAdvice] = StoreAdvice(
        "Google Cloud Storage",
        "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account's key, or give the node a service account",
        "it takes roles/storage.objectViewer on the bucket, and roles/storage.objectUser to publish",
    )

    def uri(self, path: str) -> ObjectUri:
        return parse_google_uri(path)

    def open(self, uri: ObjectUri) -> GCSStore:
        from obstore.store import GCSStore

        config: GCSConfig = {}
        emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
        if emulator:
            config["base_url"] = (emulator if "://" in emulator else f"http://{emulator}").rstrip("/")
            config["skip_signature"] = "GOOGLE_BEARER_TOKEN" not in os.environ
        options = self.client_options(allow_http=config.get("base_url", "").startswith("http://"))
        return GCSStore(uri.bucket, config=config, client_options=options, retry_config=self.retry_config())
