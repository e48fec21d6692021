"""Run as `unshare --net python cable_pulled.py`: a PLC whose cable is pulled, in a network of its own.

Prints "ready" when a result is on show, and "cleared" when it was taken back.
"""

import subprocess
import time
from dataclasses import replace

from peers import a_verdict, plc_client, until

from edge.outputs.modbus import ModbusServer
from edge.outputs.modbus_settings import server_settings
from edge.plc.handshake import Mode
from edge.plc.link import PlcLink
from edge.plc.registers import Control, Status

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
link = PlcLink(Mode.IDS, budget_ns=10**12)
output = ModbusServer(server_settings("modbus-tcp-server://127.0.0.1:0?handshake=ids"), link)
output.beat(1, healthy=True)
with plc_client(output.port) as plc:
    assert plc.write_multiple_registers(0, [Control.ENABLE])
    assert plc.write_multiple_registers(1, [0, 7])
    request = link.wait(5.0)
    assert request is not None
    output.send(replace(a_verdict(1), part_id=7, request=request.number))
    assert link.block()[0] & Status.RESULT_VALID
    print("ready", flush=True)
    subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
    began = time.monotonic()
    assert until(lambda: not link.block()[0] & (Status.RESULT_VALID | Status.READY), 30.0)
    assert link.block()[0] & Status.ONLINE
    print("cleared", round(time.monotonic() - began, 1), flush=True)
output.close()
