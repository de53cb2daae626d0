"""The command line.

`aspired serve | status | shutdown`, `publish | versions | pull | unpublish`, `config | bench | version`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import click

from cluster.bench_command import INTERRUPTED, bench
from cluster.config.flags import Information, parse_flags
from cluster.config.native_config import is_native
from cluster.config.native_config_text import native_config_text
from cluster.config.server_config import ServerConfig, parse_model_config_file, read_config_text, read_server_config
from cluster.config_report import check_config_file, print_config_report
from cluster.core.errors import AspiredError, ConfigError, NotFound
from cluster.publish_command import publish
from cluster.pull_command import pull
from cluster.serve_help import print_serve_help
from cluster.server_status import ServerStatus
from cluster.status_report import print_status
from cluster.terminal import Terminal
from cluster.unpublish_command import unpublish
from cluster.versions_command import versions


class Launcher(Protocol):
    """What the commands need of the part that knows Ray: the module `cluster.launcher`, or a fake in tests."""

    def serve(self, config: ServerConfig) -> int:
        """Serves until told to stop, or detaches; returns the exit status."""

    def status(self, ray_address: str | None, server_name: str | None) -> list[ServerStatus]:
        """The servers on a Ray cluster; None stands for the cluster that can be found, and for every server."""

    def shutdown(self, ray_address: str | None, server_name: str | None) -> list[str]:
        """Stops servers, draining them first; returns their names."""


def _ray_launcher() -> Launcher:
    # Ray takes a second or more to import: only the commands that need it pay.
    import cluster.launcher

    return cluster.launcher


def main(
    arguments: Sequence[str] | None = None,
    launcher: Callable[[], Launcher] = _ray_launcher,
    terminal: Terminal | None = None,
) -> int:
    """Runs one command and returns its exit status: 0, 1 for a failure, 2 for a wrong command line or config, 130 for Ctrl-C.

    `arguments` are those of the process unless given. What fails is told in one line.
    """
    terminal = terminal or Terminal()
    try:
        status = _aspired.main(
            None if arguments is None else list(arguments),
            prog_name="aspired",
            standalone_mode=False,
            obj=_Commands(launcher, terminal),
        )
    except ConfigError as error:
        terminal.error(error.message)
        return 2
    except AspiredError as error:
        terminal.error(error.message)
        return 1
    except click.exceptions.NoArgsIsHelpError as error:
        terminal.note(error.format_message())
        return 2
    except click.UsageError as error:
        terminal.error(_usage_message(error))
        return 2
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`aspired status | head -1`); Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        terminal.error(f"{type(error).__name__}: {error} (this is a bug in Aspired; the traceback is in {_write_traceback()})")
        return 1
    return status if isinstance(status, int) else 0


class _Commands:
    """What the commands share."""

    def __init__(self, launcher: Callable[[], Launcher], terminal: Terminal) -> None:
        self.launcher = launcher
        self.terminal = terminal


_OF_CLUSTER = click.option(
    "--ray_address", metavar="ADDRESS", help="The Ray cluster: HOST:PORT. By default the one of this machine."
)
_OF_SERVER = click.option("--server_name", metavar="NAME", help="One server of several on the cluster. By default all.")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Flags of the server: `aspired serve --help`. Aspired keeps TensorFlow Serving's flags, ports, REST and gRPC.",
)
def _aspired() -> None:
    """Serve TensorFlow models on a Ray cluster, as TensorFlow Serving does on one machine.

    \b
    Serve a model (its versions are /models/half_plus_two/1, /2, ...):
      aspired serve --model_name=half_plus_two --model_base_path=/models/half_plus_two --rest_api_port=8501
    Ask it something:
      curl -d '{"instances": [1.0, 2.0, 5.0]}' http://localhost:8501/v1/models/half_plus_two:predict
    See what is loaded, where, and why something is not:
      aspired status
    Publish the next version, and wait until it answers:
      aspired publish ./export /models/half_plus_two --wait http://localhost:8501
    How fast is it?
      aspired bench http://localhost:8501 --model half_plus_two
    """


@_aspired.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Serve models until Ctrl-C.",
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def serve(commands: _Commands, flags: tuple[str, ...]) -> int:
    options = parse_flags(flags)
    if options is Information.HELP:
        print_serve_help(commands.terminal)
        return 0
    if options is Information.VERSION:
        return _print_versions(commands.terminal)
    return commands.launcher().serve(read_server_config(options))


@_aspired.command()
@_OF_SERVER
@_OF_CLUSTER
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object for each server.")
@click.pass_obj
def status(commands: _Commands, server_name: str | None, ray_address: str | None, as_json: bool) -> int:
    """Show servers, their models and versions, and the nodes they use."""
    servers = commands.launcher().status(ray_address, server_name)
    if as_json:
        commands.terminal.write(json.dumps([server.model_dump(mode="json") for server in servers], indent=2) + "\n")
        return 0
    if not servers:
        raise _no_server(server_name, ray_address)
    for number, server in enumerate(servers):
        if number:
            commands.terminal.print()
        print_status(commands.terminal, server)
    return 0


@_aspired.command()
@_OF_SERVER
@_OF_CLUSTER
@click.pass_obj
def shutdown(commands: _Commands, server_name: str | None, ray_address: str | None) -> int:
    """Stop servers. Requests under way finish first, and other people's work on the cluster is left alone."""
    stopped = commands.launcher().shutdown(ray_address, server_name)
    if not stopped:
        raise _no_server(server_name, ray_address)
    for name in stopped:
        commands.terminal.print(f"Server {name} has stopped.")
    return 0


@_aspired.group()
def config() -> None:
    """Look at model config files, without a server."""


_CONFIG_FILE = click.argument("file", type=click.Path())


@config.command()
@_CONFIG_FILE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with the models as a native config has them.")
@click.pass_obj
def check(commands: _Commands, file: str, as_json: bool) -> int:
    """Check FILE, what --model_config_file names, and show its models.

    A native config (*.yaml, *.yml) or TensorFlow Serving's text form. Every error is one line, and the status then is 2.
    """
    report = check_config_file(file)
    if as_json:
        commands.terminal.write(report.to_json())
    else:
        print_config_report(commands.terminal, report)
    return 2 if report.errors else 0


@config.command()
@_CONFIG_FILE
@click.pass_obj
def convert(commands: _Commands, file: str) -> int:
    """Print FILE, in TensorFlow Serving's text form, as a native config: aspired config convert FILE > models.yaml"""
    if is_native(file):
        raise ConfigError(f"{file} is a native config already")
    models = parse_model_config_file(read_config_text(file, file), file)
    commands.terminal.write(native_config_text(models, file))
    return 0


@_aspired.command()
@click.pass_obj
def version(commands: _Commands) -> int:
    """Show the versions of Aspired, TensorFlow and Ray."""
    return _print_versions(commands.terminal)


for _command in (publish, versions, pull, unpublish, bench):
    _aspired.add_command(_command)


def _print_versions(terminal: Terminal) -> int:
    for name, distribution in (("Aspired", "aspired"), ("TensorFlow", "tensorflow"), ("Ray", "ray")):
        try:
            terminal.print(f"{name} {importlib.metadata.version(distribution)}")
        except importlib.metadata.PackageNotFoundError:
            terminal.print(f"{name} is not installed")
    return 0


def _no_server(server_name: str | None, ray_address: str | None) -> NotFound:
    server = f"No server named {server_name}" if server_name else "No server"
    return NotFound(
        f"{server} runs on {ray_address or 'the Ray cluster of this machine'}; `aspired serve --help` shows how to start one"
    )


def _usage_message(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption) and error.ctx is not None and error.ctx.parent is None:
        return f"{error.format_message()} The server's flags follow the word serve: aspired serve {error.option_name}=..."
    return error.format_message()


def _write_traceback() -> Path:
    with tempfile.NamedTemporaryFile("w", prefix="aspired-error-", suffix=".log", delete=False) as file:
        traceback.print_exc(file=file)
    return Path(file.name)


if __name__ == "__main__":
    sys.exit(main())
