"""Drives the client's flows by hand: answers are given, pauses only move the clock."""

import json
from collections.abc import Callable
from typing import Any

from vmsvc.client.core import Core
from vmsvc.client.steps import Answer, Block, Done, Give, Listen, NextBlock, NoAnswer, Pause, Request, Send, resume

AWAY = NoAnswer("Connection refused", sent=False)
LOST = NoAnswer("the connection was cut", sent=True)
STREAM = Answer(200, {"content-type": "text/event-stream"})


def answer(status: int, body: object, **headers: str) -> Answer:
    """An answer with JSON."""
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode())


def refusal(status: int, code: str, **headers: str) -> Answer:
    """An error of the service."""
    body = {"code": str(status), "message": f"no: {code}", "error": code, "request_id": "req-1"}
    return answer(status, body, **headers)


def block(seq: int, state: str = "active") -> Block:
    """An event as the stream has it."""
    event = {"type": "create", "time": "2026-11-23T12:00:00Z", "data": {"seq": seq, "state": state}}
    return Block(str(seq), json.dumps(event))


class Driver:
    """Gives one result for each step but pauses: an Answer, a Block, None, or a NoAnswer that is raised."""

    def __init__(self, *results: object, **options: float):
        self.now = 0.0
        self.core = Core(clock=lambda: self.now, chance=lambda: 1.0, **options)
        self.sent: list[Request] = []
        self.pauses: list[float] = []
        self.given: list[Any] = []
        self._results = list(results)

    def run(self, flow: Callable[..., Any], *arguments: object, **named: object) -> Any:
        """What the flow returns; None when there is no result left for a step. Raises what it raises."""
        running = flow(self.core, *arguments, **named)
        step = resume(running)
        while not isinstance(step, Done):
            match step:
                case Give(item):
                    self.given.append(item)
                    step = resume(running)
                    continue
                case Pause(seconds):
                    self.now += seconds
                    self.pauses.append(seconds)
                    step = resume(running)
                    continue
                case Send(request) | Listen(request):
                    self.sent.append(request)
                case NextBlock():
                    pass
            if not self._results:
                running.close()
                return None
            result = self._results.pop(0)
            if isinstance(result, NoAnswer):
                step = resume(running, failure=result)
            else:
                if isinstance(step, Send) and "Prefer" in step.request.headers and result.status == 202:
                    self.now += float(step.request.headers["Prefer"].partition("wait=")[2] or 0)
                step = resume(running, result)
        assert not self._results
        return step.value
