"""Disturbs an installation at random, by a seed, for some time; then leaves it in peace."""

import random
import signal
import time
from collections.abc import Callable
from functools import partial

import psutil

from tests.faults.chaos.installation import Installation
from tests.faults.chaos.processes import Managed, send
from tests.faults.chaos.record import JsonLines

GAP = (1.0, 2.5)  # seconds between two deeds
LEASES = (1.0, 3.0)  # how many a process stays stopped
SILENCE = (0.3, 1.5)  # how many leases a connection is silent
SHORT = (0.2, 2.5)  # seconds a server is away
TRAINER, SUPERVISOR = "toy_trainer", "worker.supervisor"  # in their commands


class Nemesis:
    """Works on the calling thread, the main one: it starts what has ended.

    Args:
        installation: To disturb.
        rng: Decides on deeds, targets and times.
        history: Gets a line a deed.
    """

    def __init__(self, installation: Installation, rng: random.Random, history: JsonLines) -> None:
        self._of = installation
        self._rng = rng
        self._history = history
        self._undo: list[tuple[float, Callable[[], None]]] = []
        # Each says whether there was something to do it to.
        self._deeds: dict[str, Callable[[], bool]] = {
            "kill_trainer": partial(self._kill_found, "kill_trainer", TRAINER),
            "kill_supervisor": partial(self._kill_found, "kill_supervisor", SUPERVISOR),
            "kill_worker": self._kill_worker,
            "kill_worker_alone": self._kill_worker_alone,
            "stop_worker": self._stop_worker,
            "freeze_worker": self._freeze_worker,
            "freeze_supervisor": self._freeze_supervisor,
            "kill_api": partial(self._kill_tree, installation.api),
            "kill_maintenance": self._kill_maintenance,
            "crash_database": self._crash_database,
            "cut_database": self._cut_database,
            "silence_database": self._silence_database,
            "kill_broker": self._kill_broker,
            "freeze_broker": self._freeze_broker,
        }

    def run(self, seconds: float) -> None:
        """Each deed is done once before any is done again."""
        end = time.monotonic() + seconds
        due = 0.0
        deck: list[str] = []
        while time.monotonic() < end:
            self._tend()
            if time.monotonic() > due:
                if not deck:
                    deck = self._rng.sample(list(self._deeds), len(self._deeds))
                deed = deck.pop()
                if self._deeds[deed]():
                    due = time.monotonic() + self._rng.uniform(*GAP)
                else:
                    deck.insert(self._rng.randrange(len(deck) + 1), deed)
            time.sleep(0.05)
        self.calm()

    def calm(self) -> None:
        """Take back all that is still to be taken back."""
        for _, undo in self._undo:
            undo()
        self._undo.clear()
        self._of.tend()

    def _tend(self) -> None:
        now = time.monotonic()
        due = [undo for at, undo in self._undo if at <= now]
        self._undo = [(at, undo) for at, undo in self._undo if at > now]
        for undo in due:
            undo()
        self._of.tend()

    def _note(self, what: str, target: str) -> bool:
        self._history.add(what=what, at=time.monotonic(), target=target)
        return True

    def _send(
        self, what: str, target: Managed, processes: list[psutil.Process], number: signal.Signals
    ) -> bool:
        # The time from before: what goes on again does so before the next line here.
        at = time.monotonic()
        pids = send(processes, number)
        self._history.add(what=what, at=at, target=target.name, pids=pids)
        return bool(pids)

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        self._undo.append((time.monotonic() + seconds, undo))

    def _workers(self) -> list[Managed]:
        """Those that run, in random order."""
        running = [each for each in self._of.workers if not each.frozen and each.process]
        return self._rng.sample(running, len(running))

    def _frozen_seconds(self) -> float:
        return self._rng.uniform(*LEASES) * self._of.settings.lease_seconds

    def _kill_found(self, what: str, word: str) -> bool:
        for worker in self._workers():
            if found := worker.find(word):
                return self._send(what, worker, found, signal.SIGKILL)
        return False

    def _kill_tree(self, process: Managed) -> bool:
        kind, _, _ = process.name.partition("-")
        return self._send(f"kill_{kind}", process, process.tree(), signal.SIGKILL)

    def _kill_worker(self) -> bool:
        return any(self._kill_tree(worker) for worker in self._workers()[:1])

    def _kill_maintenance(self) -> bool:
        return self._kill_tree(self._rng.choice([self._of.maintenance, self._of.beat]))

    def _kill_worker_alone(self) -> bool:
        for worker in self._workers()[:1]:
            return self._send("kill_worker_alone", worker, worker.tree()[:1], signal.SIGKILL)
        return False

    def _stop_worker(self) -> bool:
        for worker in self._workers()[:1]:
            return self._send("stop_worker", worker, worker.tree()[:1], signal.SIGTERM)
        return False

    def _freeze_worker(self) -> bool:
        for worker in self._training():
            self._freeze(worker, "freeze_worker", worker.tree())
            return True
        return False

    def _freeze_supervisor(self) -> bool:
        for worker in self._training():
            self._freeze(worker, "freeze_supervisor", worker.find(SUPERVISOR))
            return True
        return False

    def _training(self) -> list[Managed]:
        """Workers that train; not the last that moves."""
        workers = self._workers()
        return [each for each in workers if each.find(TRAINER)] if len(workers) > 1 else []

    def _freeze(self, worker: Managed, what: str, processes: list[psutil.Process]) -> None:
        worker.frozen = True
        self._send(what, worker, processes, signal.SIGSTOP)

        def thaw() -> None:
            self._send("thaw", worker, processes, signal.SIGCONT)
            worker.frozen = False

        self._later(self._frozen_seconds(), thaw)

    def _crash_database(self) -> bool:
        if not self._of.database.running:
            return False
        self._of.database.crash()
        self._later(self._rng.uniform(*SHORT), self._of.database.restart)
        return self._note("crash_database", "database")

    def _cut_database(self) -> bool:
        self._of.database.proxy.cut()
        return self._note("cut_database", "database")

    def _silence_database(self) -> bool:
        """Longer than a lease, sometimes; what was sent meanwhile arrives late, or never."""
        proxy = self._of.database.proxy
        arrives = self._rng.random() < 0.5

        def end() -> None:
            if not arrives:
                proxy.cut()
            proxy.release()

        proxy.hold()
        self._later(self._rng.uniform(*SILENCE) * self._of.settings.lease_seconds, end)
        return self._note("silence_database", "database")

    def _kill_broker(self) -> bool:
        if not self._of.broker.running:
            return False
        self._of.broker.kill()
        self._later(self._rng.uniform(*SHORT), self._of.broker.restart)
        return self._note("kill_broker", "broker")

    def _freeze_broker(self) -> bool:
        broker = self._of.broker
        if not broker.running:
            return False
        broker.freeze()
        self._later(self._frozen_seconds(), broker.thaw)
        return self._note("freeze_broker", "broker")
