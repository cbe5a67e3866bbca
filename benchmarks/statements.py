"""How many statements, transactions and commits an operation costs, counted by SQLAlchemy's own events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from benchmarks.workload import Desk, wrong

Counts = dict[str, int]


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """Counts on every engine while it lasts.

    ``statements`` are SELECT, INSERT, UPDATE and DELETE; ``commits`` are transactions made durable, one of a single
    statement in autocommit included; ``round_trips`` add BEGIN and COMMIT, which an autocommit does not need.
    """
    counter: Counter[str] = Counter()

    def is_single(connection: Any) -> bool:
        return connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"

    def statement(connection: Any, _cursor: Any, text: str, *_rest: Any) -> None:
        if not text.startswith(("BEGIN", "PRAGMA", "SET ")):
            counter.update(("statements", "round_trips"))

    def begin(connection: Any) -> None:
        if not is_single(connection):
            counter.update(("round_trips",))

    def commit(connection: Any) -> None:
        counter.update(("commits",) if is_single(connection) else ("commits", "round_trips"))

    def rollback(connection: Any) -> None:
        counter.update(("rollbacks", "round_trips"))

    listeners: list[tuple[str, Callable[..., None]]] = [
        ("before_cursor_execute", statement),
        ("begin", begin),
        ("commit", commit),
        ("rollback", rollback),
    ]
    for name, listener in listeners:
        event.listen(Engine, name, listener)
    try:
        yield counter
    finally:
        for name, listener in listeners:
            event.remove(Engine, name, listener)


def per_operation(desk: Desk) -> dict[str, Counts]:
    """Opening, a wrong code, the last wrong code, a right code, of a person who has been here before."""
    service, sink = desk.service, desk.sink
    number = "+84912345678"
    service.issue_code(number, purpose="login")
    found: dict[str, Counts] = {}

    def counted(name: str, operation: Callable[[], Any]) -> Any:
        with counting() as counter:
            result = operation()
        found[name] = {key: counter[key] for key in ("statements", "commits", "round_trips")}
        return result

    challenge = counted("issue", lambda: service.issue_code(number, purpose="login"))
    code = sink.codes[challenge.id]
    counted("verify, wrong", desk.guess(challenge.id, wrong(code), right=False))
    counted("verify, right", desk.guess(challenge.id, code, right=True))
    return found
