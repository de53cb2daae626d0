"""Imports go one way, and what is pure stays free of Ray, TensorFlow and gRPC.

The source is read for what each module imports, and a fresh interpreter is asked what that loads.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("cluster", "servables")

# The layers, and which others each may import; None: any. A module belongs to the longest prefix of its name. `cluster` and
# `servables` stand for the modules right in them: each package there has a layer of its own.
CORE = ("cluster.core",)
CONFIG = (*CORE, "cluster.protos", "cluster.config")
PURE_SERVABLES = (*CONFIG, "servables", "servables.batching", "servables.json_codec")
MAY_IMPORT: dict[str, tuple[str, ...] | None] = {
    "cluster.core": (),
    "cluster.protos": (),
    "cluster.config": (*CORE, "cluster.protos"),
    "cluster.storage": CORE,
    "cluster.model_cache": (*CORE, "cluster.storage"),
    "cluster.sources": (*CONFIG, "cluster.storage"),
    "cluster.actors": (*CONFIG, "cluster.sources"),
    "cluster.publishing": (*CORE, "cluster.protos", "cluster.storage", "servables"),
    "cluster.client": (*CORE, "cluster.protos", "cluster.publishing", "cluster.storage", "servables", "servables.json_codec"),
    "cluster.bench": (*CORE, "cluster.protos", "cluster.client", "servables", "servables.json_codec"),
    "servables": PURE_SERVABLES,
    "servables.platforms": (*PURE_SERVABLES, "servables.hashmap", "servables.saved_model", "servables.tflite"),  # the registry
    "servables.batching": PURE_SERVABLES,
    "servables.json_codec": PURE_SERVABLES,
    "servables.hashmap": PURE_SERVABLES,
    "servables.saved_model": PURE_SERVABLES,
    "servables.tflite": PURE_SERVABLES,
    "servables.request_log": (*PURE_SERVABLES, "cluster.storage"),
    "servables.http2": (),
    "servables.frontend": (*PURE_SERVABLES, "servables.request_log", "servables.http2"),
    # Reads requests as a frontend does, from files as its request log writes them too.
    "servables.warmup": (*PURE_SERVABLES, "servables.frontend", "servables.request_log"),
    "servables.lane": (*PURE_SERVABLES, "servables.frontend"),
    "servables.fork_server": (),
    "servables.deployment": (
        *PURE_SERVABLES,
        "servables.fork_server",
        "servables.lane",
        "servables.platforms",
        "servables.warmup",
        "servables.frontend",
        "cluster.actors",
        "cluster.storage",
        "cluster.model_cache",
    ),
    "cluster": None,  # the composition root and the command line
}

HEAVY = ("ray", "tensorflow", "tensorflow_serving")
ACTING = (*HEAVY, "grpc", "asyncio", "threading", "multiprocessing", "time")
PURE_BENCH = (
    "sweep",
    "load",
    "latency_histogram",
    "sample",
    "measurement",
    "point",
    "server_metrics",
    "generated_input",
    "load_request",
    "input_file",
    "report",
)
NEVER_IMPORTS: dict[str, tuple[str, ...]] = {
    "cluster.core": (*HEAVY, "grpc", "asyncio", "threading", "time"),
    "cluster.protos": (*HEAVY, "grpc", "asyncio"),
    "cluster.config": (*HEAVY, "grpc", "asyncio"),
    "cluster.storage": (*HEAVY, "grpc", "asyncio"),
    "cluster.storage.claim": ACTING,
    "cluster.model_cache": (*HEAVY, "grpc", "asyncio"),
    "cluster.model_cache.part": ACTING,
    "cluster.model_cache.eviction": ACTING,
    "cluster.publishing": (*HEAVY, "grpc", "asyncio"),
    **dict.fromkeys(
        (f"cluster.publishing.{module}" for module in ("published_version", "retention", "version_number")), ACTING
    ),
    "cluster.sources": (*HEAVY, "grpc", "asyncio"),
    "cluster.client": HEAVY,
    "cluster.bench": HEAVY,
    **dict.fromkeys((f"cluster.bench.{module}" for module in PURE_BENCH), ACTING),
    "servables": (*HEAVY, "grpc"),
    "servables.batching": (*HEAVY, "grpc"),
    "servables.batching.batch": (*HEAVY, "grpc", "asyncio", "threading"),
    "servables.batching.batch_scheduler": (*HEAVY, "grpc", "asyncio", "threading"),
    "servables.json_codec": (*HEAVY, "grpc", "asyncio"),
    "servables.platforms": (*HEAVY, "grpc"),
    "servables.hashmap": (*HEAVY, "grpc"),
    "servables.saved_model": ("ray", "grpc", "asyncio"),
    "servables.tflite": ("ray", "grpc", "asyncio"),
    "servables.http2": ACTING,
    "servables.frontend": HEAVY,
    "servables.warmup": (*HEAVY, "grpc"),
    "servables.request_log": (*HEAVY, "grpc"),
    "servables.lane": (*HEAVY, "grpc"),
    "servables.fork_server": (*HEAVY, "grpc", "asyncio", "threading"),
    "servables.fork_server.imports": ("tensorflow", "grpc", "asyncio", "threading"),
    "servables.deployment": ("tensorflow", "tensorflow_serving"),
    "cluster.actors": ("tensorflow", "tensorflow_serving", "grpc"),
}

# What a fresh interpreter has not loaded after importing all modules of a package. asyncio is left to the source where
# a library that the package stands on brings it along.
NEVER_LOADS: dict[str, tuple[str, ...]] = {
    "cluster.core": (*HEAVY, "grpc", "asyncio"),
    "cluster.protos": (*HEAVY, "grpc"),
    "cluster.config": (*HEAVY, "grpc"),
    "cluster.storage": (*HEAVY, "grpc"),
    "cluster.model_cache": (*HEAVY, "grpc"),
    "cluster.publishing": (*HEAVY, "grpc"),
    "cluster.sources": (*HEAVY, "grpc"),
    "cluster.client": HEAVY,
    "cluster.bench": HEAVY,
    "servables": (*HEAVY, "grpc"),
    "servables.batching": (*HEAVY, "grpc"),
    "servables.json_codec": (*HEAVY, "grpc"),
    "servables.warmup": (*HEAVY, "grpc"),
    "servables.request_log": (*HEAVY, "grpc"),
    "servables.http2": (*HEAVY, "grpc", "asyncio"),
    "servables.frontend": HEAVY,
    "servables.fork_server": (*HEAVY, "grpc", "asyncio"),
}

LOAD = """
import importlib, json, sys
for module in json.loads(sys.argv[1]):
    importlib.import_module(module)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@cache
def sources() -> dict[str, Path]:
    """Every module of ours, by name; a package goes by its own."""
    found = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def layer_of(module: str) -> str:
    """The layer of a module: the longest prefix of its name in MAY_IMPORT, or its own package when that is in none."""
    parts = module.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    layer = next(name for name in names if name in MAY_IMPORT)
    packages = [name for name in names if name in sources() and sources()[name].name == "__init__.py"]
    return layer if layer not in PACKAGES or packages[0] in PACKAGES else packages[-2]


def rules_of(module: str, rules: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What the rules say of the module itself, else of its layer."""
    return rules.get(module, rules.get(layer_of(module), ()))


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield node.lineno, submodule if submodule in sources() else node.module


@pytest.mark.parametrize("module", sources())
def test_imports_go_one_way(module: str) -> None:
    layer = layer_of(module)
    assert layer in MAY_IMPORT, f"{layer} is in no layer: say in MAY_IMPORT what it may import"
    allowed = MAY_IMPORT[layer]
    ours = [(line, name) for line, name in imports_of(sources()[module]) if name.partition(".")[0] in PACKAGES]
    wrong = [(line, name) for line, name in ours if allowed is not None and layer_of(name) not in (layer, *allowed)]
    assert not wrong, f"{module} is in {layer}, which must not know what it imports here (line, name)"


@pytest.mark.parametrize("module", [module for module in sources() if rules_of(module, NEVER_IMPORTS)])
def test_pure_modules_import_nothing_that_acts(module: str) -> None:
    never = rules_of(module, NEVER_IMPORTS)
    wrong = [(line, name) for line, name in imports_of(sources()[module]) if name.partition(".")[0] in never]
    assert not wrong, f"{module} must stay free of what it imports here (line, name)"


@pytest.mark.parametrize("package", NEVER_LOADS)
def test_a_fresh_interpreter_loads_nothing_heavy(package: str) -> None:
    modules = [module for module in sources() if layer_of(module) == package]
    assert modules
    assert not loaded_by(modules).intersection(NEVER_LOADS[package])


def test_the_client_brings_grpc_only_to_those_who_use_it() -> None:
    assert not loaded_by(["cluster.client"]).intersection({*HEAVY, "grpc"})


def loaded_by(modules: list[str]) -> set[str]:
    """The top-level modules that an interpreter has loaded once it has imported `modules`."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps(modules)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))
