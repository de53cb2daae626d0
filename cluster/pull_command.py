"""`aspired pull`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cluster.bench_command import HasTerminal

if TYPE_CHECKING:
    from cluster.client import TransferProgress


@click.command(short_help="Copy a published version to a directory.")
@click.argument("base_path")
@click.argument("target", type=click.Path())
@click.option("--version", type=click.IntRange(min=0), metavar="N", help="Which one. By default the newest that is whole.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def pull(shared: HasTerminal, /, base_path: str, target: str, version: int | None, as_json: bool) -> int:
    """Copy a version under BASE_PATH to the directory TARGET, which must not exist or be empty.

    \b
      aspired pull s3://models/chopsticks ./chopsticks
      aspired pull s3://models/chopsticks ./chopsticks-7 --version 7

    Every file is checked against the version's manifest, and TARGET appears whole or not at all. It can be published again.
    """
    from cluster import client
    from cluster.publishing_report import content_text, pulled_json

    terminal = shared.terminal
    with terminal.progress() as show:

        def report(progress: TransferProgress) -> None:
            text = f"Pulling {content_text(progress.files, progress.size_bytes)}"
            show(text, progress.bytes_done, progress.size_bytes)

        pulled = client.pull(base_path, target, version, progress=report)
    if as_json:
        terminal.write(pulled_json(pulled))
        return 0
    content = content_text(pulled.files, pulled.size_bytes)
    checked = "every checksum is right" if pulled.verified else "it has no manifest, so nothing could be verified"
    terminal.print(f"Pulled version {pulled.version} to {pulled.path}: {content}; {checked}.")
    return 0
