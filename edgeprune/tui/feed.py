"""Threads between the jobs and the screen: each waits for one thing and posts what happened; none touches a widget.

    lister    the list of jobs, twice a second; what a followed job wrote is read again when its files change
    follower  the events of one job, history first (attach is replay)
    meters    the machine, once a second
    asks      one short-lived thread a question (submit, cancel, result, ...)

Threads are daemons: quitting the app waits for none of them, and no job is touched by it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from edgeprune.errors import EdgePruneError
from edgeprune.jobs.protocol import JobsClient
from edgeprune.schema.budget import BudgetRequest
from edgeprune.schema.candidate import SearchResult
from edgeprune.schema.jobs import Job, JobRequest
from edgeprune.schema.lock import Lock
from edgeprune.schema.meters import Meters
from edgeprune.tui import messages as told
from edgeprune.tui.run_reader import RunReader
from edgeprune.tui.view_state import ModelOption, NamedProfile

__all__ = ["Feed", "MeterSource", "Solver", "Sources"]

LIST_S = 0.5
METER_S = 1.0
CALM_METER_S = 5.0
"""Where nothing should move by itself."""


class Solver(Protocol):
    """Solves one run again; asked from a thread, the newest question wins."""

    def solve(
        self, budget: BudgetRequest, *, context: int | None = None, locks: tuple[Lock, ...] | None = None
    ) -> SearchResult | None:
        """The result; None when a newer question took over."""

    def close(self) -> None:
        """End the child."""


class MeterSource(Protocol):
    """Reads the machine."""

    def read(self) -> Meters:
        """The machine now."""

    def close(self) -> None:
        """Let go."""


@dataclass(frozen=True)
class Sources:
    """Where everything comes from; called in threads, so that the app starts before any of it is imported."""

    connect: Callable[[], JobsClient]
    open_solver: Callable[[str], Solver]
    """For one run folder."""
    open_meters: Callable[[], MeterSource]
    list_models: Callable[[], tuple[ModelOption, ...]]
    list_profiles: Callable[[], tuple[NamedProfile, ...]]


class Feed:
    """Everything that waits; made with where things come from and where to post."""

    def __init__(self, sources: Sources, post: Callable[[told.Message], None], *, is_calm: bool = False) -> None:
        """Nothing runs yet."""
        self._sources = sources
        self._post = post
        self._is_calm = is_calm
        self._client: JobsClient | None = None
        self._client_lock = threading.Lock()
        self._stopped = threading.Event()
        self._poked = threading.Event()
        self._reader: RunReader | None = None
        self._followed: str | None = None
        self._solver: tuple[str, Solver] | None = None
        self._solver_lock = threading.Lock()

    def start(self) -> None:
        """Begin to list jobs and to read the machine."""
        self._thread(self._list)
        self._thread(self._measure)
        self._thread(self._look_around)

    def stop(self) -> None:
        """Let go; jobs go on."""
        self._stopped.set()
        self._poked.set()
        with self._solver_lock:
            if self._solver is not None:
                self._solver[1].close()
                self._solver = None

    def follow(self, job_id: str, since: int = 0) -> None:
        """Post the events of a job after one of them, history first, until another job is followed."""
        self._followed = job_id
        self._thread(lambda: self._follow(job_id, since))

    def watch(self, folder: str | None) -> None:
        """Read this run folder's records whenever they change."""
        if folder is None:
            self._reader = None
        elif self._reader is None or self._reader.folder != folder:
            self._reader = RunReader(folder)
        self._poked.set()

    def submit(self, request: JobRequest, then: Callable[[Job], None] | None = None) -> None:
        """Hand in a job; `then` gets it, in the thread."""
        self.ask(lambda client: self._submitted(client, request, then))

    def ask(self, question: Callable[[JobsClient], object]) -> None:
        """Ask the client something in a thread; an error becomes a sentence."""

        def work() -> None:
            try:
                question(self._connected())
            except EdgePruneError as error:
                self._post(told.Said(str(error), is_problem=True))
            self._poked.set()

        self._thread(work)

    def fetch(self, request: JobRequest, kind: type, arrived: Callable[[Any], None]) -> None:
        """Submit a job, wait for its end and read its result; `arrived` gets the record, in the thread."""

        def work(client: JobsClient) -> None:
            job = client.submit(request)
            self._poked.set()
            for _ in client.events(job.id):
                pass
            ended = client.job(job.id)
            if ended.state != "succeeded":
                raise EdgePruneError(ended.error or f"The job {job.id} ended as {ended.state}; screen 7 has its log.")
            arrived(msgspec.json.decode(client.result(job.id), type=kind))

        self.ask(work)

    def solve(self, folder: str, budget: BudgetRequest, context: int | None, locks: tuple[Lock, ...]) -> None:
        """Solve the run again for these limits; the newest question wins."""
        self._post(told.SolvingStarted())

        def work() -> None:
            try:
                result = self._solver_of(folder).solve(budget, context=context, locks=locks)
                self._post(told.Solved(result))
            except EdgePruneError as error:
                self._post(told.Said(str(error), is_problem=True))

        self._thread(work)

    def _solver_of(self, folder: str) -> Solver:
        with self._solver_lock:
            if self._solver is None or self._solver[0] != folder:
                if self._solver is not None:
                    self._solver[1].close()
                self._solver = (folder, self._sources.open_solver(folder))
            return self._solver[1]

    def _submitted(self, client: JobsClient, request: JobRequest, then: Callable[[Job], None] | None) -> None:
        job = client.submit(request)
        self._post(told.JobsListed(tuple(client.jobs())))
        if then is not None:
            then(job)

    def _connected(self) -> JobsClient:
        with self._client_lock:
            if self._client is None:
                self._client = self._sources.connect()
                self._post(told.Connected())
            return self._client

    def _list(self) -> None:
        last_problem = ""
        while not self._stopped.is_set():
            try:
                self._post(told.JobsListed(tuple(self._connected().jobs())))
                last_problem = ""
            except EdgePruneError as error:
                if str(error) != last_problem:
                    last_problem = str(error)
                    self._post(told.Said(last_problem, is_problem=True))
            self._read_records()
            self._poked.wait(LIST_S)
            self._poked.clear()

    def _read_records(self) -> None:
        reader = self._reader
        if reader is None:
            return
        read = reader.read()
        if read is not None:
            self._post(read)
            for problem in reader.problems:
                self._post(told.Said(problem, is_problem=True))

    def _follow(self, job_id: str, since: int) -> None:
        try:
            for entry in self._connected().events(job_id, since=since, follow=True):
                if self._followed != job_id or self._stopped.is_set():
                    return
                self._post(told.EventArrived(job_id, entry))
        except EdgePruneError as error:
            self._post(told.Said(str(error), is_problem=True))
        self._poked.set()

    def _measure(self) -> None:
        reader = self._sources.open_meters()
        while not self._stopped.is_set():
            self._post(told.Metered(reader.read()))
            self._stopped.wait(CALM_METER_S if self._is_calm else METER_S)
        reader.close()

    def _look_around(self) -> None:
        self._post(told.ModelsListed(self._sources.list_models()))
        self._post(told.ProfilesListed(self._sources.list_profiles()))

    def look_around(self) -> None:
        """List profiles and models again."""
        self._thread(self._look_around)

    def _thread(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, daemon=True, name="edgeprune-feed").start()
