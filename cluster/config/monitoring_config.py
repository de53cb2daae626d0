"""TF Serving's monitoring config file: a text-format MonitoringConfig."""

from __future__ import annotations

from cluster import protos
from cluster.config.text_form import parse_text_form
from cluster.core.errors import ConfigError

DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"


def parse_monitoring_config(text: str, path: str) -> str:
    """Where on the REST port Prometheus finds the metrics, empty for nowhere; `path` is named in errors.

    Raises ConfigError for text that does not parse, and for a path that is none.
    """
    message = parse_text_form(text, protos.MonitoringConfig(), path)
    prometheus = message.prometheus_config
    if not prometheus.enable:
        return ""
    metrics_path: str = prometheus.path or DEFAULT_METRICS_PATH
    if not metrics_path.startswith("/") or "?" in metrics_path:
        raise ConfigError(f"prometheus_config.path: {metrics_path!r}: expected a path that begins with / (in {path})")
    return metrics_path
