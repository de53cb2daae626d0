"""Writes chopstick data to train on: python scripts/export_measurements.py --out .aspired/measurements --months 1,2"""

from __future__ import annotations

import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cluster.core.errors import AspiredError
from cluster.publishing.publisher import absolute
from cluster.storage.storages import Storages
from scripts.measurements import generate_measurements


def _months(_context: click.Context, _parameter: click.Parameter, value: str) -> list[int]:
    try:
        months = [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"expected numbers with commas between them, got {value!r}") from None
    if not all(1 <= month <= 999 for month in months):
        raise click.BadParameter("months count from 1 to 999")
    return months


@click.command(context_settings={"show_default": True})
@click.option("--out", required=True, help="A directory, or a bucket and prefix like s3://data/chopsticks.")
@click.option("--months", default="1", callback=_months, help="Which ones, with commas between them. 1 is the sample model's.")
def main(out: str, months: list[int]) -> None:
    """Writes OUT/month_<number>.csv for each month. From the second on, people take part whom no earlier month knows."""
    storages = Storages()
    try:
        for month in months:
            data = generate_measurements(month)
            path = storages.join(absolute(out), f"month_{month:03}.csv")
            storages.writable(path).write(path, data.to_csv().encode())
            click.echo(f"{path}: {len(data)} rows, persons {data.person.min()} to {data.person.max()}")
    except AspiredError as error:
        raise click.ClickException(error.message) from error


if __name__ == "__main__":
    main()
