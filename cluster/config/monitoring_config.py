"""TF Serving's monitoring config file: a text-format MonitoringConfig."""

from __future__ import annotations

from google.protobuf import text_format

from cluster import protos
from cluster.core.errors import ConfigError

DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"


def parse_monitoring_config(text: str, path: str) -> str:
    """Where on the REST port Prometheus finds the metrics, empty for nowhere; `path` is named in errors.

    Raises ConfigError for text that does not parse, and for a path that is none.
    """
    try:
        message = text_format.Parse(text, protos.MonitoringConfig())
    except text_format.ParseError as error:
        raise ConfigError(
            f"Error parsing text-format tensorflow.serving.MonitoringConfig: {' '.join(str(error).split())} (in {path})"
        ) from error
    prometheus = message.prometheus_config
    if not prometheus.enable:
        return ""
    metrics_path: str = prometheus.path or DEFAULT_METRICS_PATH
    if not metrics_path.startswith("/") or "?" in metrics_path:
        raise ConfigError(f"prometheus_config.path: {metrics_path!r}: expected a path that begins with / (in {path})")
    return metrics_path
