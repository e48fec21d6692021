"""The engine that was built meanwhile takes over, between two parts."""

import threading

from edge.engines.engine import Opened
from edge.engines.rebuild import Maker, NoEngine, Say
from edge.station.loop import Station
from edge.station.worker import InferenceWorker

JOIN_S = 5.0


class Replacement:
    """A thread that makes an engine beside a running station and puts it in the place of `first`."""

    def __init__(self, maker: Maker, station: Station, first: Opened, say: Say) -> None:
        self._maker, self._station, self._first, self._say = maker, station, first, say
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="rebuild", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it, made or not; may be called twice."""
        self._closed = True
        self._maker.cancel()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        try:
            opened = self._maker.make()
        except Exception as error:  # whatever it is: the station goes on with what it has
            if not self._closed:
                self._give_up(str(error))
            return
        if self._closed:  # while it was being opened
            opened.backend.close()
            return
        worker = InferenceWorker(opened.backend, opened.recipe, opened.artefact.sha256)
        self._station.replace_engine(worker, opened.recipe)
        self._say(f"from the next part on: {opened.path.name}, {opened.recipe.identity}")

    def _give_up(self, why: str) -> None:
        backend = self._first.backend
        if isinstance(backend, NoEngine):
            backend.why = why
        self._say(f"{why} The station goes on with: {backend.name}.")
