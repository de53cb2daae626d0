"""The one place that makes clients of S3: for models, manifests and request logs."""

from __future__ import annotations

import logging
import os
from typing import Any

CONNECTIONS = 64
"""How many requests of one client may be under way at once; more than that wait for a connection."""


def s3_client(
    *, connect_timeout_s: float = 5.0, read_timeout_s: float = 20.0, attempts: int = 3, connections: int = CONNECTIONS
) -> Any:
    """A client by the SDK's own variables and profiles, and by those that TensorFlow's S3 file system knew besides.

    `S3_ENDPOINT` is a host and port or a URL, `S3_USE_HTTPS` and `S3_VERIFY_SSL` are 0 or 1, `AWS_REGION` or else `S3_REGION`
    is the region. `read_timeout_s` is the longest time without a byte. `attempts` count the first one. Raises botocore's
    errors, and ValueError for an endpoint that is no URL.
    """
    import boto3
    from botocore.config import Config

    # It logs headers that are cut with a traceback; what comes of it is an error of ours anyway.
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)
    endpoint = os.environ.get("S3_ENDPOINT")
    if endpoint and "://" not in endpoint:
        scheme = "http" if os.environ.get("S3_USE_HTTPS", "1") == "0" else "https"
        endpoint = f"{scheme}://{endpoint}"
    options: dict[str, Any] = {}
    if endpoint and "AWS_REQUEST_CHECKSUM_CALCULATION" not in os.environ:
        # The checksums that Amazon's SDK adds by itself are more than several other stores take.
        options["request_checksum_calculation"] = "when_required"
    config = Config(
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        max_pool_connections=connections,
        tcp_keepalive=True,
        **options,
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint or None,
        region_name=os.environ.get("AWS_REGION") or os.environ.get("S3_REGION") or None,
        config=config,
        verify=None if os.environ.get("S3_VERIFY_SSL", "1") != "0" else False,
    )
