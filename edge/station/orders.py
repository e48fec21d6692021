"""What the PLC orders is done here: load a recipe, challenge the station, set the lot.

    PLC --> PlcLink --> [ orders, one after the other ] --> thread "orders" --> station, between two parts

A recipe's engine is opened in this thread while the old one inspects; then, where it has other camera
settings, the camera is opened anew, and no part is seen until the new recipe judges. What could not be done
leaves everything as it was: COMMAND_FAILED, WARNING with its reason code, and one line in the log.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from edge.engines.engine import Opened
from edge.plc.commands import Command, Order
from edge.plc.line_events import Event, Happened
from edge.plc.link import PlcLink
from edge.station.camera_settings import OpenCamera, RecipeCamera
from edge.station.challenge import CHALLENGE, challenge_pictures, surprises
from edge.station.loop import Station, Successor
from edge.station.worker import InferenceWorker
from edge.verdict import Reason

JOIN_S = 5.0

Say = Callable[[str], None]


class RecipeShelf(Protocol):
    """Recipes by number."""

    def open(self, number: int) -> Opened:
        """An engine that is ready. Raises InspectError, also for an unknown number."""

    def folders(self, number: int) -> Sequence[Path]:
        """Where the engines lie, with their challenge pictures: the station's, then those of its views."""


class Orders:
    """What the PLC orders, one after the other. `recipes` says which engine is which number, `camera` is
    the station's with a recipe's settings; None: they are all seen alike."""

    def __init__(
        self, station: Station, recipes: RecipeShelf, say: Say, camera: RecipeCamera | None = None
    ) -> None:
        self._station, self._recipes, self._say, self._camera = station, recipes, say, camera
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._links: list[PlcLink] = []  # a challenge concerns all of them, whoever orders it
        self.challenge_failed = False  # and nobody has looked since
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="orders", daemon=True)
        self._thread.start()

    def obey(self, link: PlcLink) -> None:
        """Take this PLC's orders from now on."""
        self._links.append(link)
        link.obey(lambda order: self._waiting.put(partial(self._carry_out, link, order)))
        link.listen(self._hear)

    def close(self) -> None:
        """End after the order in hand; may be called twice."""
        self._closed = True
        self._waiting.put(None)
        self._thread.join(JOIN_S)

    def _hear(self, event: Event) -> None:
        if event.what is Happened.CLEARED:
            self.challenge_failed = False

    def _run(self) -> None:
        while (task := self._waiting.get()) is not None:
            task()

    def _carry_out(self, link: PlcLink, order: Order) -> None:
        try:
            match order.command:
                case Command.LOAD_RECIPE:
                    self._load(link, order)
                case Command.CHALLENGE:
                    self._hold(True)
                    self._station.between_parts(partial(self._challenge, link, order))
                case Command.SET_LOT:
                    self._station.between_parts(partial(self._set_lot, link, order))
                case Command.RESET_COUNTERS:  # the handshake has done it: the counters are its own
                    self._say("counters reset")
                case _:
                    self._fail(link, order, None, f"command {order.command.name} cannot be carried out here")
        except Exception as error:  # whatever it is: the PLC gets its answer, the station goes on as it was
            self._fail(link, order, Reason.RECIPE_NOT_LOADED, str(error))

    def _load(self, link: PlcLink, order: Order) -> None:
        opened = self._recipes.open(order.argument)
        if self._closed:
            opened.backend.close()
            return
        try:
            source = self._seen_by(opened)
        except BaseException:
            opened.backend.close()
            raise
        worker = InferenceWorker(opened.backend, opened.recipe, opened.artefact.sha256)
        taken = partial(self._loaded, link, order, opened)
        self._station.change_recipe(Successor(worker, opened.recipe, order.argument, taken, source))

    def _seen_by(self, opened: Opened) -> OpenCamera | None:
        """The camera, open with the recipe's settings; it is blind until this recipe judges."""
        if self._camera is None:
            return None
        source = self._camera.opener(opened.recipe.camera)
        self._station.capture.open_anew(source, self._station.between_parts)
        return source

    def _loaded(self, link: PlcLink, order: Order, opened: Opened) -> None:
        self._say(f"recipe {order.argument}: {opened.path.name}, {opened.recipe.identity}")
        link.end(order, True)

    def _set_lot(self, link: PlcLink, order: Order) -> None:
        self._station.lot = order.argument
        self._say(f"lot {order.argument}")
        link.end(order, True)

    def _challenge(self, link: PlcLink, order: Order) -> None:
        """In the station's loop: no part is judged meanwhile. One that fails stops the line."""
        views = [self._station, *self._station.views]
        judged, wrong = 0, list[str]()
        try:
            folders = self._recipes.folders(self._station.recipe_number)
            for view, folder in zip(views, folders, strict=True):
                masters = challenge_pictures(folder / CHALLENGE)
                judged += len(masters)
                wrong += surprises(masters, partial(self._station.try_out, view))
        except Exception as error:  # a picture that cannot be read is not proof of anything
            wrong.append(str(error))
        self.challenge_failed = bool(wrong)
        for each in self._links:
            each.stop(Reason.CHALLENGE_FAILED) if wrong else each.proven()
        self._hold(False)
        if not wrong:
            self._say(f"challenge: {judged} pictures judged as they should be")
            link.end(order, True)
            return
        self._fail(link, order, Reason.CHALLENGE_FAILED, f"challenge failed: {'; '.join(wrong)}")

    def _hold(self, held: bool) -> None:
        for each in self._links:
            each.hold(held)

    def _fail(self, link: PlcLink, order: Order, reason: Reason | None, why: str) -> None:
        self._say(f"command {order.command.name} {order.argument} failed: {why}")
        if reason is not None:
            link.warn(reason)
        link.end(order, False)
