"""Server, clients and mishaps of one simulation, put together and let run."""

from __future__ import annotations

import random
from collections.abc import Callable

from benchmarks.simulation.calls import RETRY, Call, Site
from benchmarks.simulation.client import TIMEOUT_S, Client
from benchmarks.simulation.figures import Figures
from benchmarks.simulation.loop import Loop, Steps
from benchmarks.simulation.plan import NEVER, Plan
from benchmarks.simulation.server import Server, Size

OVER_EACH_S = 30.0
"""How often to look whether all is done, in seconds of the simulation."""


class World:
    """One simulation of `plan`, on a project (slug) of `site`. `figures` tell how it went."""

    def __init__(self, plan: Plan, site: Site, size: Size, project: str = "birds") -> None:
        # `backoff.wait_s` draws from Python's own generator.
        random.seed(plan.seed)
        self.plan = plan
        self.loop = Loop()
        self.figures = Figures()
        self.server = Server(self.loop, site, size, self.figures)
        self.clients = [Client(self.loop, self.server, plan, project, number) for number in range(plan.clients)]
        self._project = project
        self._is_over = False
        if plan.server_outage is not NEVER:
            self.loop.after(plan.server_outage.begins, self.server.go_down)
            self.loop.after(plan.server_outage.ends, self.server.come_up)

    @property
    def kills(self) -> int:
        return sum(client.kills for client in self.clients)

    def run(self, over: Callable[[], bool] = lambda: False) -> None:
        """To the plan's end, or until `over`, which is asked now and then, says that all is done."""
        self.loop.start(self._look(over))
        self.loop.start(self._retry_now_and_then())
        self.loop.run(self.plan.seconds, lambda: self._is_over)

    def _look(self, over: Callable[[], bool]) -> Steps:
        while not self._is_over:
            yield OVER_EACH_S
            self._is_over = over()

    def _retry_now_and_then(self) -> Steps:
        call = Call(RETRY, f"projects/{self._project}/retry/", {"dry_run": False})
        while True:
            yield self.plan.retry_each_s
            yield self.server.ask(call, TIMEOUT_S)
