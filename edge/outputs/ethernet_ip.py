"""EtherNet/IP as client: the register map as two arrays of INT. The only file that knows pycomm3.

pycomm3 brings session, connection and paths; its own tag functions first read all tags of the controller,
which takes seconds, so the two services that we need are asked for here (cip_services.py), several in one
request.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from pycomm3 import (
    PADDED_EPATH,
    CIPDriver,
    CommError,
    DataSegment,
    LogicalSegment,
    PycommError,
)

from edge.errors import OutputLost
from edge.outputs.block_client import BlockClient, Step
from edge.outputs.cip_services import SEVERAL, TagRefused, answers, read, registers, several, write
from edge.outputs.exactly import exactly
from edge.outputs.plc_address import TagAddress
from edge.plc.link import PlcLink
from edge.plc.registers import PLC_START, STATION_COUNT, STATION_START

ROUTER, IDENTITY, GET_ATTRIBUTE, STATUS_WORD = 0x02, 0x01, 0x0E, 0x05
STANDS_STILL = {0x50: "has a major fault", 0x70: "is in program mode"}  # bits 4..7 of the status word
SOME_REFUSED = 0x1E  # status of the whole request where one service in it was refused
HEADER = 24  # bytes before the data of every message


class EthernetIpClient(BlockClient):
    """The station writes one tag of the controller and reads the other."""

    def __init__(self, address: TagAddress, link: PlcLink) -> None:
        self._address = address
        self._driver = _connect(address)
        super().__init__(address.uri, link)

    def _write_registers(self, steps: Sequence[Step]) -> None:
        tag = self._address.tag
        if self._written is None:  # some controllers take INT for any tag; a read tells what it is
            self._read(tag, 0, STATION_COUNT)
        services = [write(_path(tag, at - STATION_START), values) for at, values in steps]
        self._ask(services, f"{tag} as INT[{STATION_COUNT}]")

    def _read_registers(self, address: int, count: int) -> list[int]:
        return self._read(self._address.plc_tag, address - PLC_START, count)

    def _read(self, tag: str, element: int, count: int) -> list[int]:
        wanted = f"{tag} as INT[{element + count}]"
        (answer,) = self._ask([read(_path(tag, element), count)], wanted)
        try:
            return registers(answer, count)
        except ValueError as error:
            raise self._fail(f"the PLC's tag {tag} does not fit: {error}", f"Create {wanted}.") from error

    def _ask(self, services: Sequence[bytes], wanted: str) -> list[bytes]:
        """One request, carried out in its order. The answers' data."""
        reply = self._message(SEVERAL, ROUTER, data=several(services))
        try:
            told = answers(reply, len(services))
        except ValueError as error:
            raise self._gone(error) from error
        if isinstance(told, TagRefused):
            hint = "Its external access must be Read/Write; a tag inside a program is `Program:NAME.TAG`."
            raise self._fail(f"the PLC refuses its tag: {told.why}", f"Create {wanted}. {hint}")
        return told

    def _message(self, service: int, what: int, attribute: int | bytes = b"", data: bytes = b"") -> bytes:
        """Ask instance 1 of a class; the answer's data.

        Unconnected: a connection that is lost stays in the controller for 18 minutes, and it has not many.
        """
        try:
            packet = self._driver.generic_message(
                service, what, 1, attribute, data,
                connected=False, unconnected_send=True, return_response_packet=True,
            ).value  # fmt: skip
        except (PycommError, OSError) as error:
            raise self._gone(error) from error
        if packet.error and packet.service_status != SOME_REFUSED:
            hint = "Give the controller's slot: ethernet-ip://HOST/SLOT; a CompactLogix has slot 0."
            why = f": {packet.error}" if packet.service_status else ""
            raise self._fail(f"no controller answers in slot {self._address.slot}{why}", hint)
        return bytes(packet.data)

    def _check_running(self) -> None:
        """A controller in program mode takes what is written and does nothing with it."""
        with self._using:
            status = self._message(GET_ATTRIBUTE, IDENTITY, attribute=STATUS_WORD)
        if status and (why := STANDS_STILL.get(status[0] & 0xF0)):
            hint = "No part is sorted now: switch the controller to RUN."
            raise OutputLost(f"the PLC {why}", self._address.uri, hint)

    def _gone(self, error: Exception) -> OutputLost:
        self._driver.drop()
        return self._fail(
            f"the PLC stopped answering: {_reason(error)}", "Check cable and PLC; is it switched on?"
        )

    def _disconnect(self) -> None:
        with suppress(PycommError, OSError):
            self._driver.close()  # type: ignore[no-untyped-call]


class _Driver(CIPDriver):
    """The library's receive() never ends where the PLC hangs up, or trickles, in the middle of an answer."""

    def drop(self) -> None:
        """Close without another word to a PLC that does not answer."""
        if self._sock is not None:
            self._sock.close()  # type: ignore[no-untyped-call]
        with suppress(PycommError, OSError):
            self.close()  # type: ignore[no-untyped-call]

    def _receive(self) -> bytes:
        assert self._sock is not None
        read, within_s = partial(exactly, self._sock.sock), float(self.socket_timeout)
        reply = read(HEADER, within_s)
        return reply + read(int.from_bytes(reply[2:4], "little"), within_s)


def _connect(address: TagAddress) -> _Driver:
    driver = _Driver(f"{address.host}:{address.port}/bp/{address.slot}")
    driver.socket_timeout = address.timeout_s
    try:
        if not driver.open():  # type: ignore[no-untyped-call]
            raise CommError("it gives no session")
    except (PycommError, OSError) as error:
        driver.drop()
        hint = f"Try `ping {address.host}`; then check port {address.port} and firewall."
        raise OutputLost(f"the PLC does not answer: {_reason(error)}", address.uri, hint) from error
    return driver


def _path(tag: str, element: int) -> bytes:
    segments = [DataSegment(name) for name in tag.split(".")] + [LogicalSegment(element, "member_id")]
    return bytes(PADDED_EPATH.encode(segments, length=True))


def _reason(error: Exception) -> str:
    """The library wraps what happened; the innermost says it."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return str(error)
