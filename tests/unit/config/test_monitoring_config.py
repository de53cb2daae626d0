from __future__ import annotations

import pytest

from cluster.config.monitoring_config import parse_monitoring_config
from cluster.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('prometheus_config { enable: true, path: "/monitoring/prometheus/metrics" }', "/monitoring/prometheus/metrics"),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true path: "/metrics" }', "/metrics"),
        ('prometheus_config { enable: false path: "/metrics" }', ""),
        ("prometheus_config { }", ""),
        ("", ""),
    ],
)
def test_says_where_the_metrics_are(text: str, path: str) -> None:
    assert parse_monitoring_config(text, "monitoring.config") == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prometheus { }", "Error parsing text-format tensorflow.serving.MonitoringConfig: 1:1 : "),
        (
            'prometheus_config { enable: true path: "metrics" }',
            "prometheus_config.path: 'metrics': expected a path that begins",
        ),
        ('prometheus_config { enable: true path: "/a?b" }', "prometheus_config.path: '/a?b': expected a path that begins"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_file_and_the_field(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_monitoring_config(text, "monitoring.config")
    assert raised.value.message.startswith(message)
    assert raised.value.message.endswith("(in monitoring.config)")
