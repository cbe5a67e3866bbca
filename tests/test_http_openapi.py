"""The OpenAPI document is true: whatever is sent, the answer is one that it describes, and never a 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.http_tools import House, houses

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]


@pytest.fixture
def house(database_url: str) -> Iterator[House]:
    makers = houses(database_url, None)
    yield next(makers)(hash_queue=1000)
    next(makers, None)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_every_answer_is_described(house: House, mode: GenerationMode) -> None:
    """Some requests are about a challenge that exists, some come with a test tenant's key, some may not."""
    keys = [house.key(), house.key("shop-test"), house.key("shop", "read")]
    challenge = house.client(keys[0]).open()["id"]
    chosen = st.tuples(st.sampled_from(keys), st.booleans())
    answered: set[tuple[str, int]] = set()
    for found in schemathesis.openapi.from_asgi("/openapi.json", house.app).get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode), choice=chosen)
        @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def check(case: Any, choice: tuple[str, bool]) -> None:
            key, known = choice
            if known and "challenge_id" in case.path_parameters:
                case.path_parameters["challenge_id"] = challenge
            response = case.call(headers={"Authorization": f"Bearer {key}"})
            case.validate_response(response, checks=_CHECKS)
            answered.add((case.operation.path, response.status_code))

        with suppress(*([Unsatisfiable] if mode is GenerationMode.NEGATIVE else [])):
            check()  # What takes no input has no wrong one.
    if mode is GenerationMode.POSITIVE:
        assert len({path for path, _status in answered}) == len(house.app.openapi()["paths"])
        assert {200, 201} <= {status for _path, status in answered}
    else:
        assert {404, 422} <= {status for _path, status in answered}


def test_every_route_needs_a_key_but_those_that_must_not(house: House) -> None:
    open_to_all = {"/.well-known/jwks.json", "/healthz", "/readyz", "/v1/reports/{secret}/{channel}"}
    stranger = house.client(None)
    for path, methods in house.app.openapi()["paths"].items():
        for method, operation in methods.items():
            answer = stranger.request(method.upper(), path, json={} if method in {"post", "put"} else None)
            assert (answer.status_code == 401) == (path not in open_to_all), (method, path, answer.status_code)
            assert ("security" in operation) == (path not in open_to_all), (method, path)


def test_no_route_looks_a_code_up_by_itself_and_none_shows_one(house: House) -> None:
    """P10, P81."""
    document = house.app.openapi()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            name = body.get("$ref", "").rsplit("/", 1)[-1]
            members = document["components"]["schemas"].get(name, {}).get("properties", {})
            assert "code" not in members or "_id}" in path, path
    answers = [name for name in document["components"]["schemas"] if name.endswith("Out")]
    assert len(answers) > 8
    for name in answers:
        assert "code" not in document["components"]["schemas"][name].get("properties", {})


def test_requests_and_problems_have_examples(house: House) -> None:
    document = house.app.openapi()
    schemas = document["components"]["schemas"]
    assert {"ChallengeIn", "VerifyIn", "ResendIn", "FactorIn", "ConfirmIn"} <= {
        name for name, schema in schemas.items() if "examples" in schema
    }
    failed = document["paths"]["/v1/challenges/{challenge_id}/verify"]["post"]["responses"]["422"]
    assert "verification-failed" in failed["content"]["application/problem+json"]["examples"]
