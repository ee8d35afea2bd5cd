"""Makes a failing history small: leaves out clients, requests and faults while the same rule is still broken.

With something left out the steps come in another order, so each smaller plan is tried on many schedules.
"""

from __future__ import annotations

from collections.abc import Iterator

from syncstore.testing.simulation.configurations import Configuration
from syncstore.testing.simulation.plan import ClientPlan, Plan, Request
from syncstore.testing.simulation.run import run

_SCHEDULES = 150
_MOST_RUNS = 6_000


def breaks(configuration: Configuration, plan: Plan, rule: str) -> bool:
    """Whether the history breaks the rule first of all."""
    violations = run(configuration, plan).violations
    return bool(violations) and violations[0].rule == rule


def shrunk(configuration: Configuration, plan: Plan, rule: str) -> Plan:
    """The smallest plan found that breaks the same rule."""
    left = _MOST_RUNS
    smaller = True
    while smaller and left > 0:
        smaller = False
        for candidate in _smaller(plan):
            for schedule in (plan.schedule, *range(1, _SCHEDULES)):
                left -= 1
                attempt = candidate._replace(schedule=schedule)
                if breaks(configuration, attempt, rule):
                    plan, smaller = attempt, True
                    break
            if smaller or left <= 0:
                break
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans with one thing less, the biggest first."""
    for i in range(len(plan.clients)):
        if len(plan.clients) > 1:
            yield plan._replace(clients=plan.clients[:i] + plan.clients[i + 1 :])
    for i in range(len(plan.faults)):
        yield plan._replace(faults=plan.faults[:i] + plan.faults[i + 1 :])
    if plan.prelude:
        yield plan._replace(prelude=())
        for i in range(len(plan.prelude)):
            yield plan._replace(prelude=plan.prelude[:i] + plan.prelude[i + 1 :])
    for i, client in enumerate(plan.clients):
        for requests in _fewer(client.requests):
            clients = (*plan.clients[:i], client._replace(requests=requests), *plan.clients[i + 1 :])
            yield plan._replace(clients=clients)
    if plan.processes > 1:
        clients = tuple(_at_home(client, plan.processes - 1) for client in plan.clients)
        yield plan._replace(processes=plan.processes - 1, clients=clients)
    if plan.pause:
        yield plan._replace(pause=0.0)


def _fewer(requests: tuple[Request, ...]) -> Iterator[tuple[Request, ...]]:
    for i, request in enumerate(requests):
        if len(requests) > 1:
            yield requests[:i] + requests[i + 1 :]
        if len(request.changes) > 1:
            yield (*requests[:i], request._replace(changes=request.changes[:1]), *requests[i + 1 :])
        if request.pause:
            yield (*requests[:i], request._replace(pause=0.0), *requests[i + 1 :])


def _at_home(client: ClientPlan, processes: int) -> ClientPlan:
    return client._replace(process=client.process % processes)
