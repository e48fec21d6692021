"""Outputs behind one Protocol. To add one: a file here, one `case` below, one line in the contract test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from edge.errors import InspectError
from edge.outputs.addresses import check_address
from edge.plc.handshake import Mode
from edge.plc.link import PlcLink
from edge.plc.remote import Desk
from edge.verdict import Verdict

SCHEMES = (
    "jsonl:-",
    "jsonl:FILE",
    "serial:///dev/ttyUSB0",
    "tcp://PLC:PORT",
    "tcp-server://0.0.0.0:PORT",
    "modbus-tcp://PLC",
    "modbus-tcp-server://0.0.0.0",
    "modbus-rtu:///dev/ttyUSB0",
    "modbus-rtu-server:///dev/ttyUSB0",
    "modbus-tcp-io://MODULE",
    "modbus-rtu-io:///dev/ttyUSB0",
    "gpio:///dev/gpiochip0",
    "s7://PLC",
    "ethernet-ip://PLC/SLOT",
    "mqtt://BROKER/TOPIC",
    "mqtts://BROKER/TOPIC",
    "opc-ua://0.0.0.0",
)
NO_BITS = ("serial:", "tcp:", "tcp-server:", "mqtt:", "mqtts:", "opc-ua:")  # they say a part's number alone
WITH_REGISTERS = (
    "modbus-tcp:", "modbus-tcp-server:", "modbus-rtu:", "modbus-rtu-server:", "s7:", "ethernet-ip:",
)  # fmt: skip
WIRED = ("gpio:", "modbus-tcp-io:", "modbus-rtu-io:")  # a trigger among them is their handshake


class Output(Protocol):
    """One place that verdicts go to. Lives in its outbox's thread, so it may block up to its own timeout."""

    @property
    def uri(self) -> str:
        """What the user typed, without password."""

    def send(self, verdict: Verdict) -> None:
        """Publish one verdict. Raises OutputLost."""

    def beat(self, counter: int, healthy: bool) -> None:
        """Show life, four times a second; `healthy` False means: the loop is stalled. Raises OutputLost."""

    def close(self) -> None:
        """Withdraw the verdict and let go; may be called twice."""


def open_output(uri: str, recipe_number: int = 1) -> Output:
    """Open once. Raises InspectError for a URI nobody knows, OutputLost when nobody is there."""
    return output_opener(uri, recipe_number)()


def output_opener(uri: str, recipe_number: int = 1, link: PlcLink | None = None) -> Callable[[], Output]:
    """Check the URI now, connect when called: what an Outbox wants, as it opens again after a loss.

    All connections of one opener share one link: SEQUENCE and counters go on after an outage. Give the link
    where the PLC triggers; its mode is that of the URI. Raises InspectError for an unknown scheme or setting.
    """
    check_address(uri)
    link = link or PlcLink(handshake_of(uri), recipe_number)
    match uri.partition(":")[0]:
        case "jsonl":
            from edge.outputs.jsonl import JsonLines

            return lambda: JsonLines(uri)
        case "serial":
            from edge.outputs.serial_line import open_serial, port_settings

            port = port_settings(uri)
            return lambda: open_serial(port, link)
        case "tcp":
            from edge.outputs import tcp_line

            line = tcp_line.client_settings(uri)
            return lambda: tcp_line.open_client(line, link)
        case "tcp-server":
            from edge.outputs import tcp_line

            own_line = tcp_line.server_settings(uri)
            return lambda: tcp_line.TcpServerLine(own_line, link)
        case "modbus-tcp":
            from edge.outputs.modbus import ModbusClient
            from edge.outputs.modbus_settings import client_settings

            plc = client_settings(uri)
            return lambda: ModbusClient(plc, link)
        case "modbus-tcp-server":
            from edge.outputs.modbus import ModbusServer
            from edge.outputs.modbus_settings import server_settings

            own = server_settings(uri)
            return lambda: ModbusServer(own, link)
        case "s7":
            from edge.outputs.plc_address import s7_address

            s7_plc = s7_address(uri)
            with extra("s7", uri):
                from edge.outputs.s7 import S7Client

            return lambda: S7Client(s7_plc, link)
        case "ethernet-ip":
            from edge.outputs.plc_address import tag_address

            logix = tag_address(uri)
            with extra("ethernet-ip", uri):
                from edge.outputs.ethernet_ip import EthernetIpClient

            return lambda: EthernetIpClient(logix, link)
        case "mqtt" | "mqtts":
            from edge.outputs.mqtt_settings import mqtt_settings

            broker = mqtt_settings(uri)
            with extra("mqtt", uri):
                from edge.outputs.mqtt import Mqtt

            dialect, desk = broker.dialect(), Desk()
            return lambda: Mqtt(broker, link, dialect, desk)
        case "opc-ua":
            from edge.outputs.opcua_settings import opcua_settings
            from edge.plc.vision import VisionLine

            opcua, vision = opcua_settings(uri), VisionLine()
            with extra("opcua", uri):
                from edge.outputs.opcua import OpcUaServer

            return lambda: OpcUaServer(opcua, link, vision)
        case "modbus-rtu":
            from edge.outputs.modbus import ModbusClient
            from edge.outputs.modbus_settings import rtu_settings

            slave = rtu_settings(uri, is_server=False)
            return lambda: ModbusClient(slave, link)
        case "modbus-rtu-server":
            from edge.outputs.modbus import ModbusServer
            from edge.outputs.modbus_settings import rtu_settings

            bus = rtu_settings(uri, is_server=True)
            return lambda: ModbusServer(bus, link)
        case "modbus-tcp-io" | "modbus-rtu-io":
            from edge.outputs.discrete_io import DiscreteOutput
            from edge.outputs.remote_io import CoilModule, module_settings

            module = module_settings(uri)
            return lambda: DiscreteOutput(uri, module.wiring, lambda: CoilModule(module), link)
        case "gpio":
            from edge.outputs.discrete_io import DiscreteOutput

            with extra("gpio", uri):
                from edge.outputs.gpio import GpioLines, gpio_settings

            board = gpio_settings(uri)
            return lambda: DiscreteOutput(uri, board.wiring, lambda: GpioLines(board), link)
    raise InspectError(f"unknown output {uri!r}", "output", f"Known are: {', '.join(SCHEMES)}")


def caution_of(uri: str) -> str:
    """What a person should know before this output is opened; "" where there is nothing."""
    if uri.startswith("opc-ua:") and dict(parse_qsl(urlsplit(uri).query)).get("security") == "none":
        return (
            "opc-ua with security=none: whoever reaches this port can read all and trigger, without password"
        )
    return ""


def handshake_of(uri: str) -> Mode:
    """`handshake=bits` or `ids` behind the `?`, or `trigger=` where lines are wired; without it free run.

    Raises InspectError for other words.
    """
    if uri.startswith("jsonl:"):
        return Mode.FREE_RUN
    check_address(uri)
    settings = dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))
    if uri.startswith(WIRED):
        return Mode.IDS if "trigger" in settings else Mode.FREE_RUN
    wanted = settings.get("handshake", Mode.FREE_RUN.value)
    has_bits = not uri.startswith(NO_BITS)
    known = [mode.value for mode in Mode if has_bits or mode is not Mode.BITS]
    if wanted not in known:
        raise InspectError(f"handshake={wanted} is not usable", uri, f"Give one of: {', '.join(known)}.")
    return Mode(wanted)


def takes_recipes(uri: str) -> bool:
    """True where somebody can load another recipe: by EXEC_COMMAND, by the line RCP or over OPC UA."""
    match uri.partition(":")[0]:
        case "opc-ua":
            return True
        case "serial" | "tcp" | "tcp-server":
            return "dialect" not in dict(parse_qsl(urlsplit(uri).query))
        case "jsonl" | "mqtt" | "mqtts":
            return False
    return has_registers(uri) and handshake_of(uri) is not Mode.FREE_RUN


def has_registers(uri: str) -> bool:
    """True where registers 0..27 come from the PLC, with ENCODER and REJECT_CONFIRMED."""
    return uri.startswith(WITH_REGISTERS)


def shows_gate(uri: str) -> bool:
    """True where register GATE is there as soon as it changes: what is written into a PLC that does not
    trigger comes with its verdicts and beats alone."""
    asking = (has_registers(uri) or uri.startswith("opc-ua:")) and handshake_of(uri) is not Mode.FREE_RUN
    return asking or uri.startswith("modbus-tcp-server:")


def is_information(uri: str) -> bool:
    """True where nobody acts on a verdict at once, so that a late one, marked as such, is still of use."""
    return uri.partition(":")[0] in ("jsonl", "mqtt", "mqtts")


def kept_verdicts(uri: str) -> int:
    """How many verdicts wait while the other side is away; the newest stay. Raises InspectError."""
    if not uri.startswith(("mqtt:", "mqtts:")):
        return 100
    from edge.outputs.mqtt_settings import keep

    return keep(uri)


def settings_of(uri: str, known: tuple[str, ...]) -> dict[str, str]:
    """What stands behind the `?` of a URI. Raises InspectError for a setting that is not in `known`."""
    settings = dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))
    for name in settings:
        if name not in known:
            raise InspectError(f"unknown setting {name!r}", uri, f"Known are: {', '.join(known)}")
    return settings


def whole_number(settings: dict[str, str], name: str, default: int, limits: range, uri: str) -> int:
    """One setting as a number. Raises InspectError outside `limits`."""
    text = settings.get(name, str(default))
    if not (text.isascii() and text.isdigit() and int(text) in limits):
        hint = f"Give a number from {limits.start} to {limits.stop - 1}."
        raise InspectError(f"{name}={text} is not usable", uri, hint)
    return int(text)


@contextmanager
def extra(name: str, uri: str) -> Iterator[None]:
    """Say which extra brings a library that not everybody has. Raises InspectError."""
    try:
        yield
    except ModuleNotFoundError as error:
        hint = f"Install it: pip install 'edge-inspect[{name}]'"
        library = str(error.name).partition(".")[0]
        raise InspectError(f"{library} is not installed", uri, hint) from error
