"""The simulator as a server: started, stopped, watched, and asked over its admin endpoints."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from otpvoice.clock import SystemClock
from otpvoice.simulator.backend import Account
from otpvoice.simulator.checks import signed_headers
from otpvoice.simulator.push import Push
from otpvoice.simulator.records import SimulatedCall, SimulatedMessage, SimulatedRequest
from otpvoice.simulator.rules import Rule
from otpvoice.simulator.running import listen
from otpvoice.simulator.server import SimulatedItnio

CALL = {"callee": "84912345678", "language": "EN", "text": "4, 8, 2, 9, 1, 3", "appId": "demo-app", "calledInfo": "d-1"}


@pytest.fixture
def itnio() -> Iterator[SimulatedItnio]:
    with SimulatedItnio() as simulator:
        yield simulator


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=10) as client:
        yield client


def headers() -> dict[str, str]:
    return signed_headers("demo-key", "demo-secret", at=SystemClock().now().timestamp())


def send(http: httpx.Client, simulator: SimulatedItnio, **changes: Any) -> dict[str, Any]:
    answer: dict[str, Any] = http.post(f"{simulator.url}/voice/sendCode", json=CALL | changes, headers=headers()).json()
    return answer


def open_files() -> set[str]:
    folder = "/proc/self/fd"
    return {os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder) if os.path.lexists(f"{folder}/{fd}")}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts sockets through /proc")
def test_nothing_leaks_over_many_runs(http: httpx.Client) -> None:
    """Threads and sockets are as before, although clients keep connections open and observers used threads."""
    threads, files = threading.active_count(), open_files()
    for _ in range(20):
        with SimulatedItnio(on_call=lambda call: None) as simulator, httpx.Client(trust_env=False) as client:
            assert send(client, simulator)["status"] == "0"
            with socket.create_connection(("127.0.0.1", simulator.port)):
                pass
    gc.collect()
    assert threading.active_count() == threads
    assert open_files() - files == set()


def test_a_stopped_simulator_does_not_answer_and_keeps_what_it_saw(http: httpx.Client) -> None:
    """Its port is free again; calls and counts can still be read; stopping twice is harmless."""
    with SimulatedItnio() as simulator:
        url, port = simulator.url, simulator.port
        send(http, simulator)
    simulator.stop()
    assert (len(simulator.calls), simulator.requests["/voice/sendCode"]) == (1, 1)
    with pytest.raises(httpx.ConnectError):
        http.get(url)
    with pytest.raises(RuntimeError, match="not running"):
        _ = simulator.url
    with SimulatedItnio(port=port) as again:
        assert again.port == port


def test_a_simulator_can_be_started_again(http: httpx.Client) -> None:
    """A provider that was away: calls, counts and rules stay."""
    simulator = SimulatedItnio()
    simulator.set_rule(Rule(answer="-10", times=1))
    for expected in ("-10", "0"):
        with simulator:
            assert send(http, simulator)["status"] == expected
    assert (len(simulator.calls), simulator.requests["/voice/sendCode"]) == (1, 2)
    simulator.reset()
    assert (simulator.calls, simulator.requests.total()) == ([], 0)
    with simulator, pytest.raises(RuntimeError, match="already running"):
        simulator.start()


def test_a_taken_port_is_an_oserror(itnio: SimulatedItnio) -> None:
    """Raised where it is started, and nothing is left behind."""
    before = threading.active_count()
    with pytest.raises(OSError, match="in use"):
        SimulatedItnio(port=itnio.port).start()
    assert threading.active_count() == before


@pytest.mark.parametrize("wrong", [{"prefix": "v3"}, {"prefix": "/v3/"}, {"app_ids": "demo-app"}, {"app_ids": ()}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    """A prefix without slash, a text where a collection is meant."""
    with pytest.raises(ValueError, match=r"prefix|app_ids"):
        SimulatedItnio(**wrong)


def test_answers_are_sent_without_delay() -> None:
    """asyncio switches Nagle's algorithm off only for a socket that names TCP; otherwise each answer takes 40 ms."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_simulators_side_by_side_are_apart(http: httpx.Client) -> None:
    """Own credentials, own calls, and no voice id twice."""
    with SimulatedItnio() as first, SimulatedItnio(api_key="k", api_secret="s", app_ids=("a", "b")) as second:
        assert send(http, first)["status"] == "0"
        assert send(http, second)["status"] == "-1"
        body = CALL | {"appId": "b"}
        signed = signed_headers("k", "s", at=SystemClock().now().timestamp())
        answer = http.post(f"{second.url}/voice/sendCode", json=body, headers=signed).json()
        assert answer["status"] == "0"
        assert len(first.calls) == len(second.calls) == 1
        assert first.calls[0].voice_id != second.calls[0].voice_id


def test_ipv6(http: httpx.Client) -> None:
    """The URL has brackets."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with SimulatedItnio(host="::1") as simulator:
        assert simulator.url.startswith("http://[::1]:")
        assert send(http, simulator)["status"] == "0"


def test_parallel_calls_are_all_kept(itnio: SimulatedItnio, http: httpx.Client) -> None:
    """Distinct ids, every request counted, a rule's ``times`` used exactly."""
    itnio.set_rule(Rule(answer="-18", times=7))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: send(http, itnio, calledInfo=f"d-{number}"), range(100)))
    accepted = [answer["data"] for answer in answers if answer["status"] == "0"]
    assert len(accepted) == len(set(accepted)) == len(itnio.calls) == 93
    assert itnio.requests["/voice/sendCode"] == 100


def test_observers_see_everything(http: httpx.Client) -> None:
    """Calls before their answer, texts, and every request with how it ended, headers and query left out."""
    calls: list[SimulatedCall] = []
    messages: list[SimulatedMessage] = []
    requests: list[SimulatedRequest] = []
    with SimulatedItnio(on_call=calls.append, on_message=messages.append, on_request=requests.append) as itnio:
        send(http, itnio)
        text = {"appId": "demo-app", "numbers": "84912345678", "content": "482913"}
        http.get(f"{itnio.url}/sms/sendSms", params=text, headers=headers())
        itnio.set_rule({"answer": "html", "times": 1})
        http.post(f"{itnio.url}/voice/sendCode", json=CALL, headers=headers())
        http.get(f"{itnio.url}/nowhere")
    assert (calls, messages) == (itnio.calls, itnio.messages)
    assert [(seen.method, seen.path, seen.http_status, seen.status) for seen in requests] == [
        ("POST", "/voice/sendCode", 200, "0"),
        ("GET", "/sms/sendSms", 200, "0"),
        ("POST", "/voice/sendCode", 200, None),
        ("GET", "/nowhere", 404, None),
    ]
    assert "482913" not in repr(requests)


def test_an_observer_may_ask_the_simulator_and_may_fail(http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """Over HTTP, from within; its exception is logged and the call answered."""

    def observe(call: SimulatedCall) -> None:
        found = http.get(f"{simulator.url}/voice/recordGroup/{call.voice_id}", headers=headers()).json()
        raise LookupError(found["data"]["voiceId"])

    simulator = SimulatedItnio(on_call=observe)
    with simulator, httpx.Client(trust_env=False) as other:
        voice_id = send(other, simulator)["data"]
    (record,) = [record for record in caplog.records if record.name == "otpvoice.simulator"]
    assert record.exc_info
    assert str(record.exc_info[1]) == voice_id


def test_nothing_that_was_sent_is_logged(http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """Not even the access log of a text by GET, whose query holds number and code, with every logger at DEBUG."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with SimulatedItnio() as itnio:
        send(http, itnio)
        text = {"appId": "demo-app", "numbers": "84912345678", "content": "code 482913"}
        http.get(f"{itnio.url}/sms/sendSms", params=text, headers=headers())
        itnio.set_rule({"answer": "drop"})
        with pytest.raises(httpx.RemoteProtocolError):
            send(http, itnio)
    ours = [record for record in caplog.records if not record.name.startswith(("httpcore", "httpx"))]
    shown = "\n".join(record.getMessage() for record in ours)
    assert "482913" not in shown
    assert "84912345678" not in shown
    assert not [record for record in ours if record.levelno >= logging.WARNING]


def test_a_broken_http_request_does_not_end_the_simulator(itnio: SimulatedItnio, http: httpx.Client) -> None:
    """A client that speaks nonsense, and one that hangs up within its body."""
    for nonsense in (
        b"\x16\x03\x01\x00\r\n\r\n",
        b"POST /voice/sendCode HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    ):
        with socket.create_connection(("127.0.0.1", itnio.port)) as raw:
            raw.sendall(nonsense)
    assert send(http, itnio)["status"] == "0"


def test_waiting_for_what_does_not_come(itnio: SimulatedItnio) -> None:
    """A TimeoutError that says how many there are."""
    with pytest.raises(TimeoutError, match="0 of 2 calls"):
        itnio.wait_for_calls(2, timeout=0.01)
    with pytest.raises(TimeoutError, match="0 of 1 messages"):
        itnio.wait_for_messages(timeout=0.01)


def test_reset_forgets(itnio: SimulatedItnio, http: httpx.Client) -> None:
    """Calls, counts, rules, skew and money."""
    send(http, itnio)
    itnio.set_rule(Rule(answer="-10"))
    itnio.set_clock_skew(7200)
    itnio.reset()
    assert (itnio.calls, itnio.messages, itnio.pushes, itnio.requests.total()) == ([], [], [], 0)
    assert itnio.balance == Account().balance
    assert send(http, itnio)["status"] == "0"


def test_admin_rules(itnio: SimulatedItnio, http: httpx.Client) -> None:
    """Added, listed, used up, taken away; a mistake is 422 and names the key; a form is refused."""
    rules = f"{itnio.admin_url}/rules"
    assert http.post(rules, json={"answer": "-10", "times": 1}).status_code == 201
    assert [(rule["answer"], rule["times"]) for rule in http.get(rules).json()] == [("-10", 1)]
    assert send(http, itnio)["status"] == "-10"
    assert http.get(rules).json() == []
    http.post(rules, json={"answer": "-18"})
    assert http.delete(rules).status_code == 204
    assert send(http, itnio)["status"] == "0"
    mistake = http.post(rules, json={"answr": "-10"})
    assert (mistake.status_code, "answr" in mistake.text) == (422, True)
    for body in ("[]", "{", '"x"'):
        answer = http.post(rules, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
    assert http.post(rules, data={"answer": "-10"}).status_code == 415
    assert http.get(rules).json() == []


def test_admin_shows_what_was_spoken(itnio: SimulatedItnio, http: httpx.Client) -> None:
    """Calls and texts as JSON, filtered by number; the request counts leave admin requests out."""
    send(http, itnio, callee="84912345999")
    send(http, itnio)
    text = {"appId": "demo-app", "numbers": "84912345678", "content": "482913 is it"}
    http.post(f"{itnio.url}/sms/sendSms", json=text, headers=headers())
    assert len(http.get(f"{itnio.admin_url}/calls").json()) == 2
    (call,) = http.get(f"{itnio.admin_url}/calls", params={"callee": "+84912345678"}).json()
    assert (call["text"], call["heard_code"], call["outcome"]) == ("4, 8, 2, 9, 1, 3", "482913", "answered")
    assert call["voice_id"] == itnio.calls[1].voice_id
    assert call["parameters"] == CALL
    (message,) = http.get(f"{itnio.admin_url}/messages").json()
    assert (message["content"], message["heard_code"], message["cost"]) == ("482913 is it", "482913", "0.020")
    assert http.get(f"{itnio.admin_url}/requests").json() == {"/voice/sendCode": 2, "/sms/sendSms": 1}


def test_admin_clock_and_reset(itnio: SimulatedItnio, http: httpx.Client) -> None:
    """The clock is moved and put back by a reset."""
    assert http.post(f"{itnio.admin_url}/clock", json={"skew": -3600}).json()["skew"] == -3600
    assert send(http, itnio)["status"] == "-16"
    assert http.post(f"{itnio.admin_url}/clock", json={"skew": "x"}).status_code == 422
    assert http.post(f"{itnio.admin_url}/reset").status_code == 204
    assert http.get(f"{itnio.admin_url}/clock").json()["skew"] == 0
    assert send(http, itnio)["status"] == "0"


def test_admin_push(itnio: SimulatedItnio, http: httpx.Client) -> None:
    """Settings are set and shown, reports held, flushed and pushed again; here to a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/x"
    push = f"{itnio.admin_url}/push"
    assert http.post(push, json={"voice_url": url, "hold": True}).json()["voice_url"] == url
    voice_id = send(http, itnio)["data"]
    itnio.wait_for_pushes()
    assert http.get(push).json()["attempts"] == []
    assert http.post(f"{push}/flush").json() == {"pushed": 1}
    itnio.wait_for_pushes()
    assert http.post(f"{push}/{voice_id}", json={"outcome": "busy"}).status_code == 202
    itnio.wait_for_pushes()
    shown = http.get(push).json()
    assert (shown["settings"]["hold"], len(shown["attempts"])) == (True, 2)
    assert '"sipCode": "486"' in shown["attempts"][1]["body"]
    assert http.post(f"{push}/1", json={}).status_code == 404
    assert http.post(f"{push}/{voice_id}", json={"outcome": "asleep"}).status_code == 422
    assert http.post(push, json={"copies": 0}).status_code == 422
    assert itnio.reset() is None
    assert http.get(push).json()["attempts"] == []


def test_push_settings_outlive_a_restart() -> None:
    """Set while it runs, they hold after the next start."""
    simulator = SimulatedItnio(push=Push(batch=2))
    with simulator:
        simulator.set_push(Push(batch=3))
    with simulator, httpx.Client(trust_env=False) as http:
        assert http.get(f"{simulator.admin_url}/push").json()["settings"]["batch"] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_until_it_is_told_to_end(number: signal.Signals, http: httpx.Client) -> None:
    """Prints the settings to use, each request and what was spoken, and leaves with exit code 0."""
    program = "from otpvoice.cli.simulate import simulate_app; simulate_app()"
    command = [sys.executable, "-W", "error", "-c", program, "itnio", "--port", "0", "--prefix", "/v3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        try:
            shown = [process.stdout.readline() for _ in range(5)]
            assert f"OTPVOICE_ITNIO_BASE_URL={url}" in shown[0]
            body = CALL | {"text": "4, 8, 2, 9, 1, 3 \x1b[2J [bold]"}
            assert http.post(f"{url}/voice/sendCode", json=body, headers=headers()).json()["status"] == "0"
            refused = CALL | {"callee": "84912345910"}
            assert http.post(f"{url}/voice/sendCode", json=refused, headers=headers()).json()["status"] == "-10"
        finally:
            process.send_signal(number)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert "calls +84912345678" in rest
    assert "\x1b" not in rest
    assert "[bold]" in rest
    assert "heard 482913" in rest
    assert "status -10 insufficient balance" in rest
    assert "Stopped after 2 requests, 1 calls, 0 texts." in rest


def test_the_command_says_when_its_port_is_taken(itnio: SimulatedItnio) -> None:
    """One line and exit code 1."""
    program = "from otpvoice.cli.simulate import simulate_app; simulate_app()"
    command = [sys.executable, "-c", program, "itnio", "--port", str(itnio.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "choose another --port" in done.stdout
    assert "Traceback" not in done.stderr
