"""Job files as text: a YAML reader that remembers lines and refuses tricks.

Owns bytes → plain Python values (dict, list, str, int, float, bool, None) and the line of
each. Knows nothing of what a job means. Only the YAML 1.2 core schema is read: no tags, no
aliases (so no "billion laughs"), no duplicate keys, ``yes`` is a string and ``1e-4`` a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from distclust.errors import ConfigError

__all__ = ["KeyPath", "YamlDocument", "parse_yaml", "read_yaml"]

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_DIGITS = 40  # of an integer; nothing in a job needs more

KeyPath = tuple[str | int, ...]


class _CoreLoader(yaml.SafeLoader):
    """Composes nodes only; scalars resolve by the YAML 1.2 core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's interface)

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem=f"alias *{event.anchor}: aliases are not accepted, write the value out",
                problem_mark=event.start_mark,
            )
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {MAX_DEPTH} levels",
                problem_mark=self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


@dataclass(frozen=True)
class YamlDocument:
    """A parsed document.

    Attributes
    ----------
    value : object
        Dicts with string keys, lists and scalars.
    lines : dict
        The line (from 1) on which each key path was written.
    """

    value: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)


def read_yaml(path: str | Path) -> YamlDocument:
    """Read a YAML file of at most 1 MiB.

    Raises
    ------
    ConfigError
        The file is missing, too large, not UTF-8 or not plain YAML.
    """
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot read the job file {str(path)!r}: {reason}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes; that is not a job file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> YamlDocument:
    """Parse YAML text; `where` names it in messages.

    Raises
    ------
    ConfigError
        With the line of what cannot be read.

    Examples
    --------
    >>> parse_yaml("tol: 1e-4\\nnames: [a, b]", "job.yaml").value
    {'tol': 0.0001, 'names': ['a', 'b']}
    """
    lines: dict[KeyPath, int] = {}
    try:
        loader = _CoreLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        return YamlDocument(None if node is None else _plain(node, (), lines), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error
    except (ValueError, OverflowError) as error:  # an escape that is no character
        raise ConfigError(f"{where}: {error}") from error


def _plain(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        _expect_tag(node, "map")
        return _mapping(node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        _expect_tag(node, "seq")
        return [_plain(item, (*path, i), lines) for i, item in enumerate(node.value)]
    return _scalar(node)


def _mapping(node: yaml.MappingNode, path: KeyPath, lines: dict[KeyPath, int]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _problem(key_node, "a key must be a plain word")
        key = key_node.value
        if key in result:
            raise _problem(key_node, f"the key {key!r} is written twice")
        lines[(*path, key)] = key_node.start_mark.line + 1
        result[key] = _plain(value_node, (*path, key), lines)
    return result


def _scalar(node: yaml.Node) -> str | int | float | bool | None:
    text: str = node.value
    if getattr(node, "style", None) is not None:  # quoted
        _expect_tag(node, "str")
        return text
    match node.tag.removeprefix("tag:yaml.org,2002:"):
        case "str":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" if len(text) <= MAX_DIGITS:
            return int(text)
        case "int":
            raise _problem(node, f"an integer of {len(text)} digits")
        case "float":
            return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    raise _problem(node, f"tag {node.tag!r} is not accepted")


def _expect_tag(node: yaml.Node, kind: str) -> None:
    if node.tag != f"tag:yaml.org,2002:{kind}":
        raise _problem(node, f"tag {node.tag!r} is not accepted")


def _problem(node: yaml.Node, text: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)
