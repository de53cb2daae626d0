"""The page docs/flags.md, made from the flags: `python -m cluster.config.flag_reference > docs/flags.md`."""

from __future__ import annotations

from cluster.config.flag import Flag
from cluster.config.flags import flag_groups

_INTRODUCTION = """\
# Flags of `aspired serve`

Made from `cluster/config/server_options.py` by `python -m cluster.config.flag_reference`; do not edit.

Names and defaults are TensorFlow Serving's, so a `tensorflow_model_server` command line works as it is. Write
`--flag=value` or `--flag value`; a flag that is true or false may stand bare. Of a repeated flag the last one counts. An
unknown flag is an error.

The last column: **yes**, the flag works; **needless**, it is accepted because what it tunes does not exist here.
"""


def flag_reference() -> str:
    sections = [_INTRODUCTION]
    for group, flags in flag_groups().items():
        sections.append(
            f"## {group.value}\n\n| flag | default | meaning | works |\n|---|---|---|---|\n" + "".join(map(_row, flags))
        )
    return "\n".join(sections)


def _row(flag: Flag) -> str:
    works = "needless" if flag.needless else "yes"
    return f"| `{flag.usage}` | {flag.default_text} | {flag.declaration.help} | {works} |\n"


if __name__ == "__main__":
    print(flag_reference(), end="")
