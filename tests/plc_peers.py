"""The other side of plc_process.py: a PLC that can be asked, frozen, killed and started again on its port."""

import json
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from peers import free_port, until

SCRIPT = Path(__file__).with_name("plc_process.py")
URIS = {"s7": "s7://127.0.0.1:{}?db=100", "ethernet-ip": "ethernet-ip://127.0.0.1:{}/0?tag=EdgeInspect"}


class PlcProcess:
    """Use as a context manager; `kind` is an output's scheme."""

    def __init__(self, kind: str, *settings: str) -> None:
        self.kind, self._settings, self.port = kind, settings, free_port()
        self.start()

    @property
    def uri(self) -> str:
        """For the station; more settings may be added with `&`."""
        return URIS[self.kind].format(self.port)

    def start(self) -> None:
        words = [sys.executable, str(SCRIPT), self.kind, str(self.port), *self._settings]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == '"up"\n', "the PLC did not start"
        assert until(self._listens, timeout_s=30)

    def ask(self, *command: object) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def station(self) -> list[int]:
        """Registers 100..149 as they stand in the PLC."""
        return [int(word) for word in self.ask("get", 100, 50)]

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def __enter__(self) -> "PlcProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
            return True
        return False
