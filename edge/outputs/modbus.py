"""Modbus in both roles over one register image; TCP or, on a serial line, RTU.

modbus-tcp://PLC            modbus-rtu:///dev/ttyUSB0         the station writes its block into the PLC
modbus-tcp-server://0.0.0.0 modbus-rtu-server:///dev/ttyUSB0  the PLC reads the block and writes its own
"""

from collections.abc import Sequence

from edge.errors import OutputLost
from edge.outputs.block_client import BlockClient, Step
from edge.outputs.modbus_settings import Settings
from edge.outputs.modbus_wire import PORT_HINT, Master, RegisterServer
from edge.plc.link import PlcLink
from edge.plc.registers import PLC_COUNT, PLC_START
from edge.verdict import Verdict

WRITE_HINT = "Make holding registers 100..149 (+ offset) writable in the PLC; or set unit and offset."
READ_HINT = "A handshake needs holding registers 0..27 (+ offset) in the PLC; or set unit and offset."


class ModbusClient(BlockClient):
    """The station writes into the PLC's holding registers, with FC16."""

    def __init__(self, settings: Settings, link: PlcLink) -> None:
        self._settings, self._master = settings, Master(settings)
        super().__init__(settings.uri, link, settings.word_order)

    def _write_registers(self, steps: Sequence[Step]) -> None:
        try:
            for register, values in steps:
                self._master.write_registers(register + self._settings.offset, values, WRITE_HINT)
        except OutputLost as error:
            raise self._fail(error.what, error.next_step) from error

    def _read_registers(self, address: int, count: int) -> list[int]:
        try:
            return self._master.read_registers(address + self._settings.offset, count, READ_HINT)
        except OutputLost as error:
            raise self._fail(error.what, error.next_step) from error

    def _disconnect(self) -> None:
        self._master.close()


class ModbusServer:
    """The PLC reads from the station. Every read is one snapshot, by FC03 or FC04.

    Over TCP any unit id is answered, on a serial line the station's own. With a handshake the PLC is whoever
    has written: when that connection goes, what was shown to it is taken back.
    """

    def __init__(self, settings: Settings, link: PlcLink) -> None:
        self._settings, self._link = settings, link
        link.withdraw()
        link.begin_at_zero()
        block = range(PLC_START, PLC_COUNT)
        try:
            self._server = RegisterServer(
                settings.host, settings.port, block, self._read, self._written, link.hang_up, settings
            )
        except Exception as error:  # beside OSError what the terminal's driver says of a parity
            hint = "Choose a free port (`ss -ltn`); one below 1024 needs rights (cap_net_bind_service)."
            hint = hint if settings.serial is None else PORT_HINT
            raise OutputLost(f"cannot listen: {error}", settings.uri, hint) from error
        self.uri = settings.uri
        self.port = self._server.port

    def send(self, verdict: Verdict) -> None:
        """Show it to whoever reads. Raises OutputLost when the server has ended."""
        self._check()
        self._link.publish(verdict)

    def beat(self, counter: int, healthy: bool) -> None:
        """Count HEARTBEAT, or take the verdict back. Raises OutputLost when the server has ended."""
        self._check()
        self._link.beat(counter, healthy)

    def close(self) -> None:
        """Take the verdict back and end every connection."""
        self._link.withdraw()
        self._server.close()

    def _check(self) -> None:
        if not self._server.alive:
            raise OutputLost("the Modbus server has ended", self.uri, "It is opened again by the outbox.")

    def _read(self) -> list[int]:
        return self._link.block(self._settings.word_order)

    def _written(self, registers: list[int]) -> None:
        self._link.plc_wrote(registers[PLC_START:PLC_COUNT], self._settings.word_order)
