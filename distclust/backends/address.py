"""Addresses of clusters: which of them stay on this machine, and who may be joined.

Anyone who reaches a cluster without authentication can run code on it in our name, so
one beyond this machine is joined only with authentication or with explicit leave.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from distclust.errors import ConfigError

__all__ = ["is_loopback", "knock", "refuse_strangers"]


def is_loopback(address: str) -> bool:
    """Whether an address ("host:port", with or without a scheme) stays on this machine.

    Examples
    --------
    >>> is_loopback("tcp://127.0.0.1:8786"), is_loopback("10.0.0.1:6379")
    (True, False)
    """
    host, _ = _host_and_port(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def refuse_strangers(address: str, *, authenticated: bool, insecure: bool, remedy: str) -> None:
    """Raise unless a cluster is on this machine, authenticates, or was given leave.

    Raises
    ------
    ConfigError
        Ends with the `remedy`, or to pass ``insecure=True``.
    """
    if not (authenticated or insecure or is_loopback(address)):
        raise ConfigError(
            f"the cluster at {address!r} is beyond this machine and anyone who reaches it could "
            f"run code on it: {remedy}, or pass insecure=True"
        )


def knock(address: str, timeout: float = 10.0) -> None:
    """Raise OSError if nothing listens at an address within `timeout` seconds."""
    socket.create_connection(_host_and_port(address), timeout).close()


def _host_and_port(address: str) -> tuple[str, int]:
    place = urlsplit(address if "://" in address else f"//{address}")
    return place.hostname or "", place.port or 0
