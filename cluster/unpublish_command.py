"""`aspired unpublish`."""

from __future__ import annotations

import click

from cluster.bench_command import HasTerminal
from cluster.core.errors import ConfigError


@click.command(short_help="Delete published versions.")
@click.argument("base_path")
@click.argument("versions", nargs=-1, type=click.IntRange(min=0), metavar="[VERSION]...")
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Delete all but the newest N whole versions.")
@click.option("--server", metavar="URL", help="Ask this server what it serves: http://HOST:8501 or grpc://HOST:8500.")
@click.option("--model", metavar="NAME", help="The model's name there. By default the base path's last part.")
@click.option("--force", is_flag=True, help="Delete a VERSION even if it is, or may be, served or at work on.")
@click.option("--dry_run", "--dry-run", is_flag=True, help="Show what would be deleted; delete nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def unpublish(
    shared: HasTerminal,
    /,
    base_path: str,
    versions: tuple[int, ...],
    keep: int | None,
    server: str | None,
    model: str | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Delete versions under BASE_PATH: a directory, or s3://, gs:// or az://BUCKET/PREFIX. Their numbers are not used again.

    \b
    Delete a version that a server has no use for any more:
      aspired unpublish s3://models/chopsticks 3 --server http://localhost:8501
    Keep the newest five, and whatever is served:
      aspired unpublish s3://models/chopsticks --keep 5 --server http://localhost:8501
    Remove what a publisher that died has left of version 8:
      aspired unpublish s3://models/chopsticks 8

    What the server has, or is loading, is refused, or kept under --keep; without a server the newest whole version is refused.
    """
    from cluster import client
    from cluster.publishing_report import print_removal, removal_json

    if not versions and keep is None:
        raise ConfigError("say which versions to delete: numbers after BASE_PATH, or --keep=N (see aspired unpublish --help)")
    removal = client.unpublish(base_path, versions, keep=keep, server=server, model=model, force=force, dry_run=dry_run)
    if as_json:
        shared.terminal.write(removal_json(removal))
    else:
        print_removal(shared.terminal, removal, dry_run=dry_run)
    return 0
