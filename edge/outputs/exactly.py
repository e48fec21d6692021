"""So many bytes from a socket, in so much time altogether."""

import socket
import time


def exactly(connection: socket.socket, count: int, within_s: float) -> bytes:
    """A socket's own time-out begins anew with every byte: a peer that trickles would hold us for hours.

    Raises OSError: nothing more came in time, or the other side hung up.
    """
    ends_s, found = time.monotonic() + within_s, b""
    while len(found) < count:
        left_s = ends_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left_s)
        part = connection.recv(count - len(found))
        if not part:
            raise ConnectionError("it hung up")
        found += part
    connection.settimeout(within_s)
    return found
