"""A reward server that works, is slow, breaks, lies or is not there: a real one, in a thread."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from pydantic import ValidationError

from rayflow.core.options import build
from rayflow.core.rows import Prompt
from rayflow.errors import ConfigError, RewardError, StageError
from rayflow.rewards.http import HttpReward

PROMPT = Prompt(prompt_id="p1", prompt="2 + 2 =", messages=(), target="4")
CHAT = Prompt(prompt_id="p2", prompt=None, messages=({"role": "user", "content": "Hi"},), target=None)

Answer = tuple[int, bytes, dict[str, str]]


class Server:
    """Answers with what `reply` makes of the items and the number of the request, from 0."""

    def __init__(self, reply: Callable[[list[dict], int], Answer]) -> None:
        self.bodies: list[dict] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                number = len(outer.bodies)
                outer.bodies.append(body)
                outer.headers.append(dict(self.headers))
                status, content, headers = reply(body["items"], number)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/score"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers, and stops them after the test."""
    started: list[Server] = []

    def start(reply: Callable[[list[dict], int], Answer]) -> Server:
        started.append(Server(reply))
        return started[-1]

    yield start
    for server in started:
        server.close()


def ok(rewards: object) -> Answer:
    return 200, json.dumps({"rewards": rewards}).encode(), {}


def lengths(items: list[dict], number: int) -> Answer:
    """A reward: the length of the response."""
    return ok([len(item["response"]) for item in items])


def reward(url: str, **options: object) -> HttpReward:
    built = build(
        "reward",
        HttpReward.Config(**{"url": url, "backoff_s": 0.01, "max_retries": 3, "timeout_s": 5, **options}),
    )
    built.setup()
    return built


def test_responses_go_in_batches_and_rewards_come_back_in_order(serve) -> None:
    server = serve(lengths)
    responses = ["a" * i for i in (3, 0, 5, 1, 2)]
    found = reward(server.url, batch_size=2).score(PROMPT, responses)
    assert found.dtype == np.float64 and found.tolist() == [3.0, 0.0, 5.0, 1.0, 2.0]
    assert [len(body["items"]) for body in server.bodies] == [2, 2, 1]
    first = {"prompt": "2 + 2 =", "messages": [], "response": "aaa", "target": "4"}
    assert server.bodies[0]["items"][0] == first
    assert reward(server.url).score(PROMPT, []).shape == (0,)


def test_a_chat_prompt_is_sent_as_text_and_as_turns(serve) -> None:
    server = serve(lengths)
    reward(server.url).score(CHAT, ["née"])
    (item,) = server.bodies[0]["items"]
    assert (item["prompt"], item["messages"]) == ("user: Hi", [{"role": "user", "content": "Hi"}])
    assert (item["response"], item["target"]) == ("née", None)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_recovers_is_asked_again(serve, status: int) -> None:
    server = serve(lambda items, number: lengths(items, 0) if number == 2 else (status, b"not now", {}))
    assert reward(server.url).score(PROMPT, ["abc"]).tolist() == [3.0]
    assert len(server.bodies) == 3


def test_a_server_that_stays_busy_stops_the_stage(serve) -> None:
    server = serve(lambda items, number: (503, b"loading model", {}))
    with pytest.raises(StageError, match=r"did not answer in 4 attempts: 503 .*loading model"):
        reward(server.url).score(PROMPT, ["abc"])
    assert len(server.bodies) == 4


def test_a_server_that_is_down_stops_the_stage_after_the_retries() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(StageError, match=rf"127.0.0.1:{port}/ did not answer in 3 attempts.*Connection"):
        reward(f"http://127.0.0.1:{port}/", max_retries=2, backoff_s=0.05).score(PROMPT, ["abc"])
    assert time.monotonic() - start >= 0.05 + 0.1  # the waits double


def test_a_slow_server_times_out_and_is_asked_again(serve) -> None:
    def slow_once(items: list[dict], number: int) -> Answer:
        time.sleep(1.0 if number == 0 else 0)
        return lengths(items, number)

    server = serve(slow_once)
    assert reward(server.url, timeout_s=0.3).score(PROMPT, ["abc"]).tolist() == [3.0]
    slow = serve(lambda items, number: (time.sleep(0.5), lengths(items, number))[1])
    with pytest.raises(StageError, match=r"did not answer in 1 attempts: ReadTimeout"):
        reward(slow.url, timeout_s=0.1, max_retries=0).score(PROMPT, ["abc"])


def test_a_server_is_given_the_time_it_asks_for(serve) -> None:
    def later(items: list[dict], number: int) -> Answer:
        return lengths(items, 0) if number else (429, b"", {"Retry-After": "0.4"})

    start = time.monotonic()
    assert reward(serve(later).url).score(PROMPT, ["abc"]).tolist() == [3.0]
    assert time.monotonic() - start >= 0.4


def test_an_error_that_stays_fails_the_row_with_the_servers_words(serve) -> None:
    server = serve(lambda items, number: (500, b"CUDA error on this input", {}))
    with pytest.raises(RewardError, match="500 .*CUDA error on this input"):
        reward(server.url).score(PROMPT, ["abc"])
    assert len(server.bodies) == 4
    picky = serve(lambda items, number: (422, b"response too long", {}))
    with pytest.raises(RewardError, match="422 .*response too long"):
        reward(picky.url).score(PROMPT, ["abc"])
    assert len(picky.bodies) == 1  # nothing to gain by asking again


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>hello</html>", "not JSON.*hello"),
        (b'{"rewards": [1.0, 2.0', "not JSON"),
        (b"[1.0, 2.0]", "no list 'rewards'"),
        (b'{"scores": [1.0, 2.0]}', "no list 'rewards'"),
        (b'{"rewards": 1.0}', "no list 'rewards'"),
        (b'{"rewards": [1.0]}', "1 rewards for 2 responses"),
        (b'{"rewards": [1.0, 2.0, 3.0]}', "3 rewards for 2"),
        (b'{"rewards": [1.0, NaN]}', "nan for item 1"),
        (b'{"rewards": [1.0, Infinity]}', "inf for item 1"),
        (b'{"rewards": [1.0, null]}', "None for item 1"),
        (b'{"rewards": [1.0, "2"]}', "'2' for item 1"),
        (b'{"rewards": [true, 2.0]}', "True for item 0"),
        (b'{"rewards": [1.0, -1' + b"0" * 400 + b"]}", "-1000.* for item 1, which is no finite number"),
        (
            b'{"rewards": [1.0, 1' + b"0" * 5000 + b"]}",
            "not JSON",
        ),  # Python reads no number of so many digits
    ],
)
def test_an_answer_that_cannot_be_used_fails_the_row(serve, content: bytes, message: str) -> None:
    server = serve(lambda items, number: (200, content, {}))
    with pytest.raises(RewardError, match=message):
        reward(server.url).score(PROMPT, ["a", "b"])
    assert len(server.bodies) == 1


def test_an_answer_cut_short_is_asked_for_again(serve) -> None:
    def cut(items: list[dict], number: int) -> Answer:
        status, content, _ = lengths(items, number)
        headers = {"Content-Length": str(len(content) + 10), "Connection": "close"} if number == 0 else {}
        return status, content, headers

    server = serve(cut)
    assert reward(server.url, timeout_s=0.5).score(PROMPT, ["abc"]).tolist() == [3.0]
    assert len(server.bodies) == 2


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405])
def test_a_wrong_url_or_token_stops_the_stage_at_once(serve, status: int) -> None:
    server = serve(lambda items, number: (status, b"no", {"Location": "/elsewhere"}))
    with pytest.raises(StageError, match=f"refuses requests: {status}.*token_env"):
        reward(server.url).score(PROMPT, ["abc"])
    assert len(server.bodies) == 1


def test_the_token_comes_from_the_environment_and_is_never_shown(serve, monkeypatch) -> None:
    monkeypatch.setenv("REWARD_TOKEN", "s3cret-value")

    def echo(items: list[dict], number: int) -> Answer:
        return 403, server.headers[-1]["Authorization"].encode(), {}

    server = serve(echo)
    built = reward(server.url, token_env="REWARD_TOKEN")
    with pytest.raises(StageError) as caught:
        built.score(PROMPT, ["abc"])
    assert server.headers[0]["Authorization"] == "Bearer s3cret-value"
    assert "s3cret" not in str(caught.value) and "***" in str(caught.value)
    assert "s3cret" not in built.options.model_dump_json()
    monkeypatch.delenv("REWARD_TOKEN")
    with pytest.raises(ConfigError, match="REWARD_TOKEN is not set"):
        reward(server.url, token_env="REWARD_TOKEN")


def test_a_password_of_the_home_folder_is_not_sent(serve, monkeypatch, tmp_path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hidden\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server = serve(lengths)
    reward(server.url).score(PROMPT, ["abc"])
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize("url", ["ftp://host/x", "host:8000", "http://", "http://me:pw@host/x"])
def test_an_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="must"):
        HttpReward.Config(url=url)


def test_where_and_how_fast_is_not_part_of_the_fingerprint() -> None:
    options = HttpReward.Config(url="http://host/", version="v2", token_env="T", max_retries=1)
    assert options.identity() == {"kind": "http", "url": "http://host/", "version": "v2"}
