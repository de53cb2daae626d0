from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config.batching_parameters import BatchingParameters
from cluster.config.model_config import All, Latest, ModelConfig, ModelServerConfig, Specific, VersionPolicy
from cluster.config.model_settings import (
    ModelSettings,
    PlatformSettings,
    ServingSettings,
    Unbatched,
    WarmupSettings,
)
from cluster.config.native_config import is_native, parse_native_config, read_native_config
from cluster.config.native_config_text import native_form
from cluster.config.native_fields import (
    BatchingFields,
    ModelFields,
    RequestLoggingFields,
    ResourceFields,
    VersionPolicyFields,
    WarmupFields,
)
from cluster.config.yaml_document import yaml_text
from cluster.core.errors import ConfigError
from cluster.core.request_logging import RequestLogging
from cluster.core.resources import GpuUse, ResourceRequest


def parse(text: str) -> ModelServerConfig:
    return parse_native_config(text, "models.yaml")


def parse_model(fields: str) -> ModelConfig:
    (model,) = parse(f"models: [{{name: m, base_path: /models/m, {fields}}}]").models
    return model


def problems(text: str) -> list[str]:
    config = read_native_config(text, "models.yaml")
    assert not config.models.models
    assert not any("\n" in problem for problem in config.problems)
    return list(config.problems)


def test_reads_every_field() -> None:
    config = parse(
        """
        models:
          - name: half_plus_two
            base_path: /models/half_plus_two
          - name: everything
            base_path: s3://bucket/everything
            platform: hashmap
            version_policy: {specific: [1, 2]}
            version_labels: {stable: 1, canary: 2}
            request_logging: {filename_prefix: /var/log/aspired/everything, sampling_rate: 0.25}
            replicas: 3
            resources: {cpus: 0.5, memory: 2GiB, gpu: exclusive, gpu_memory: 512MiB}
            node_labels: {zone: a, pool: gold}
            version_transition: resource_preserving
            batching:
              max_batch_size: 128
              batch_timeout_micros: 1000
              max_enqueued_batches: 100
              num_batch_threads: 2
              thread_pool_name: threads
              allowed_batch_sizes: [1, 8, 128]
              pad_variable_length_inputs: true
              enable_large_batch_splitting: true
              max_execution_batch_size: 64
            warmup: {replay_records: false, iterations: 3, all_batch_sizes: true}
            platform_options:
              saved_model_tags: [serve, gpu]
              intra_op_parallelism_threads: 2
              inter_op_parallelism_threads: 1
              prefer_tflite_model: true
              num_tflite_pools: 2
              num_tflite_interpreters_per_pool: 3
        """
    )
    assert config.models == (
        ModelConfig("half_plus_two", "/models/half_plus_two"),
        ModelConfig(
            "everything",
            "s3://bucket/everything",
            "hashmap",
            Specific(frozenset({1, 2})),
            {"stable": 1, "canary": 2},
            RequestLogging("/var/log/aspired/everything", 0.25),
            settings=ModelSettings(
                replicas=3,
                resources=ResourceRequest(2 << 30, 512 << 20, 0.5, GpuUse.EXCLUSIVE),
                node_labels=(("pool", "gold"), ("zone", "a")),
                resource_preserving=True,
                serving=ServingSettings(
                    batching=BatchingParameters(
                        max_batch_size=128,
                        batch_timeout_micros=1000,
                        max_enqueued_batches=100,
                        num_batch_threads=2,
                        thread_pool_name="threads",
                        allowed_batch_sizes=(1, 8, 128),
                        pad_variable_length_inputs=True,
                        enable_large_batch_splitting=True,
                        max_execution_batch_size=64,
                    ),
                    warmup=WarmupSettings(replay_records=False, iterations=3, all_batch_sizes=True),
                    platform=PlatformSettings(
                        saved_model_tags=("serve", "gpu"),
                        intra_op_parallelism_threads=2,
                        inter_op_parallelism_threads=1,
                        prefer_tflite_model=True,
                        num_tflite_pools=2,
                        num_tflite_interpreters_per_pool=3,
                    ),
                ),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("version_policy: latest", Latest(1)),
        ("version_policy: ~", Latest(1)),
        ("version_policy: {latest: 3}", Latest(3)),
        ("version_policy: all", All()),
        ("version_policy: {all: true}", All()),
        ("version_policy: {specific: [7, 7]}", Specific(frozenset({7}))),
        ("version_policy: {specific: []}", Specific(frozenset())),
    ],
)
def test_reads_version_policies(text: str, policy: VersionPolicy) -> None:
    assert parse_model(text).version_policy == policy


@pytest.mark.parametrize(
    ("size", "size_bytes"),
    [
        ("1", 1),
        ("4096", 4096),
        ("2GiB", 2 << 30),
        ("1.5 MiB", 3 << 19),
        ("2GB", 2 * 10**9),
        ("10kB", 10_000),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes_have_units(size: str, size_bytes: int) -> None:
    assert parse_model(f"resources: {{memory: {size}}}").settings.resources == ResourceRequest(memory_bytes=size_bytes)


def test_sections_that_are_left_empty_say_nothing() -> None:
    empty = parse_model("resources: , node_labels: , batching: ~, warmup: , platform_options: , version_labels: , replicas: ~")
    assert empty == ModelConfig("m", "/models/m")
    assert parse_model("resources: {}, warmup: {}, platform_options: {}, node_labels: {}") == empty
    assert parse_model("platform: , resources: {cpus: , gpu: }, version_transition: , batching: {max_batch_size: }") == replace(
        empty, settings=ModelSettings(serving=ServingSettings(batching=BatchingParameters()))
    )


def test_a_batching_section_stands_for_itself() -> None:
    assert parse_model("batching: {}").settings.serving.batching == BatchingParameters()
    assert parse_model("batching: {max_batch_size: 7}").settings.serving.batching == BatchingParameters(max_batch_size=7)
    assert parse_model("batching: {enabled: false, max_batch_size: 7}").settings.serving.batching == Unbatched()


def test_fields_are_shared_by_anchors() -> None:
    config = parse(
        """
        models:
          - &base {name: a, base_path: /models/a, replicas: 2, batching: {max_batch_size: 8}}
          - {<<: *base, name: b, base_path: /models/b}
        """
    )
    a, b = config.models
    assert b == replace(a, name="b", base_path="/models/b")


def test_no_models_is_said_and_an_empty_file_is_refused() -> None:
    # A file that is being written is empty for a moment: it must not unload everything.
    assert parse("models: []").models == ()
    assert problems("") == ["models.yaml:1: models: missing; it has to be given"]
    assert problems("models:") == ["models.yaml:1: models: missing; it has to be given"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("nmae: ", "nmae: unknown field; did you mean name?"),
        ("model_platform: tensorflow", "model_platform: unknown field; did you mean platform?"),
        ("batching: {max_size: 1}", "batching.max_size: unknown field; did you mean max_batch_size?"),
        ("warmup: {x: 1}", "warmup.x: unknown field; expected one of replay_records, iterations, all_batch_sizes"),
        ("platform: caffe", "platform: expected one of hashmap, tensorflow, tflite"),
        ("version_policy: newest", "version_policy: expected latest, all, {latest: COUNT} or {specific: [VERSION, ...]}"),
        ("version_policy: 3", "version_policy: expected latest, all, {latest: COUNT} or {specific: [VERSION, ...]}"),
        ("version_policy: {}", "version_policy: expected one of latest, all and specific"),
        ("version_policy: {all: false}", "version_policy: expected one of latest, all and specific"),
        ("version_policy: {all: true, latest: 1}", "version_policy: expected one of latest, all and specific"),
        ("version_policy: {latest: 0}", "version_policy.latest: expected 1 or more"),
        ("version_policy: {specific: [1, -1]}", "version_policy.specific[1]: expected 0 or more"),
        ("version_policy: {specific: 1}", "version_policy.specific: expected a list"),
        ("version_labels: {stable: one}", "version_labels.stable: expected a whole number"),
        ("version_labels: [stable]", "version_labels: expected fields, each written name: value"),
        ("request_logging: {filename_prefix: /l/m}", "request_logging.sampling_rate: missing; it has to be given"),
        (
            "request_logging: {filename_prefix: l/m, sampling_rate: 1}",
            "request_logging.filename_prefix: 'l/m' is not absolute; give a path such as '/var/log/aspired/my_model'",
        ),
        (
            "request_logging: {filename_prefix: /l/m, sampling_rate: 1.01}",
            "request_logging.sampling_rate: expected 1 or less",
        ),
        ("replicas: 0", "replicas: expected 1 or more"),
        ("replicas: 10001", "replicas: expected 10000 or less"),
        ("replicas: 1.5", "replicas: expected a whole number"),
        ("replicas: true", "replicas: expected a whole number"),
        ("replicas: '2'", "replicas: expected a whole number"),
        ("resources: {cpus: -1}", "resources.cpus: expected 0 or more"),
        ("resources: {cpus: 1e999}", "resources.cpus: expected a number"),
        ("resources: {cpus: many}", "resources.cpus: expected a number"),
        (
            "resources: {memory: 2Gb}",
            "resources.memory: expected a size in bytes, or with a unit, as in 512MiB or 2GiB; got '2Gb'",
        ),
        ("resources: {memory: 0}", "resources.memory: expected 1 or more"),
        ("resources: {memory: 0.1kB, gpu_memory: 1.5}", "resources.gpu_memory: expected a whole number"),
        ("resources: {gpu: mine}", "resources.gpu: expected shared, exclusive or none"),
        ("resources: {gpu: none, gpu_memory: 1GiB}", "resources: gpu_memory is given with gpu: none; leave one of them out"),
        ("resources: 3", "resources: expected fields, each written name: value"),
        ("node_labels: {pool: 1}", 'node_labels.pool: expected text; write it in quotes: "1"'),
        ("node_labels: {pool: true}", 'node_labels.pool: expected text; write it in quotes: "true"'),
        ("version_transition: quick", "version_transition: expected availability_preserving or resource_preserving"),
        ("batching: {max_batch_size: 0}", "batching.max_batch_size: expected 1 or more"),
        ("batching: {enabled: on}", "batching.enabled: expected true or false"),
        ("batching: {allowed_batch_sizes: 8}", "batching.allowed_batch_sizes: expected a list"),
        (
            "batching: {max_batch_size: 8, allowed_batch_sizes: [4]}",
            "batching: Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        ("warmup: {iterations: 0}", "warmup.iterations: expected 1 or more"),
        ("warmup: true", "warmup: expected fields, each written name: value"),
        ("platform_options: {saved_model_tags: []}", "platform_options.saved_model_tags: expected a list that is not empty"),
        ("platform_options: {saved_model_tags: serve}", "platform_options.saved_model_tags: expected a list"),
    ],
)
def test_refuses_a_field_by_its_path(fields: str, problem: str) -> None:
    text = f"models:\n  - {{name: a, base_path: /a}}\n  - {{name: m, base_path: /m,\n     {fields}}}"
    assert problems(text) == [f"models.yaml:4: models[1].{problem}"]


def test_tells_everything_that_is_wrong_in_the_order_of_the_file() -> None:
    text = """\
models:
  - name: 5
    base_path: models/m
    batching:
      max_batch_size: 0
  - base_path: /m
  - half_plus_two
modells: []
"""
    found = [
        'models.yaml:2: models[0].name: expected text; write it in quotes: "5"',
        "models.yaml:3: models[0].base_path: expected an absolute path or a URI, as in /models/my_model",
        "models.yaml:5: models[0].batching.max_batch_size: expected 1 or more",
        "models.yaml:6: models[1].name: missing; it has to be given",
        "models.yaml:7: models[2]: expected fields, each written name: value",
        "models.yaml:8: modells: unknown field; did you mean models?",
    ]
    assert problems(text) == found
    with pytest.raises(ConfigError) as refused:
        parse(text)
    assert refused.value.message == f"{found[0]} (and 5 more; `aspired config check models.yaml` lists them all)"


def test_refuses_two_models_with_one_name_and_no_name() -> None:
    text = "models:\n- {name: m, base_path: /a}\n- {name: n, base_path: /b}\n- {name: m, base_path: /c}"
    assert problems(text) == ["models.yaml:4: models[2].name: m is the name of models[0] too"]
    assert problems("models: [{name: '', base_path: /a}]") == ["models.yaml:1: models[0].name: expected text that is not empty"]


@pytest.mark.parametrize("text", ["[]", "5"])
def test_refuses_a_file_without_fields(text: str) -> None:
    assert problems(text) == ["models.yaml:1: the file: expected fields, each written name: value"]


def test_a_text_file_under_a_native_name_is_told_apart() -> None:
    assert problems("# Models\nmodel_config_list { config { name: 'm' } }") == [
        "models.yaml:2: model_config_list: this is TensorFlow Serving's text form; its name must not end in .yaml or .yml"
    ]


def test_a_file_that_is_not_yaml_is_one_problem() -> None:
    (problem,) = problems("models:\n - name: m\n   base_path: /m\n  oops")
    assert problem.startswith("models.yaml:4: not valid YAML: ")


def test_names_that_end_in_yaml_are_native() -> None:
    assert [is_native(name) for name in ("a.yaml", "/b/a.yml", "a.YAML", "models.config", "yaml", "a.yaml.bak", "")] == [
        True,
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def test_travels_to_actors() -> None:
    config = parse("models: [{name: m, base_path: /m, batching: {max_batch_size: 4}, warmup: {iterations: 2}}]")
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(config.models[0].settings) == hash(pickle.loads(pickle.dumps(config.models[0].settings)))


NAMES = st.text(min_size=1, max_size=8)
COUNTS = st.integers(1, 100)
SWITCH = st.booleans()
BATCHING = st.fixed_dictionaries(
    {},
    optional={
        "enabled": SWITCH,
        "max_batch_size": st.just(64),
        "batch_timeout_micros": COUNTS,
        "max_enqueued_batches": COUNTS,
        "num_batch_threads": COUNTS,
        "thread_pool_name": NAMES,
        "pad_variable_length_inputs": SWITCH,
        "enable_large_batch_splitting": SWITCH,
        "max_execution_batch_size": COUNTS,
    },
)
MODELS = st.fixed_dictionaries(
    {"name": NAMES, "base_path": st.builds("/{}".format, st.text(max_size=8))},
    optional={
        "platform": st.sampled_from(["tensorflow", "hashmap"]),
        "version_policy": st.sampled_from(["all", "latest", {"latest": 2}, {"specific": [3, 1]}, {"specific": []}]),
        "version_labels": st.dictionaries(NAMES, st.integers(0, 2**63 - 1), max_size=2),
        "request_logging": st.fixed_dictionaries({"filename_prefix": st.just("/var/log/m"), "sampling_rate": st.floats(0, 1)}),
        "replicas": COUNTS,
        "resources": st.fixed_dictionaries(
            {}, optional={"cpus": st.floats(0, 8), "memory": COUNTS, "gpu": st.sampled_from(["shared", "exclusive", "none"])}
        ),
        "node_labels": st.dictionaries(NAMES, NAMES, max_size=2),
        "version_transition": st.sampled_from(["availability_preserving", "resource_preserving"]),
        "batching": BATCHING,
        "warmup": st.fixed_dictionaries(
            {}, optional={"replay_records": SWITCH, "iterations": COUNTS, "all_batch_sizes": SWITCH}
        ),
        "platform_options": st.fixed_dictionaries(
            {},
            optional={
                "saved_model_tags": st.lists(NAMES, min_size=1, max_size=2),
                "intra_op_parallelism_threads": COUNTS,
                "inter_op_parallelism_threads": COUNTS | st.just(-1),
                "prefer_tflite_model": SWITCH,
                "num_tflite_pools": COUNTS,
                "num_tflite_interpreters_per_pool": COUNTS,
            },
        ),
    },
)


@given(st.lists(MODELS, max_size=3, unique_by=lambda model: str(model["name"])))
def test_what_is_read_is_written_and_read_back_the_same(models: list[dict[str, Any]]) -> None:
    config = parse(yaml_text({"models": models}))
    again = parse(yaml_text(native_form(config)))
    assert again == config
    assert native_form(again) == native_form(config)


KNOWN = st.sampled_from(
    [
        "models",
        "unknown",
        *(
            name
            for fields in (ModelFields, VersionPolicyFields, RequestLoggingFields, ResourceFields, BatchingFields, WarmupFields)
            for name in fields.model_fields
        ),
    ]
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["all", "2GiB", "none", "/m"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KNOWN, inner, max_size=4),
)


@given(ANYTHING | st.fixed_dictionaries({"models": st.lists(st.dictionaries(KNOWN, ANYTHING, max_size=6), max_size=3)}))
def test_whatever_is_wrong_is_a_line_each(value: Any) -> None:
    text = yaml_text(value)
    for problem in read_native_config(text, "f.yaml").problems:
        assert problem.startswith("f.yaml:")
        assert "\n" not in problem


@given(st.text(alphabet=":-[]{}&*<!#'\"\n\t, amodels|>%@?", max_size=60))
def test_whatever_is_no_yaml_is_one_line(text: str) -> None:
    for problem in read_native_config(text, "f.yaml").problems:
        assert problem.startswith("f.yaml")
        assert "\n" not in problem
