"""The help of `aspired serve`."""

from __future__ import annotations

from cluster.config.flag import Flag
from cluster.config.flags import flag_groups
from cluster.terminal import Terminal

_USAGE = """\
Usage: aspired serve --model_base_path=DIRECTORY [flags]
       aspired serve --model_config_file=FILE [flags]

Serves models from their versions' directories until Ctrl-C. The flags are TensorFlow Serving's and a few more, written
--flag=value or --flag value. TensorFlow Serving's clients need no change.

Examples:
  One model, REST and gRPC on the usual ports:
    aspired serve --model_name=half_plus_two --model_base_path=/models/half_plus_two --rest_api_port=8501
  Several models, with batching:
    aspired serve --model_config_file=/models/models.config --rest_api_port=8501 --enable_batching
  On a Ray cluster that runs already, and leave it serving:
    aspired serve --ray_address=auto --detach --model_config_file=/models/models.config --rest_api_port=8501

Then:
    curl -d '{"instances": [1.0, 2.0, 5.0]}' http://localhost:8501/v1/models/half_plus_two:predict
    aspired status
"""


def print_serve_help(terminal: Terminal) -> None:
    terminal.print(_USAGE)
    for group, flags in flag_groups().items():
        shown = [flag for flag in flags if not flag.needless]
        terminal.print(f"{group.value}:", "bold")
        for flag in shown:
            terminal.print(flag.usage, "cyan", indent=2)
            terminal.print(_description(flag), indent=6)
        terminal.print()
    needless = [f"--{flag.name}" for flags in flag_groups().values() for flag in flags if flag.needless]
    terminal.print("Accepted, and not needed here:", "bold")
    for name in needless:
        terminal.print(name, "cyan", indent=2)
    terminal.print()
    terminal.print("  -h, --help    this text\n  --version     the versions of Aspired and TensorFlow")


def _description(flag: Flag) -> str:
    return f"{flag.declaration.help} Default: {flag.default_text}."
