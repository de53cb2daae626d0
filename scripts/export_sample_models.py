"""Exports sample models to try a server with: python scripts/export_sample_models.py --out /tmp/models"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.sample_models import export_chopsticks, export_half_plus_two, export_mlp


def _numbers(_context: click.Context, _parameter: click.Parameter, value: str) -> list[int]:
    try:
        versions = [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"expected numbers with commas between them, got {value!r}") from None
    if min(versions) < 0:
        raise click.BadParameter("versions are not negative")
    return versions


@click.command(context_settings={"show_default": True})
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Models go to OUT/<model>/<version>."
)
@click.option("--models", default="chopsticks,half_plus_two,mlp", help="Which ones, with commas between them.")
@click.option("--versions", default="1", callback=_numbers, help="Version numbers, with commas between them.")
@click.option("--offset-by-version", is_flag=True, help="half_plus_two: version v adds 1 + v, so answers name their version.")
def main(out: Path, models: str, versions: list[int], offset_by_version: bool) -> None:
    """Exports sample models. What is already there, from the same generator, is not written again."""
    exports: dict[str, Callable[[int], Path]] = {
        "chopsticks": lambda version: export_chopsticks(out / "chopsticks", version, report=click.echo),
        "half_plus_two": lambda version: export_half_plus_two(
            out / "half_plus_two", version, 1.0 + version if offset_by_version else 2.0
        ),
        "mlp": lambda version: export_mlp(out / "mlp", version),
    }
    names = models.split(",")
    unknown = [name for name in names if name not in exports]
    if unknown:
        raise click.BadParameter(f"unknown {', '.join(unknown)}; known are {', '.join(exports)}", param_hint="--models")
    for name in names:
        for version in versions:
            started = time.monotonic()
            directory = exports[name](version)
            click.echo(f"{name}/{version}: {directory} ({time.monotonic() - started:.1f} s)")


if __name__ == "__main__":
    # Exporting needs no device, and TensorFlow's start-up notes would bury the progress.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
