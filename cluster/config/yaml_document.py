"""A YAML document as plain values, with the line that each was written on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml

from cluster.core.errors import ConfigError

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML built without libyaml: the same, only slower
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

MAX_DEPTH = 50

Place = Sequence[str | int]
"""Where a value is: the keys and positions that lead to it from the top."""


class _Loader(_SafeLoader):
    """YAML 1.2's core schema: `on` and `no` are text, and so is `010`, which YAML 1.1 takes for 8."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # PyYAML's own way to begin without YAML 1.1's


class _Dumper(yaml.SafeDumper):
    """Quotes text that would be read as something else."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


for _name, _pattern in (
    ("null", r"|~|null|Null|NULL"),
    ("bool", r"true|True|TRUE|false|False|FALSE"),
    ("int", r"[-+]?(0|[1-9][0-9]{0,18})"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"),
    ("merge", r"<<"),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"^(?:{_pattern})$"), None)


class YamlDocument(NamedTuple):
    """One document. `value` is made of dict, list, str, int, float, bool and None; keys are text."""

    value: Any
    root: yaml.Node | None

    def line(self, place: Place) -> int:
        """The line that `place`, or as much of it as there is, was written on; counted from 1."""
        node, line = self.root, 1
        for step in place:
            if isinstance(node, yaml.MappingNode):
                # Merged keys come before a mapping's own, and the last of a key counts.
                pair = next((pair for pair in reversed(node.value) if pair[0].value == step), None)
                if pair is None:
                    return line
                line, node = _line(pair[0]), pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = _line(node)
            else:
                return line
        return line


def parse_yaml(text: str, path: str) -> YamlDocument:
    """The one document in `text`; nothing in it stands for None. Anchors, aliases and `<<` work.

    Raises ConfigError, with `path` and the line, for text that is not YAML, has a key twice or a tag.
    """
    loader = _Loader(text)
    try:
        _check_depth(text, path)
        root = loader.get_single_node()
        if root is None:
            return YamlDocument(None, None)
        _check(loader, root, path)
        return YamlDocument(loader.construct_document(root), root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ": ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML: {' '.join(what.split())}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()


def yaml_text(value: Any) -> str:
    """Text that `parse_yaml` reads as `value`, in its order."""
    # PyYAML writes some line separators as they are when it may write more than ASCII, and then they are lost.
    return yaml.dump(value, Dumper=_Dumper, allow_unicode=False, sort_keys=False, width=2**31)


def _check_depth(text: str, path: str) -> None:
    """Nodes are made by recursion, in C and without a limit: too deep a document would end the process."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise ConfigError(f"{path}:{line}: not a config: nested too deeply")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check(loader: _SafeLoader, root: yaml.Node, path: str) -> None:
    """Refuses what YAML allows and a config cannot mean; before merging, which repeats keys on purpose."""
    seen: set[int] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if node.tag != _untagged(loader, node):
            raise ConfigError(f"{path}:{_line(node)}: tag {node.tag}: expected a value without a tag")
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            _check_keys([key for key, _ in node.value], path)
            pending += [value for _, value in node.value]


def _check_keys(keys: Sequence[yaml.Node], path: str) -> None:
    lines: dict[str, int] = {}
    for key in keys:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{path}:{_line(key)}: a list or mapping as a key: expected text")
        if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            raise ConfigError(f'{path}:{_line(key)}: key {key.value}: expected text, as in "{key.value}"')
        if key.value in lines:
            raise ConfigError(f"{path}:{_line(key)}: {key.value} is here a second time; it is on line {lines[key.value]} too")
        lines[key.value] = _line(key)


def _untagged(loader: _SafeLoader, node: yaml.Node) -> str:
    """The tag that a node would have if the file gave it none."""
    plain = isinstance(node, yaml.ScalarNode) and not node.style
    tag: str = loader.resolve(type(node), node.value, (plain, not plain))  # type: ignore[no-untyped-call]
    return tag


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1
