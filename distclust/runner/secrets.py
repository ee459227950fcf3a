"""Keeps passwords and tokens out of whatever a job writes or prints.

`distclust.data.scrub` knows URIs; this adds what stands beside them: assignments such as
``token=…`` and HTTP authorization headers.
"""

from __future__ import annotations

import re
from typing import Any

from distclust.data import scrub as scrub_uris

__all__ = ["scrub", "scrub_tree"]

_NAMES = (
    r"[\w.-]*(?:password|passwd|secret|token|signature|credential|access_?key(?:_?id)?"
    r"|api_?key|account_?key|private_?key)[\w-]*|sig|sas|pwd"
)
_ASSIGNED = re.compile(
    rf"(?P<name>(?<![\w-])(?:{_NAMES}))(?P<equals>['\"]?\s*=\s*['\"]?)[^\s&'\",;}}*]+",
    re.IGNORECASE,
)
_AUTHORIZATION = re.compile(r"(?P<name>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}")


def scrub(text: str) -> str:
    """Return `text` with URI credentials, tokens and passwords replaced by ``***``.

    Examples
    --------
    >>> scrub("s3://me:hunter2@bucket/rows, aws_secret_key=abc")
    's3://***@bucket/rows, aws_secret_key=***'
    """
    text = _ASSIGNED.sub(r"\g<name>\g<equals>***", scrub_uris(text))
    return _AUTHORIZATION.sub(r"\g<name>***", text)


def scrub_tree(value: Any) -> Any:
    """Apply `scrub` to every string of nested dicts, lists and tuples."""
    match value:
        case str():
            return scrub(value)
        case dict():
            return {key: scrub_tree(item) for key, item in value.items()}
        case list() | tuple():
            return [scrub_tree(item) for item in value]
    return value
