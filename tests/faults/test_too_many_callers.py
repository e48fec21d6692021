"""More connections than a PLC ever makes: each is a file that the station could not open any more."""

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from peers import a_verdict, free_port, until

from edge.outputs import open_output
from edge.outputs.callers import MOST_CALLERS

SERVERS = ["modbus-tcp-server://127.0.0.1:{}?handshake=ids", "opc-ua://127.0.0.1:{}?security=none"]
MORE = 20


@contextmanager
def callers(port: int, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            for _ in range(count)
        ]


def hung_up(connections: list[socket.socket]) -> int:
    """On how many of these the station has hung up; none of them has said anything that it could answer."""
    return len(select.select(connections, [], [], 0)[0])


@pytest.mark.parametrize("uri", SERVERS)
def test_who_calls_again_and_again_takes_no_files_from_the_station(uri: str) -> None:
    """The story: a script that polled without hanging up took every file the station may have open; archive
    and engine could open none."""
    port = free_port()
    output = open_output(uri.format(port))
    try:
        with callers(port, MOST_CALLERS + MORE) as connections:
            assert until(lambda: hung_up(connections) == MORE, timeout_s=20)
            output.send(a_verdict(1))
            assert hung_up(connections) == MORE
        assert until(lambda: comes_in(port), timeout_s=20), "there is room again when they have gone"
    finally:
        output.close()


def comes_in(port: int) -> bool:
    with callers(port, 1) as connections:
        return not select.select(connections, [], [], 0.5)[0]
