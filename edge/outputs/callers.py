"""Who may call a server of the station's, and whether the caller is still there."""

import socket
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from edge.errors import InspectError

SILENT_S = 5  # the other end has not acknowledged anything for so long: it has gone
MOST_CALLERS = 32  # connections at once: a PLC has one or two; each costs the station a file it may open
KEEPALIVE = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": SILENT_S * 1000}

Network = IPv4Network | IPv6Network


def networks_of(known: dict[str, str], uri: str) -> tuple[Network, ...]:
    """`allow=192.168.0.10,192.168.0.0/24`; without it (), everybody. Raises InspectError.

    An empty list would let everybody in, which nobody means by it.
    """
    if "allow" not in known:
        return ()
    try:
        return tuple(ip_network(text) for text in known["allow"].split(","))
    except ValueError as error:
        hint = "Give addresses or networks, for example allow=192.168.0.10,192.168.1.0/24"
        raise InspectError(f"allow= is not usable: {error}", uri, hint) from error


def may_call(peer: str, allowed: tuple[Network, ...]) -> bool:
    """Whether this address is on the list; on an empty one everybody is."""
    return not allowed or any(ip_address(peer) in network for network in allowed)


def watch_cable(connection: socket.socket) -> None:
    """Whoever is switched off says no goodbye: the system asks, and gives up after SILENT_S."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not every system has each of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
