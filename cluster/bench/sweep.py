"""The values that a flag runs through: `8`, `1,8,32`, `100:1000:100` or `1:64:x2`."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.core.errors import ConfigError

MAX_POINTS = 100
_FORMS = "expected a number, a list (1,8,32), or FROM:TO:STEP where STEP is added (100:1000:100) or xFACTOR (1:64:x2)"
_ROUNDING = 1e-9


def parse_sweep(flag: str, text: str) -> tuple[float, ...]:
    """The values in the order in which they are written, TO included where the steps meet it.

    Raises ConfigError, which names `flag`, for another form, for values that are not above zero, and for more than MAX_POINTS.
    """
    values: list[float] = []
    for item in text.split(","):
        for value in _values(flag, text, item.strip()):
            values.append(value)
            if len(values) > MAX_POINTS:
                raise ConfigError(f"{flag}={text}: more than {MAX_POINTS} values; use a larger step")
    return tuple(values)


def parse_whole_sweep(flag: str, text: str) -> tuple[int, ...]:
    """`parse_sweep` for what is counted. Raises ConfigError for a value with a fraction, too."""
    values = parse_sweep(flag, text)
    for value in values:
        if value != int(value):
            raise ConfigError(f"{flag}={text}: {value:g} is not a whole number")
    return tuple(map(int, values))


def _values(flag: str, text: str, item: str) -> Iterator[float]:
    parts = item.split(":")
    if len(parts) == 1:
        yield _positive(flag, text, item)
        return
    if len(parts) != 3:
        raise ConfigError(f"{flag}={text}: {_FORMS}")
    first, last = _positive(flag, text, parts[0]), _positive(flag, text, parts[1])
    if last < first:
        raise ConfigError(f"{flag}={text}: {last:g} is below {first:g}; {_FORMS}")
    limit = last * (1 + _ROUNDING)
    if parts[2].startswith("x"):
        factor = _positive(flag, text, parts[2][1:])
        if factor <= 1:
            raise ConfigError(f"{flag}={text}: the factor must be above 1")
        value = first
        while value <= limit:
            yield value
            value *= factor
    else:
        step = _positive(flag, text, parts[2])
        count = 0
        while first + count * step <= limit:
            yield first + count * step
            count += 1


def _positive(flag: str, text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        raise ConfigError(f"{flag}={text}: {_FORMS}") from None
    if not 0 < value < float("inf"):
        raise ConfigError(f"{flag}={text}: {number} is not above zero")
    return value
