"""`edge-inspect demo`: the main job without any hardware, on embedded defaults."""

import json
from contextlib import closing
from pathlib import Path

from rich.console import Console

from edge.outputs.plc_sim import SimulatedPlc
from edge.station.capture import Policy
from edge.station.live import summary, summary_table, watched
from edge.station.running import Running, RunOptions

ENGINE = Path(__file__).with_name("demo.onnx")
# Parts that the shipped engine has never seen: training used the first few hundred of seed 1.
LINE = "conveyor:?seed=7&count={count}&fps={fps}&defects=0.25&faults={faults}"
LAST_RESULT_S = 3.0


def run_demo(out: Path, parts: int, fps: float, as_json: bool, console: Console) -> int:
    """Judge `parts` simulated parts, a quarter of them defective, with a camera that is unplugged and a lamp
    that goes out on the way. Returns 0 when the PLC got every verdict."""
    faults = f"unplug@{parts // 3}:2,black@{parts * 2 // 3}:2"
    with closing(SimulatedPlc()) as plc:
        uri = plc.start()
        options = RunOptions(
            LINE.format(count=parts, fps=fps, faults=faults), ENGINE, [uri], policy=Policy.EVERY, save=out
        )
        with watched(options, console, quiet=as_json, transient=False) as running:
            running.station.run()
            plc.wait_for(running.station.counters.total, LAST_RESULT_S)
        received = len(plc.results())
    return _report(running, received, out, as_json, console)


def _report(running: Running, received: int, out: Path, as_json: bool, console: Console) -> int:
    counters = running.station.counters
    if as_json:
        print(json.dumps({"summary": {**summary(running), "plc_received": received}}))
    else:
        console.print(summary_table(running))
        console.print(f"the PLC received {received} of {counters.total} verdicts")
        console.print(_found(running))
        console.print(f"heat maps of the stopped parts: {out.resolve()}")
    return 0 if received == counters.total else 5


def _found(running: Running) -> str:
    by_label = running.station.counters.by_label
    bad = {k: n for k, n in by_label.items() if k[0] != "good"}
    stopped = sum(n for (_, outcome), n in bad.items() if outcome != "pass")
    good = sum(n for (label, _), n in by_label.items() if label == "good")
    passed = by_label["good", "pass"]
    return f"{stopped} of {sum(bad.values())} defective parts stopped, {passed} of {good} good parts passed"
