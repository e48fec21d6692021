"""OPC UA clients in processes of their own, driven by one and the same orders: asyncua and node-opcua.

node-opcua shares no code with the product's library: `npm install --prefix tests/opcua_peers`.
"""

import json
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from peers import until

HERE = Path(__file__).parent / "opcua_peers"
PEERS = ("asyncua", "node-opcua")
ANSWER_S = 60.0  # on a machine that has much else to do
AUTOMATIC = "VisionSystem.VisionStateMachine.AutomaticModeStateMachine"
MACHINE = "VisionSystem.VisionStateMachine"
RECIPES, RESULTS = "VisionSystem.RecipeManagement", "VisionSystem.ResultManagement"
MEAS, PART, EXTERNAL, INTERNAL, PRODUCT, RESULT, CONFIGURATION, JOB = (
    3015, 3004, 3002, 3013, 3003, 3021, 3008, 3016,
)  # fmt: skip
RESULT_READY = "i=1024"


class PeerError(Exception):
    """The other side said no; the text is its own."""


class OpcUaPeer:
    """One client. `seen` and `events` fill as notices come."""

    def __init__(self, kind: str) -> None:
        command = [sys.executable, str(HERE / "client.py")] if kind == "asyncua" else _node()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.seen: list[tuple[str, Any]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.old: set[str] = set()  # results that were there before this test
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """One order; raises PeerError with what the client says went wrong."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self._process.stdin.flush()
        answer = self._answers.get(timeout=ANSWER_S)
        if "error" in answer:
            raise PeerError(answer["error"])
        given: dict[str, Any] = answer["answer"]
        return given

    def read(self, *nodes: str) -> list[Any]:
        """The values of one Read request; for a bad one the name of its status."""
        values: list[Any] = self.ask("read", nodes=nodes)["values"]
        return values

    def call(self, method: str, *arguments: list[Any]) -> list[Any]:
        """The outputs of a method that was carried out, whatever its Error says."""
        place, _, name = method.rpartition(".")
        answer = self.ask("call", object=place, method=name, arguments=arguments)
        assert answer["status"] == "Good", answer
        outputs: list[Any] = answer["outputs"]
        return outputs

    def start(
        self, how: str, part: str = "", meas: str = "", recipe: str = "", product: str = ""
    ) -> list[Any]:
        """Job id and Error of StartSingleJob or StartContinuous."""
        ids = [["struct", meas, MEAS], ["struct", part, PART], ["struct", recipe, EXTERNAL]]
        job, error = self.call(f"{AUTOMATIC}.{how}", *ids, ["struct", product, PRODUCT], ["variants", []])
        return [job["Id"], error]

    def state(self) -> list[Any]:
        """Outer and inner state by name."""
        return self.read(f"{MACHINE}.CurrentState", f"{AUTOMATIC}.CurrentState")

    def results(self) -> list[dict[str, Any]]:
        """The fields of every ResultReady event of this test so far."""
        told = [fields for kind, fields in list(self.events) if kind.endswith(RESULT_READY)]
        return [fields for fields in told if fields["ResultId"]["Id"] not in self.old]

    def found(self, part: str = "", state: int = 0) -> list[str]:
        """The ids of the results that the server has, oldest first."""
        ids = [("", MEAS), (part, PART), ("", EXTERNAL), ("", INTERNAL), ("", CONFIGURATION),
               ("", CONFIGURATION), ("", PRODUCT), ("", JOB)]  # fmt: skip
        numbers = [["uint32", 0], ["uint32", 0], ["int32", 0]]
        structs = [["struct", *each] for each in ids]
        answer = self.call(f"{RESULTS}.GetResultListFiltered", ["int32", state], *structs, *numbers)
        whole, count, handle, listed, error = answer
        assert (whole, count, handle, error) == (True, len(listed), 0, 0)
        return [each["ResultId"]["Id"] for each in listed]

    def begin(self) -> None:
        """A new test: what was before does not count."""
        self.old = set(self.found())
        self.seen.clear()

    def kill(self) -> None:
        """As a client whose cable is pulled: no word of farewell."""
        self._process.kill()
        self._end()

    def close(self) -> None:
        """Leave as a client should."""
        if self._process.poll() is None:
            self.ask("close")
        self._end()

    def _end(self) -> None:
        self._process.wait(ANSWER_S)
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "seen" in message:
                self.seen.append((message["seen"], message["value"]))
            elif "event" in message:
                self.events.append((message["event"], message["fields"]))
            else:
                self._answers.put(message)
        self._answers.put({"error": "the client has ended"})


@contextmanager
def opcua_peer(kind: str) -> Iterator[OpcUaPeer]:
    """A client that is not connected yet."""
    peer = OpcUaPeer(kind)
    try:
        yield peer
    finally:
        peer.close()


def shows(peer: OpcUaPeer, node: str, value: Any) -> bool:
    """Wait until a variable reads so."""
    return until(lambda: peer.read(node) == [value], ANSWER_S)


def _node() -> list[str]:
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules" / "node-opcua-client").is_dir():
        pytest.skip("no node-opcua: apt-get install nodejs npm; npm install --prefix tests/opcua_peers")
    return [node, str(HERE / "client.js")]
