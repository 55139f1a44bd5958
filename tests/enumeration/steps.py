"""Drives both holders of a pair against each other: circuits, steps of a session, and whole sessions.

One of the two may deviate. It is always the second to speak: it has what the other sends before it sends its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.pair.messages import AwaitResults, DecisionShare, Message, Receive, Send, TemplateShare

PLUS, MINUS = 0, 1


@dataclass
class Run:
    """By holder, what it received and what it ended with; and all messages in the order of sending."""

    received: tuple[list[Any], list[Any]] = field(default_factory=lambda: ([], []))
    sent: list[tuple[int, Any]] = field(default_factory=list)
    ended: list[Any] = field(default_factory=lambda: [None, None])


#: What a deviating holder sends in place of a message, given all that it has received by then.
Alter = Callable[[Any, list[Any]], Any]


def run_circuits(
    plus: Generator[bytes, bytes, Any],
    minus: Generator[bytes, bytes, Any],
    deviates: int = PLUS,
    alter: Alter | None = None,
) -> Run:
    """Run a circuit at both holders; messages are the payloads of its layers."""
    run, circuits = Run(), (plus, minus)
    sent: list[Any] = [None, None]
    while True:
        received = sent[::-1]
        for holder in (PLUS, MINUS):
            try:
                sent[holder] = circuits[holder].send(received[holder])
            except StopIteration as stop:
                run.ended[holder], sent[holder] = stop.value, None
        if sent[PLUS] is None:
            assert sent[MINUS] is None
            return run
        run.received[deviates].append(sent[1 - deviates])
        if alter is not None:
            sent[deviates] = alter(sent[deviates], run.received[deviates])
        run.received[1 - deviates].append(sent[deviates])


def run_steps(
    steps: tuple[Generator[Any, Any, Any], Generator[Any, Any, Any]],
    serve: Callable[[int, Any], object],
    deviates: int = PLUS,
    alter: Alter | None = None,
) -> Run:
    """Run steps at both holders until both have ended; `serve` does what they ask for that is no message.

    A holder ends with what it returns, with what it hands to its matcher last, or with the type of its error; then
    the other one, if it waits, waits for ever, and ends with None. So do both where a search waits for results.
    """
    run, wires = Run(), (deque[Any](), deque[Any]())
    waiting: list[Any] = [None, None]
    outcomes: list[Any] = [None, None]
    running = {PLUS, MINUS}

    def advance(holder: int) -> None:
        try:
            action = waiting[holder] = steps[holder].send(outcomes[holder])
        except StopIteration as stop:
            run.ended[holder] = stop.value
        except VeilmatchError as error:
            run.ended[holder] = type(error).__name__
        else:
            if not isinstance(action, TemplateShare | DecisionShare):
                return
            run.ended[holder] = action
        running.discard(holder)

    for holder in (PLUS, MINUS):
        advance(holder)
    while ready := [
        holder for holder in (1 - deviates, deviates)
        if holder in running
        and not isinstance(waiting[holder], AwaitResults)
        and (wires[holder] or not isinstance(waiting[holder], Receive))
    ]:  # fmt: skip
        holder, outcomes[ready[0]] = ready[0], None
        match waiting[holder]:
            case Receive():
                envelope = outcomes[holder] = wires[holder].popleft()
                run.received[holder].append(envelope.message)
            case Send(envelope):
                message: Message = envelope.message
                if alter is not None and holder == deviates:
                    # What lies on the wire it has seen as well.
                    message = alter(message, [*run.received[holder], *(e.message for e in wires[holder])])
                run.sent.append((holder, message))
                wires[1 - holder].append(replace(envelope, message=message))
            case action:
                outcomes[holder] = serve(holder, action)
        advance(holder)
    return run
