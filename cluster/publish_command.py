"""`aspired publish`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from cluster.bench_command import INTERRUPTED, HasTerminal
from cluster.core.errors import AspiredError, ConfigError
from cluster.terminal import Terminal

if TYPE_CHECKING:
    from cluster.client import PublishProgress


@click.command(short_help="Publish a model as the next version, for servers to load.")
@click.argument("export_dir", type=click.Path())
@click.argument("base_path")
@click.option("--version", type=click.IntRange(min=0), metavar="N", help="Its number. By default the next one.")
@click.option("--annotate", "annotations", multiple=True, metavar="KEY=VALUE", help="Kept in the manifest; may be repeated.")
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Delete all but the newest N whole versions afterwards.")
@click.option("--wait", "server", metavar="URL", help="Wait until this server has the version, http://HOST:8501 or grpc://.")
@click.option("--model", metavar="NAME", help="The model's name there. By default the base path's last part.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    metavar="SECONDS",
    show_default=True,
    help="How long to wait.",
)
@click.option("--platform", metavar="NAME", help="For what is neither a SavedModel nor a TFLite model, which are recognized.")
@click.option("--dry_run", "--dry-run", is_flag=True, help="Check the export and show what would be published; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def publish(
    shared: HasTerminal,
    /,
    export_dir: str,
    base_path: str,
    version: int | None,
    annotations: tuple[str, ...],
    keep: int | None,
    server: str | None,
    model: str | None,
    timeout_s: float,
    platform: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Publish what EXPORT_DIR holds as a new version under BASE_PATH: a directory, or s3://, gs:// or az://BUCKET/PREFIX.

    The export is checked first: a SavedModel must have its graph, all its variables and its assets. Servers then see all of the
    version or nothing of it, and no two publishers get the same number.

    \b
    Publish the next version of a model:
      aspired publish ./export s3://models/chopsticks
    Publish it, and see it served (the model is called chopsticks there):
      aspired publish ./export s3://models/chopsticks --wait http://localhost:8501
    Say where it comes from, and keep five versions:
      aspired publish ./export /shared/models/chopsticks --annotate commit=$(git rev-parse HEAD) --keep 5 --wait ...
    Look at an export without publishing it:
      aspired publish ./export s3://models/chopsticks --dry-run

    Ctrl-C removes what was written. Afterwards: aspired versions BASE_PATH, aspired unpublish BASE_PATH VERSION.
    """
    from cluster import client
    from cluster.publishing_report import content_text, print_removal, print_signatures, publication_json

    terminal = shared.terminal
    annotated = _annotations(annotations)
    if dry_run:
        return _dry_run(terminal, export_dir, base_path, version, platform, as_json)
    begun = time.monotonic()
    try:
        with terminal.progress() as show:
            publication = client.publish(
                export_dir,
                base_path,
                version=version,
                annotations=annotated,
                keep=keep,
                platform=platform,
                server=server,
                model=model,
                timeout_s=timeout_s,
                progress=_progress(show, server),
            )
    except (AspiredError, KeyboardInterrupt) as error:
        for note in getattr(error, "__notes__", ()):
            terminal.note(note)
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        raise
    if as_json:
        terminal.write(publication_json(publication))
        return 0
    print_signatures(terminal, publication.signatures, publication.remarks)
    content = content_text(publication.files, publication.size_bytes)
    took = f"after {time.monotonic() - begun:.1f} s"
    terminal.print(f"Published version {publication.version} in {publication.path}: {content}, {took}.", "bold green")
    if server is not None:
        terminal.print(f"{server} has it AVAILABLE.")
    if publication.removed is not None:
        print_removal(terminal, publication.removed)
    return 0


def _dry_run(
    terminal: Terminal, export_dir: str, base_path: str, version: int | None, platform: str | None, as_json: bool
) -> int:
    from cluster.publishing.export import read_export
    from cluster.publishing.publisher import check_base_path, number_to_be
    from cluster.publishing_report import content_text, dry_run_json, print_signatures
    from cluster.storage.storages import Storages

    storages = Storages()
    base_path = check_base_path(storages, base_path)
    export = read_export(export_dir, platform)
    number = number_to_be(storages, base_path, version)
    path = storages.join(base_path, str(number))
    if as_json:
        terminal.write(dry_run_json(number, path, len(export.files), export.size_bytes, export.signatures))
        return 0
    print_signatures(terminal, export.signatures, export.remarks)
    content = content_text(len(export.files), export.size_bytes)
    terminal.print(f"Would publish version {number} in {path}: {content}. Nothing was written.")
    return 0


def _annotations(pairs: Sequence[str]) -> dict[str, str]:
    annotations = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--annotate={pair}: expected KEY=VALUE, as in --annotate=accuracy=0.93")
        annotations[key.strip()] = value
    return annotations


def _progress(show: Callable[[str, int, int], None], server: str | None) -> Callable[[PublishProgress], None]:
    from cluster.client import Step
    from cluster.publishing_report import content_text

    def report(progress: PublishProgress) -> None:
        moved = progress.transfer
        text = f"Uploading version {progress.version}: {content_text(moved.files, moved.size_bytes)}"
        if progress.step is Step.WAITING:
            text = f"Version {progress.version} is published; waiting for {server}"
        show(text, moved.bytes_done, moved.size_bytes)

    return report
