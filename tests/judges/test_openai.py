"""A judge behind a real HTTP server that is scripted, in a thread."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rayflow.core.options import build
from rayflow.errors import ConfigError, RewardError, StageError
from rayflow.judges.base import JudgeSampling
from rayflow.judges.openai import OpenAiJudge

Reply = tuple[int, bytes]


class Endpoint:
    """Answers with what `reply` makes of a request's body and its number, from 0."""

    def __init__(self, reply: Callable[[dict, int], Reply]) -> None:
        self.asked: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.asked)
                    outer.asked.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.paths.append(self.path)
                status, content = reply(body, number)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Callable[..., Endpoint]]:
    """Starts endpoints, and stops them after the test."""
    started: list[Endpoint] = []

    def start(reply: Callable[[dict, int], Reply]) -> Endpoint:
        started.append(Endpoint(reply))
        return started[-1]

    yield start
    for each in started:
        each.close()


def choices(*texts: str | None, chat: bool = True) -> Reply:
    made = [{"message": {"role": "assistant", "content": t}} if chat else {"text": t} for t in texts]
    return 200, json.dumps({"choices": made}).encode()


def asked(url: str, num: int = 4, seed: int = 7, **options: object) -> tuple[str, ...]:
    settings = {"url": url, "model": "judge-1", "backoff_s": 0.01, "max_retries": 2, "timeout_s": 5}
    judge = build("judge", OpenAiJudge.Config(**{**settings, **options}))
    judge.setup()
    try:
        return asyncio.run(judge.answers("Which?", num, JudgeSampling(max_tokens=9), seed))
    finally:
        judge.close()


def test_all_answers_are_one_request_with_a_seed(endpoint):
    server = endpoint(lambda body, _: choices(*["Verdict: A"] * body["n"]))
    assert asked(server.url) == ("Verdict: A",) * 4
    assert server.paths == ["/v1/chat/completions"]
    assert server.asked[0] == {
        "model": "judge-1",
        "messages": [{"role": "user", "content": "Which?"}],
        "n": 4,
        "seed": 7,
        "temperature": 0.7,
        "top_p": 1.0,
        "max_tokens": 9,
    }


def test_a_server_that_gives_one_answer_at_a_time_is_asked_again_with_other_seeds(endpoint):
    server = endpoint(lambda body, number: choices(f"Verdict: {'AB'[number % 2]}"))
    assert asked(server.url) == ("Verdict: A", "Verdict: B", "Verdict: A", "Verdict: B")
    assert [(body["n"], body["seed"]) for body in server.asked] == [(4, 7), (3, 8), (2, 9), (1, 10)]


def test_more_answers_than_asked_for_are_not_taken_and_no_content_is_an_empty_answer(endpoint):
    server = endpoint(lambda body, _: choices("x", None, "y", "z", "too many"))
    assert asked(server.url) == ("x", "", "y", "z")


def test_completions_continue_a_text_and_keys_can_be_added_or_left_out(endpoint):
    server = endpoint(lambda body, _: choices(*["B"] * body["n"], chat=False))
    extra = {"max_tokens": None, "max_completion_tokens": 9, "stop": ["\n\n"]}
    assert asked(server.url + "/", api="completions", extra=extra, seed=2**40 + 5) == ("B",) * 4
    body = server.asked[0]
    assert server.paths == ["/v1/completions"] and body["prompt"] == "Which?" and "messages" not in body
    assert "max_tokens" not in body and body["max_completion_tokens"] == 9 and body["stop"] == ["\n\n"]
    assert body["seed"] == 5


def test_a_busy_server_is_asked_again_and_one_that_refuses_stops_the_stage(endpoint, monkeypatch):
    server = endpoint(lambda body, n: choices(*["A"] * 4) if n == 2 else (429, b"slow down"))
    assert asked(server.url) == ("A",) * 4 and len(server.asked) == 3
    busy = endpoint(lambda body, _: (503, b"loading"))
    with pytest.raises(
        StageError, match=r"The judge at .*/v1/chat/completions did not answer in 3 attempts: 503"
    ):
        asked(busy.url)
    monkeypatch.setenv("JUDGE_TOKEN", "s3cret")
    closed = endpoint(lambda body, _: (401, b"bad key s3cret"))
    with pytest.raises(StageError, match="refuses requests: 401") as caught:
        asked(closed.url, token_env="JUDGE_TOKEN")
    assert "s3cret" not in str(caught.value) and closed.headers[0]["Authorization"] == "Bearer s3cret"
    monkeypatch.delenv("JUDGE_TOKEN")
    with pytest.raises(ConfigError, match="JUDGE_TOKEN is not set"):
        asked(closed.url, token_env="JUDGE_TOKEN")


def test_a_slow_server_times_out(endpoint):
    hold = threading.Event()
    server = endpoint(lambda body, _: (hold.wait(3), choices("A"))[1])
    with pytest.raises(StageError, match="did not answer in 1 attempts: ReadTimeout"):
        asked(server.url, timeout_s=0.1, max_retries=0)
    hold.set()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((400, b"context length exceeded"), "400 .*context length exceeded"),
        ((200, b"<html>"), "no 'choices'"),
        ((200, b'{"choices": []}'), "no answer"),
        ((200, b'{"choices": [{"text": "A"}]}'), "no 'choices'"),
        ((200, b'{"choices": [{"message": {"content": 3}}]}'), "no answer"),
    ],
)
def test_an_answer_that_cannot_be_used_fails_the_item(endpoint, reply, message):
    server = endpoint(lambda body, _: reply)
    with pytest.raises(RewardError, match=message):
        asked(server.url)
    assert len(server.asked) == 1


def test_what_the_judge_is_decides_the_fingerprint_and_how_patient_we_are_does_not():
    options = OpenAiJudge.Config(
        url="http://host/v1", model="m", token_env="T", num_concurrent=2, timeout_s=9
    )
    assert options.identity() == {
        "kind": "openai",
        "url": "http://host/v1",
        "version": "",
        "model": "m",
        "api": "chat",
        "extra": {},
    }
