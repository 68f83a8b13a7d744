"""Rewards of parts and rewards behind a server, as the score stage stores them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from rayflow.errors import ModelError, StageError
from tests.pipeline.conftest import NUM_PROMPTS, cheerful
from tests.pipeline.helpers import data_plan, run_data, tables, with_settings

CHEERFUL = {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"}
LENGTH = {"kind": "rule", "function": "tests.rewards.test_ensemble:length"}


def test_the_parts_of_an_ensemble_are_stored_with_their_variance(settings: dict) -> None:
    members = [{"reward": CHEERFUL, "name": "cheer"}, {"reward": LENGTH, "weight": -0.01, "name": "short"}]
    plan, _ = run_data(with_settings(settings, reward={"kind": "ensemble", "members": members}))
    stored = tables(plan)
    for sampled, scored in zip(stored["sample"], stored["score"], strict=True):
        cheer, length = scored["component_rewards"]
        assert cheer == [cheerful("", text) for text in sampled["responses"]]
        assert length == [len(text) for text in sampled["responses"]]
        assert scored["rewards"] == pytest.approx(np.array(cheer) - 0.01 * np.array(length))
        assert scored["variances"] == pytest.approx(np.var([cheer, length], axis=0))
    assert len(stored["pair"]) == NUM_PROMPTS
    plain, _ = run_data(with_settings(settings, name="plain"))
    assert "variances" not in tables(plain)["score"][0]


def test_a_member_that_cannot_be_used_is_refused_before_the_run(settings: dict, tmp_path) -> None:
    members = [{"reward": CHEERFUL}, {"reward": {"kind": "ranker", "model": str(tmp_path / "nowhere")}}]
    with pytest.raises(ModelError, match="nowhere"):
        run_data(with_settings(settings, reward={"kind": "ensemble", "members": members}))
    assert not (tmp_path / "runs" / "small" / "02-sample").exists()


class Scorer(BaseHTTPRequestHandler):
    """Scores like `cheerful`, once `needed` requests are there at the same time."""

    needed = threading.Barrier(2)

    def do_POST(self) -> None:
        items = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["items"]
        Scorer.needed.wait(timeout=20)
        rewards = [cheerful(item["prompt"], item["response"]) for item in items]
        content = json.dumps({"rewards": rewards}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scorer)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_server_is_asked_about_several_prompts_at_a_time(settings: dict, url: str) -> None:
    """The server answers none of the requests before two are waiting; 10 prompts are 5 such couples."""
    reward = {"kind": "http", "url": url, "timeout_s": 20, "max_retries": 0}
    plan, _ = run_data(with_settings(settings, reward=reward))
    by_rule, _ = run_data(with_settings(settings, name="rule"))
    assert tables(plan)["score"] == tables(by_rule)["score"]


def test_a_server_that_is_down_stops_the_run_and_leaves_what_is_finished(settings: dict) -> None:
    reward = {"kind": "http", "url": "http://127.0.0.1:9/", "max_retries": 1, "backoff_s": 0.01}
    config = with_settings(settings, reward=reward)
    with pytest.raises(StageError, match="did not answer in 2 attempts"):
        run_data(config)
    artifacts = data_plan(config).artifacts
    assert artifacts["sample"].shards.committed() and not artifacts["score"].shards.committed()
