"""The command line of `aspired serve`: TF Serving's flags and ours, parsed into `ServerOptions`.

`--flag=value` and `--flag value` mean the same; a bool flag may stand bare. The last of a repeated flag counts. TF Serving
prints an unknown flag and goes on; here it is an error, because the flag that was meant would be missing.
"""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Iterator, Sequence

from cluster.config.flag import Flag, Group, Value
from cluster.config.server_options import SERVER_FLAGS, ServerOptions
from cluster.core.errors import ConfigError


class Information(enum.Enum):
    """What was asked for in place of a server."""

    HELP = "help"
    VERSION = "version"


_INFORMATION = {"-h": Information.HELP, "--help": Information.HELP, "--version": Information.VERSION}
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


def parse_flags(arguments: Sequence[str]) -> ServerOptions | Information:
    """The options that `arguments` ask for. Raises ConfigError for the first argument that cannot be used."""
    values: dict[str, Value] = {}
    for name, text in _pairs(arguments):
        if name in _INFORMATION:
            return _INFORMATION[name]
        flag = _find(name)
        values[flag.name] = _parse(flag, text)
    return ServerOptions(**values)  # type: ignore[arg-type]


def flag_groups() -> dict[Group, list[Flag]]:
    """The flags as the help shows them."""
    groups: dict[Group, list[Flag]] = {group: [] for group in Group}
    for flag in SERVER_FLAGS.values():
        groups[flag.declaration.group].append(flag)
    return groups


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each flag as it is written, and its value: None where a flag stands bare."""
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        if not argument.startswith("-") or argument in ("-", "--"):
            raise ConfigError(f"unexpected argument {argument!r}: flags are written --name=value")
        name, equals, text = argument.partition("=")
        if equals:
            yield name, text
        elif position < len(arguments) and _takes(name, arguments[position]):
            yield name, arguments[position]
            position += 1
        else:
            yield name, None


def _takes(name: str, following: str) -> bool:
    """Whether the argument after a flag without "=" is its value."""
    flag = SERVER_FLAGS.get(name.removeprefix("--"))
    if flag is None:
        return False
    if flag.kind is bool:
        return following.lower() in _BOOLS
    return not following.startswith("--")


def _find(name: str) -> Flag:
    flag = SERVER_FLAGS.get(name.removeprefix("--")) if name.startswith("--") else None
    if flag is not None:
        return flag
    bare = name.lstrip("-").replace("-", "_").lower()
    positive = SERVER_FLAGS.get(bare.removeprefix("no_").removeprefix("no"))
    if positive is not None and positive.kind is bool and positive.name != bare:
        raise ConfigError(f"unknown flag {name}; did you mean --{positive.name}=false?")
    near = difflib.get_close_matches(bare, SERVER_FLAGS, n=1)
    hint = f"did you mean --{near[0]}?" if near else "`aspired serve --help` lists them all"
    raise ConfigError(f"unknown flag {name}; {hint}")


def _parse(flag: Flag, text: str | None) -> Value:
    if text is None:
        if flag.kind is bool:
            return True
        raise ConfigError(f"--{flag.name} needs a value: {flag.usage}")
    try:
        value = _convert(flag, text)
    except ValueError:
        value = None
    if value is None or not flag.allows(value):
        raise ConfigError(f"--{flag.name}={text}: expected {flag.expected}")
    return value


def _convert(flag: Flag, text: str) -> Value:
    """The value that `text` stands for; None or ValueError when it stands for none."""
    if flag.kind is bool:
        return _BOOLS.get(text.lower())
    if flag.kind is int:
        return int(text) if _WHOLE_NUMBER.fullmatch(text) else None
    if flag.kind is float:
        number = float(text)
        return number if number - number == 0 else None  # neither infinite nor NaN
    return text
