"""What is wrong with a job, as lines a person can act on.

Owns the wording of validation errors: where a key was written, its full path, and which
key was probably meant. Decides nothing about what is valid.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from distclust.errors import ConfigError
from distclust.runner.secrets import scrub
from distclust.runner.yamlfile import KeyPath

__all__ = ["Problem", "ProblemReport"]

SHOWN = 60  # characters of a wrong value
LISTED = 20  # problems in one message
CLOSE = 0.6


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes
    ----------
    path : tuple
        Keys and list positions down to it.
    message : str
        What is wrong, without the path.
    found : str
        The offending value as text, or empty where it says nothing.
    choices : tuple of str
        Words that would have been right.
    unknown : bool
        Whether the key itself is the problem.
    """

    path: KeyPath
    message: str
    found: str = ""
    choices: tuple[str, ...] = ()
    unknown: bool = False

    @classmethod
    def of(cls, prefix: KeyPath, detail: Mapping[str, Any]) -> Problem:
        """Translate one entry of ``ValidationError.errors()``."""
        path = (*prefix, *detail["loc"])
        found = _shown(detail.get("input"))
        match detail["type"]:
            case "extra_forbidden":
                return cls(path, "unknown key", unknown=True)
            case "missing":
                return cls(path, "is required")
            case "job":
                return cls((*path, *detail["ctx"]["path"]), detail["ctx"]["message"])
            case "literal_error":
                expected = str(detail["ctx"]["expected"])
                choices = tuple(re.findall(r"'([^']*)'", expected))
                return cls(path, f"must be {expected}", found, choices)
            case "string_type" if isinstance(detail["input"], bool | int | float):
                return cls(path, "must be text; put it in quotes", found)
            case "tuple_type" | "list_type":
                return cls(path, "must be a list", found)
            case "model_type" | "model_attributes_type" | "dict_type":
                return cls(path, "must hold keys and values", found)
            case "too_short" | "string_too_short":
                return cls(path, "must not be empty")
        text = detail["msg"].removeprefix("Input ").replace("should", "must")
        return cls(path, text, found)

    def joined(self, other: Problem) -> Problem:
        """Both alternatives of one value as one problem."""
        second = other.message.removeprefix("must be ")
        message = f"{self.message} or {second}" if second != other.message else self.message
        return replace(self, message=message, choices=self.choices + other.choices)


class ProblemReport:
    """Words problems with their source and the nearest valid key.

    Parameters
    ----------
    problems : sequence of Problem
    models : mapping
        The model that describes each key path; deeper models are found by their fields.
    sources : mapping
        Where each key path was written.
    default_source : str
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        models: Mapping[KeyPath, type[BaseModel]],
        sources: Mapping[KeyPath, str],
        default_source: str,
    ) -> None:
        self._problems, self._sources = problems, sources
        self._default = default_source
        self._keys = [path for start, model in models.items() for path in _keys(model, start)]

    def error(self) -> ConfigError:
        """All problems as one error, a line each."""
        lines = [self._line(problem) for problem in self._merged()]
        if len(lines) > LISTED:
            lines = [*lines[:LISTED], f"... and {len(lines) - LISTED} more problems"]
        return ConfigError(scrub("\n".join(lines)))

    def _merged(self) -> list[Problem]:
        """One problem a path, and none where a part of that value has one of its own."""
        merged: dict[KeyPath, Problem] = {}
        for problem in self._problems:
            path = self._written(problem.path)
            known = merged.get(path)
            merged[path] = known.joined(problem) if known else replace(problem, path=path)
        inner = {path[:n] for path in merged for n in range(len(path))}
        return [p for path, p in merged.items() if path not in inner or not p.choices]

    def _line(self, problem: Problem) -> str:
        path = problem.path
        got = f", got {problem.found}" if problem.found else ""
        hint = ""
        if problem.unknown:
            hint = self._nearest(path)
        elif problem.choices:
            near = difflib.get_close_matches(problem.found.strip("'"), problem.choices, 1, CLOSE)
            hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{self._source(path)}: {dotted(path)}: {problem.message}{got}{hint}"

    def _written(self, path: KeyPath) -> KeyPath:
        """Drop what pydantic adds to a path: names of union members after the last key."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._sources or path[:length] in self._keys:
                rest = path[length:]
                if rest and isinstance(rest[0], str) and path[:length] in self._keys:
                    return path[:length] + tuple(part for part in rest if isinstance(part, int))
                return path
        return path

    def _source(self, path: KeyPath) -> str:
        for length in range(len(path), 0, -1):
            if path[:length] in self._sources:
                return self._sources[path[:length]]
        return self._default

    def _nearest(self, path: KeyPath) -> str:
        siblings = {str(key[-1]): key for key in self._keys if key[:-1] == path[:-1]}
        near = difflib.get_close_matches(str(path[-1]), siblings, 1, CLOSE)
        if near:
            return f"; did you mean {dotted(siblings[near[0]])}?"
        elsewhere = {str(key[-1]): key for key in self._keys}
        near = difflib.get_close_matches(str(path[-1]), elsewhere, 1, 0.8)
        if near:
            return f"; did you mean {dotted(elsewhere[near[0]])}?"
        return f"; known keys here: {', '.join(siblings)}" if siblings else ""


def dotted(path: KeyPath) -> str:
    """Write a path as ``a.b[0].c``.

    Examples
    --------
    >>> dotted(("input", "columns", 0))
    'input.columns[0]'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "job"


def _keys(model: type[BaseModel], start: KeyPath) -> Iterator[KeyPath]:
    for name, field in model.model_fields.items():
        yield (*start, name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys(inner, (*start, name))


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer too long to print
        text = f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
