"""`aspired versions`."""

from __future__ import annotations

import click

from cluster.bench_command import HasTerminal


@click.command(short_help="Show what is published under a base path.")
@click.argument("base_path")
@click.option("--server", metavar="URL", help="Show what this server makes of each, too: http://HOST:8501 or grpc://HOST:8500.")
@click.option("--model", metavar="NAME", help="The model's name there. By default the base path's last part.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object for each version.")
@click.pass_obj
def versions(shared: HasTerminal, /, base_path: str, server: str | None, model: str | None, as_json: bool) -> int:
    """Show the versions under BASE_PATH, newest first: a directory, or s3://, gs:// or az://BUCKET/PREFIX.

    \b
      aspired versions s3://models/chopsticks
      aspired versions s3://models/chopsticks --server http://localhost:8501

    \b
    STATE is one of
      published            whole, as its manifest says
      unmanifested         copied there by other means; servers load it when its files have come to rest
      being published      somebody writes it, or has died doing so: see BY and PUBLISHED (since when)
      being unpublished    somebody deletes it, or has died doing so
      broken               files of its manifest are missing; no server loads it
    What a publisher that died has left is removed with: aspired unpublish BASE_PATH VERSION
    """
    from cluster import client
    from cluster.client.served_model import served_model
    from cluster.publishing_report import print_versions, versions_json

    found = client.versions(base_path)
    with served_model(server, model, base_path) as asked:
        statuses = {status.version: status for status in asked.statuses()} if asked else None
    if as_json:
        shared.terminal.write(versions_json(found, statuses))
    else:
        print_versions(shared.terminal, found, statuses)
    return 0
