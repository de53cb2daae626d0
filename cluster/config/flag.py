"""How a command-line flag is declared: on the field of an options class that holds its value."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str | None


class Group(enum.Enum):
    """A section of the help."""

    MODELS = "Models"
    LISTENERS = "Listeners"
    BATCHING = "Batching"
    LOADING = "Loading and unloading"
    TENSORFLOW = "TensorFlow"
    CLUSTER = "Ray cluster"
    OPERATIONS = "Operations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a field's metadata says of its flag; name, type and default are the field's own.

    `metavar` stands for the value in the help; `choices` and the bounds (inclusive) limit it; `default_text` describes a
    default that its value does not explain. A `needless` flag is accepted in silence: what it tunes does not exist here, and no
    answer depends on it.
    """

    group: Group
    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    default_text: str = ""
    needless: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: its declaration and what the field itself says. `kind` is bool, int, float or str."""

    name: str
    kind: type[bool] | type[int] | type[float] | type[str]
    default: Value
    declaration: Declaration

    @property
    def needless(self) -> bool:
        return self.declaration.needless

    @property
    def usage(self) -> str:
        """The flag as the help writes it: `--port=PORT`."""
        if self.kind is bool:
            return f"--{self.name}"
        return f"--{self.name}={self.declaration.metavar or self.kind.__name__.upper()}"

    @property
    def default_text(self) -> str:
        if self.declaration.default_text:
            return self.declaration.default_text
        if self.kind is bool:
            return str(self.default).lower()
        return str(self.default) if self.default != "" else "none"

    @property
    def expected(self) -> str:
        """What a value has to be, for an error."""
        if self.declaration.choices:
            return "one of " + ", ".join(choice or "nothing" for choice in self.declaration.choices)
        noun = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[self.kind]
        lowest, highest = self.declaration.minimum, self.declaration.maximum
        if lowest is not None and highest is not None:
            return f"{noun} from {lowest} to {highest}"
        if lowest is not None:
            return f"{noun}, {lowest} or more"
        return noun

    def allows(self, value: Value) -> bool:
        """Whether a value of the right type is within the declaration's bounds; the default always is."""
        if value == self.default:
            return True
        if self.declaration.choices:
            return value in self.declaration.choices
        if isinstance(value, str) or value is None:
            return True
        lowest, highest = self.declaration.minimum, self.declaration.maximum
        return (lowest is None or value >= lowest) and (highest is None or value <= highest)


_METADATA_KEY = "flag"


def flag(default: Value, group: Group, help: str, **details: Any) -> Any:
    """The field of an options class for one flag; `details` are those of `Declaration`."""
    return dataclasses.field(default=default, metadata={_METADATA_KEY: Declaration(group=group, help=help, **details)})


def declared_flags(options: type) -> dict[str, Flag]:
    """Every flag that an options class declares, by name, in its order."""
    annotations = typing.get_type_hints(options)
    flags = {}
    for field in dataclasses.fields(options):
        default: Any = field.default
        flags[field.name] = Flag(field.name, _kind(annotations[field.name]), default, field.metadata[_METADATA_KEY])
    return flags


def _kind(annotation: Any) -> Any:
    if isinstance(annotation, types.UnionType):  # `int | None`: a default that no number stands for
        return next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    return annotation
