"""A whole run, then a search of everything it left behind: no code, number, tag or secret anywhere (promise 4).

Searched are the database's files as they lie on the disk (SQLite with its WAL, PostgreSQL's whole data directory), a
dump of every row, every log record at DEBUG of every library, what was printed, and the ``repr``, text and traceback
of everything that was returned or raised.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyotp
import pytest
from sqlalchemy import select, text
from sqlalchemy.engine import make_url

from otpvoice import Binding, OutcomeUnknown, Policy, Route, codes, delivery
from otpvoice.channels.itnio import ItnioVoice
from otpvoice.channels.memory import Memory
from otpvoice.clock import ManualClock
from otpvoice.keys import Key
from otpvoice.policy import default_policies
from otpvoice.simulator.rules import Rule
from otpvoice.simulator.server import SimulatedItnio
from otpvoice.store import tables
from tests.conftest import Maker
from tests.test_processes import maintain

ROOT_SECRETS = ["root-secret-of-this-run-only-0a1b2c3d4e5f", "older-root-secret-behind-it-6g7h8i9j0k1l"]
API_KEY, API_SECRET, APP_ID = "key-of-the-leak-test", "api-secret-of-the-leak-test", "app-of-the-leak-test"
NUMBERS = ("+84912004711", "+84912004712", "+84912004713", "+84912004714", "+447400104715")
DENIED = "+449098790123"
"""Premium rate: refused before anything is stored, and in no error's text."""
RETURNED = "what was returned and raised"
BROKEN = "+3200 900 12345"
MAILBOX = "margarethe.zwolfdrei@example.org"
SUBJECT = "account-of-margarethe"
OWN = "a subject or binding"
"""The caller's own words: sealed in the database and never logged, but handed back in the open with a proof."""
LENGTH = 10
"""Digits of a code here: a shorter one is found somewhere in a large log by chance."""


@pytest.fixture(scope="module")
def itnio() -> Iterator[SimulatedItnio]:
    with SimulatedItnio(api_key=API_KEY, api_secret=API_SECRET, app_ids={APP_ID}) as simulated:
        yield simulated


@dataclass(slots=True)
class Traces:
    """What a run left behind, and what must not be in it."""

    texts: dict[str, str] = field(default_factory=dict)
    """Where → what was written there."""
    words: dict[str, str] = field(default_factory=dict)
    """Secret → what it is."""
    raw: dict[bytes, str] = field(default_factory=dict)
    """The same of secrets that are bytes."""
    log: io.StringIO = field(default_factory=io.StringIO)
    objects: list[str] = field(default_factory=list)

    def keep(self, thing: Any) -> Any:
        """Remember how something looks to whoever prints it."""
        self.objects += [repr(thing), str(thing), f"{thing!s:.200}"]
        if isinstance(thing, BaseException):
            self.objects += traceback.format_exception(thing)
            self.objects += [repr(thing.args), repr(vars(thing))]
        return thing

    def secret(self, word: str, what: str) -> None:
        self.words[word] = what

    def secret_bytes(self, word: bytes, what: str) -> None:
        self.raw[word] = what
        forms = (word.hex(), base64.b64encode(word).decode().rstrip("="), repr(word)[2:-1])
        for form in forms:
            self.words[form] = what

    def of_number(self, number: str) -> None:
        """A number in every form in which it could be written, and its plain hashes (P74)."""
        digits = number.removeprefix("+")
        national = digits[2:]
        spelled = " ".join(digits[-9:])
        for form in (digits, national, spelled):
            self.secret(form, "a number")
        for plain in (number, digits):
            for name in ("md5", "sha1", "sha256"):
                digest = hashlib.new(name, plain.encode())
                self.secret(digest.hexdigest(), f"the {name} of a number")
                self.raw[digest.digest()] = f"the {name} of a number"

    def leaks(self) -> list[str]:
        """Everything that was found, without saying it again."""
        found = []
        for where, written in self.texts.items():
            lower = written.lower()
            for word, what in self.words.items():
                if what == OWN and where == RETURNED:
                    continue
                at = lower.find(word.lower())
                if at >= 0 and not (len(word) == 6 and not _stands_alone(word, written)):
                    found.append(f"{what} in {where}: …{written[max(0, at - 60) : at]}")
        return found

    def leaks_in(self, content: bytes, where: str, *, raw: bool = True) -> list[str]:
        """The same for bytes on a disk."""
        words = {word.encode(): what for word, what in self.words.items() if len(word) > 6}
        return [f"{what} in {where}" for word, what in (words | (self.raw if raw else {})).items() if word in content]


def _stands_alone(word: str, written: str) -> bool:
    """An app's code has six digits, which are part of many a longer number."""
    return re.search(rf"(?<![0-9a-f.]){word}(?![0-9a-f])", written) is not None


def spelled(code: str) -> str:
    return r"\D{1,3}".join(code)


class Run:
    """The whole story, once: every call, every way to fail, at DEBUG."""

    def __init__(
        self, service: Any, voice: ItnioVoice, mail: Memory, itnio: SimulatedItnio, clock: ManualClock
    ) -> None:
        self.service, self.voice, self.mail, self.itnio, self.clock = service, voice, mail, itnio, clock
        self.traces = Traces()
        self.codes: list[str] = []

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Call, and keep how the result or the error looks."""
        try:
            return self.traces.keep(getattr(self.service, method)(*args, **options))
        except Exception as error:
            self.traces.keep(error)
            return getattr(error, "challenge", None)

    def guess(self, challenge_id: str, code: str, **options: Any) -> None:
        self.call("verify_code", challenge_id, code, **options)

    def wrong(self) -> str:
        code = f"{(int(self.codes[-1]) + 1) % 10**LENGTH:0{LENGTH}d}"
        self.traces.secret(code, "a guess")
        return code

    def remember_tags(self) -> None:
        """Tags and salts while they are there: later they must be nowhere."""
        store = self.service._assembly.store
        for column, what in ((tables.delivery.c.tag, "a tag"), (tables.challenge.c.salt, "a salt")):
            values = store.transact(lambda c, _now, of=column: c.execute(select(of)).scalars().all())
            for value in values:
                if value is not None:
                    self.traces.secret_bytes(bytes(value), what)

    def play(self) -> None:
        binding = Binding(amount="19.90", currency="EUR", payee="Blumen Zwolfdrei", reference="order-zwolfdrei-77")
        first = self.call(
            "issue_code", NUMBERS[0], purpose="login", subject=SUBJECT, binding=binding, client="203.0.113.77"
        )
        self.remember_tags()
        self.guess(first.id, self.wrong())
        self.guess(first.id, "not a code")
        self.guess(first.id, self.codes[-1], purpose="payment")
        self.clock.advance(31)
        self.call("resend_code", first.id)
        self.call("resend_code", first.id)
        self.remember_tags()
        self.guess(first.id, self.codes[-1], subject=SUBJECT, binding=binding)
        self.guess(first.id, self.codes[-1])
        self._fail()
        self._authenticate()
        self._lock()
        mail = self.call("issue_code", MAILBOX, purpose="signup", subject=SUBJECT)
        self.remember_tags()
        self.call("cancel", mail.id)
        for number in (DENIED, BROKEN, NUMBERS[0] + "x3", f"{MAILBOX}\r\nBcc:x@example.org", NUMBERS[0] * 9):
            self.call("issue_code", number, purpose="login")
        self.call("issue_code", NUMBERS[0], purpose="no such purpose")
        self.call("issue_code", NUMBERS[0], purpose="login", channel="no such channel")
        self.call("verify_code", first.id, int(self.codes[-1]))
        for one in (first, mail):
            self.call("get", one.id)
            for happened in self.call("events", one.id):
                self.traces.keep(happened)
        inside = (self.service._context, self.service._assembly, self.voice, self.mail, vars(self.voice))
        for thing in (self.service, *inside):
            self.traces.keep(thing)

    def _fail(self) -> None:
        """Every way in which a provider can fail, and one of our own."""
        for answer in ("-1", "-18", "-10", "http-500", "html", "garbage", "truncated", "drop", "no-id"):
            self.itnio.set_rule(Rule(answer=answer, times=1))
            opened = self.call("issue_code", NUMBERS[1], purpose="reset")
            self.itnio.clear_rules()
            if opened is not None:
                self.remember_tags()
                self.call("cancel", opened.id)
        self.mail.fail_with(OutcomeUnknown("the line went dead"), taken=True)
        self.mail.fail_with(RuntimeError("a third party's channel broke"))
        for _ in range(2):
            opened = self.call("issue_code", MAILBOX, purpose="signup")
            self.remember_tags()
            self.guess(opened.id, self.codes[-1])
            self.call("cancel", opened.id)

    def _authenticate(self) -> None:
        """An authenticator app: enrolled, confirmed, wrong, right, replayed."""
        enrolled = self.call("enroll_totp", SUBJECT)
        self.traces.secret(str(enrolled.secret), "an app's secret")
        self.traces.secret(str(enrolled.provisioning_uri), "an app's URI")
        app = pyotp.TOTP(str(enrolled.secret))
        for typed in (app.at(self.clock.now() + timedelta(hours=1)), app.at(self.clock.now())):
            self.traces.secret(typed, "an app's code")
            self.call("confirm_totp", enrolled.factor_id, typed, subject=SUBJECT)
        self.clock.advance(30)
        opened = self.call("issue_code", None, purpose="payment", subject=SUBJECT)
        code = app.at(self.clock.now())
        self.traces.secret(code, "an app's code")
        self.guess(opened.id, app.at(self.clock.now() + timedelta(hours=2)))
        self.guess(opened.id, code)
        self.guess(opened.id, code)
        self.call("remove_totp", SUBJECT)

    def _lock(self) -> None:
        """Two challenges are guessed at until they are exhausted and the recipient locked."""
        for _ in range(2):
            opened = self.call("issue_code", NUMBERS[2], purpose="login")
            self.remember_tags()
            for _ in range(6):
                self.guess(opened.id, self.wrong())
        self.call("issue_code", NUMBERS[2], purpose="login")
        for _ in range(4):
            expired = self.call("issue_code", NUMBERS[3], purpose="verify")
        self.remember_tags()
        self.clock.advance(timedelta(minutes=6))
        if expired is not None:
            self.guess(expired.id, self.codes[-1])
        self.call("purge")


@pytest.fixture(params=["sync", "async"])
def run(
    request: pytest.FixtureRequest,
    services: Maker,
    itnio: SimulatedItnio,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Callable[[], Run]]:
    """Plays the whole story on a service that logs all it can."""
    itnio.reset()
    root = logging.getLogger()
    level, handlers, sql_level = root.level, list(root.handlers), logging.getLogger("sqlalchemy").level

    def play() -> Run:
        log = io.StringIO()
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s %(args)r"))
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        logging.getLogger("sqlalchemy").setLevel(logging.DEBUG)
        table = {"api_key": API_KEY, "api_secret": API_SECRET, "app_id": APP_ID, "base_url": itnio.url}
        voice, mail = ItnioVoice.from_settings("voice", table), Memory.from_settings("mail", {"medium": "email"})
        options = {"hash_profile": "fast", "code_length": LENGTH, "longer_length": LENGTH, "max_live": 20}
        options |= {"max_sends_per_day": 50}
        purposes = default_policies(Route.of("voice", "mail"))
        numbers = {name: Policy(route=Route.of("voice", "mail"), **options) for name in purposes}
        numbers["payment"] = Policy(route=Route.of("totp", "voice"), **options)
        made = Run(
            services(request.param, secret=ROOT_SECRETS, channels=[voice, mail], policies=numbers, brand="Zwölfdrei"),
            voice,
            mail,
            itnio,
            clock,
        )
        made.traces.log = log
        generate = codes.generate

        def heard(length: int, **options: Any) -> Any:
            code = generate(length, **options)
            made.codes.append(str(code))
            made.traces.secret(str(code), "a code")
            return code

        monkeypatch.setattr(codes, "generate", heard)
        for word, what in ((API_SECRET, "the provider's secret"), *((one, "a root secret") for one in ROOT_SECRETS)):
            made.traces.secret(word, what)
            made.traces.secret_bytes(word.encode(), what)
        for key in map(Key.derive, ROOT_SECRETS):
            for part in (key.pepper, key.index, key.seal):
                made.traces.secret_bytes(part, "a derived key")
        for number in (*NUMBERS, DENIED, "+32090012345"):
            made.traces.of_number(number)
        for word in (MAILBOX, "margarethe.zwolfdrei"):
            made.traces.secret(word, "a mailbox")
        for word in (SUBJECT, "order-zwolfdrei-77", "Blumen Zwolfdrei"):
            made.traces.secret(word, OWN)
        made.play()
        printed = capfd.readouterr()
        made.traces.texts |= {
            "the logs": log.getvalue(),
            "what was printed": printed.out + printed.err,
            RETURNED: "\n".join(made.traces.objects),
        }
        return made

    yield play
    root.setLevel(level)
    logging.getLogger("sqlalchemy").setLevel(sql_level)
    for handler in list(root.handlers):
        if handler not in handlers:
            root.removeHandler(handler)


def dump(service: Any) -> str:
    """Every row of every table, as text; bytes as the hexadecimal digits that a leaked dump would show."""
    store = service._assembly.store

    def rows(connection: Any, _now: Any) -> str:
        lines = []
        for table in tables.metadata.sorted_tables:
            for row in connection.execute(text(f'SELECT * FROM "{table.name}"')):
                values = [bytes(v).hex() if isinstance(v, bytes | memoryview) else str(v) for v in row]
                lines.append(f"{table.name} {' '.join(values)}")
        return "\n".join(lines)

    return store.transact(rows)


def files_of(url: str) -> Sequence[Path]:
    """The database on the disk."""
    parsed = make_url(url)
    if url.startswith("sqlite"):
        path = Path(parsed.database or "")
        return sorted(path.parent.glob(f"{path.name}*"))
    return sorted(path for path in Path(str(parsed.query["host"])).rglob("*") if path.is_file())


def held(path: Path) -> bytes:
    """What a file holds; nothing, where a running server has removed it since it was listed."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def test_a_whole_run_leaves_no_secret_anywhere(
    run: Callable[[], Run], database_url: str, request: pytest.FixtureRequest
) -> None:
    """P70, P74, P77, promise 4: codes, numbers, mailboxes, subjects, tags, salts and secrets are nowhere."""
    made = run()
    assert len(made.codes) >= 16
    assert len([what for what in made.traces.words.values() if what == "a tag"]) >= 16
    made.traces.texts["a dump of the database"] = dump(made.service)
    assert made.traces.leaks() == []
    # The run did what it is about.
    said = made.traces.texts[RETURNED]
    for kind in ("Verified(", "CodeMismatch", "MalformedCode", "ChallengeClosed", "LockedOut", "RateLimited"):
        assert kind in said, kind
    refusals = ("NoBalance", "ProviderMisconfigured", "outcome_unknown", "InvalidRecipient", "RecipientDenied")
    for kind in (*refusals, "Traceback"):
        assert kind in said, kind
    logged = made.traces.texts["the logs"]
    for library in ("httpcore", "httpx", "sqlalchemy.engine", "Traceback"):
        assert library in logged, library
    for code in made.codes:
        for where, written in made.traces.texts.items():
            assert re.search(spelled(code), written) is None, f"a spelled code in {where}"
    if database_url.startswith("postgresql"):
        maintain(request.getfixturevalue("postgres"), "CHECKPOINT")
    for path in files_of(database_url):
        # What a WAL and PostgreSQL's old row versions keep for a while are tags, worthless without the secret; the
        # rows have none (the dump), and a SQLite that was closed has none on the disk (below).
        live = {word: what for word, what in made.traces.raw.items() if what in {"a tag", "a salt"}}
        for word in live:
            del made.traces.raw[word]
        assert made.traces.leaks_in(held(path), path.name) == []
        made.traces.raw |= live
    if database_url.startswith("sqlite"):
        made.service._assembly.store.close()
        for path in files_of(database_url):
            assert made.traces.leaks_in(held(path), path.name) == []


@pytest.mark.parametrize("run", ["sync"], indirect=True)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("where", ["logs", "events", "errors", "rows", "spoken"])
def test_a_leak_would_be_noticed(run: Callable[[], Run], monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """One careless line, in one place, and the search finds the code there."""
    message = delivery._message

    def careless(ctx: Any, job: Any, channel: Any, code: Any) -> Any:
        if where == "logs":
            logging.getLogger("otpvoice.delivery").debug("sending %s", str(code))
        if where == "errors":
            raise RuntimeError(f"could not send {code:s}")
        if where == "spoken":
            logging.getLogger("otpvoice.delivery").debug("saying %s", ", ".join(code))
        return message(ctx, job, channel, code)

    if where in {"logs", "errors", "spoken"}:
        monkeypatch.setattr(delivery, "_message", careless)
    try:
        made = run()
    except Exception:
        assert where == "errors"
        return
    if where == "events":
        made.service._assembly.store.transact(
            lambda c, now: (
                c.execute(
                    tables.event.insert().values(at=now, tenant="default", kind="x", data={"code": made.codes[0]})
                ).rowcount
            )
        )
    if where == "rows":
        made.service._assembly.store.transact(
            lambda c, _now: c.execute(tables.challenge.update().values(hint=NUMBERS[0])).rowcount
        )
    made.traces.texts["a dump of the database"] = dump(made.service)
    found = made.traces.leaks()
    if where == "spoken":
        written = made.traces.texts["the logs"]
        assert any(re.search(spelled(code), written) for code in made.codes)
    else:
        assert found
