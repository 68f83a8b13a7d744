"""A version as files: the Hugging Face layout, read back by other eyes; and whole groups, which training reads."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from rayflow.cli.app import app
from rayflow.config import PromptSource
from rayflow.core.given_rows import Example
from rayflow.errors import ConfigError
from rayflow.refresh import export as module
from rayflow.sources.read import read
from tests.refresh.conftest import DAYS, Nightly
from tests.refresh.test_refresh import GLOOMY


def rayflow(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("chat", [False, True])
def test_the_trl_export_holds_every_pair_once_and_says_what_its_columns_are(
    nightly: Nightly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chat: bool
) -> None:
    monkeypatch.setattr(module, "ROWS_PER_FILE", 10)
    if chat:
        rows = [{"messages": [{"role": "user", "content": f"Tell me of {i}."}]} for i in range(9)]
        nightly.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    nightly.run(DAYS[0])
    rayflow("table", nightly.root.root, "--export", tmp_path / "out")
    files = sorted((tmp_path / "out" / "data").iterdir())
    assert [f.name for f in files] == [
        f"train-{i:05d}-of-{len(files):05d}.parquet" for i in range(len(files))
    ]
    assert len(files) > 1
    pairs = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert len(pairs) == len({row["pair_id"] for row in pairs})
    assert len(pairs) == sum(len(row["pairs"]) for row in nightly.rows())
    stored = {row["prompt_id"]: row for row in nightly.rows()}
    for pair in pairs:
        row = stored[pair["prompt_id"]]
        chosen, _, rejected = pair["pair_id"].partition("/")[2].partition(">")
        assert [int(chosen), int(rejected)] in row["pairs"]
        answer = [{"role": "assistant", "content": row["responses"][int(chosen)]}]
        assert pair["chosen"] == (answer if chat else row["responses"][int(chosen)])
        assert pair["prompt"] == (row["messages"] if chat else row["prompt"])
        assert pair["score_chosen"] - pair["score_rejected"] == pytest.approx(pair["margin"])
    _, header, _ = (tmp_path / "out" / "README.md").read_text().split("---\n")
    card = yaml.safe_load(header)
    assert card["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}
    ]
    assert "dpo" in card["tags"]
    info = card["dataset_info"]
    assert [f["name"] for f in info["features"]] == pq.read_schema(files[0]).names
    assert info["splits"][0]["num_examples"] == len(pairs)
    turn = {"list": [{"name": "role", "dtype": "string"}, {"name": "content", "dtype": "string"}]}
    assert info["features"][1] == {"name": "chosen", **(turn if chat else {"dtype": "string"})}


def test_both_exports_are_read_back_by_their_layouts(refreshed: Nightly, tmp_path: Path) -> None:
    rayflow("table", refreshed.root.table, "--export", tmp_path / "trl")
    rayflow("table", refreshed.root.root, "--export", tmp_path / "groups", "--format", "groups")
    trl, groups = (
        list(read(PromptSource(path=str(tmp_path / name / "data"))))  # layout: as the keys tell
        for name in ("trl", "groups")
    )
    assert all(isinstance(each, Example) for each in (*trl, *groups))
    wanted = [row for row in refreshed.rows() if row["pairs"]]
    assert len(trl) == sum(len(row["pairs"]) for row in wanted) and len(groups) == len(wanted)

    def texts(examples: list[Example]) -> set[tuple[str, str, str]]:
        return {(e.prompt, e.responses[a], e.responses[b]) for e in examples for a, b in e.pairs}

    assert texts(trl) == texts(groups)
    assert texts(groups) == {
        (r["prompt"], r["responses"][a], r["responses"][b]) for r in wanted for a, b in r["pairs"]
    }

    def endings(examples: list[Example]) -> set[tuple[str, ...]]:
        return {
            (e.prompt, *(e.responses[i] for i in pair), *(e.finish_reasons[i] for i in pair))
            for e in examples
            for pair in e.pairs
        }

    assert endings(trl) <= endings(groups)  # the first of several pairs with the same texts
    assert {reason for e in trl for reason in e.finish_reasons} == {"stop", "length"}
    for example in groups:
        assert all(example.rewards[a] > example.rewards[b] for a, b in example.pairs)


def test_versions_are_listed_shown_exported_and_promoted_by_hand(refreshed: Nightly, tmp_path: Path) -> None:
    refreshed.run(DAYS[1], GLOOMY)
    first, second = (record.version for record in refreshed.root.records())
    listed = rayflow("table", refreshed.root.root)
    assert DAYS[0] in listed and "readers get this" in listed and "held back" in listed
    shown = rayflow("table", refreshed.root.root, "--version", second)
    assert (
        "held back" in shown and "max_reward_shift" in shown and "computed: the reward changed: 20" in shown
    )
    for version, name in ((first, "a"), (second, "b")):
        rayflow("table", refreshed.root.root, "--version", version, "--export", tmp_path / name)
    scores = [pq.read_table(tmp_path / n / "data").column("score_chosen").to_pylist() for n in "ab"]
    assert min(scores[0]) > 0 > max(scores[1])
    assert "Promoted" in rayflow("table", refreshed.root.root, "--version", second, "--promote")
    assert refreshed.root.latest == second and refreshed.root.promoted()[second]["by"] == "hand"
    assert refreshed.run(DAYS[1], GLOOMY) == 0 and "Done before" in refreshed.said


def test_export_and_promotion_say_what_they_cannot_do(refreshed: Nightly, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        rayflow("table", refreshed.root.root, "--export", tmp_path / "full")
    with pytest.raises(ConfigError, match="Known: trl, groups"):
        rayflow("table", refreshed.root.root, "--export", tmp_path / "new", "--format", "csv")
    with pytest.raises(ConfigError, match="--version N"):
        rayflow("table", refreshed.root.root, "--promote")
    with pytest.raises(ConfigError, match="cannot be promoted any more"):
        rayflow("table", refreshed.root.root, "--promote", "--version", refreshed.root.latest)
    with open(refreshed.prompts, "a") as file:
        file.write('{"messages": [{"role": "user", "content": "Chat with me about the weather."}]}\n')
    refreshed.run(DAYS[1])
    with pytest.raises(ConfigError, match="Chat and plain prompts"):
        rayflow("table", refreshed.root.root, "--export", tmp_path / "new")
    assert not [path.name for path in tmp_path.iterdir() if "new" in path.name]


def test_a_group_loses_what_teaches_nothing_and_keeps_the_rest() -> None:
    row = {
        "prompt_id": "p",
        "prompt": "Say yes.",
        "messages": [],
        "target": None,
        "responses": ["Yes.", " ", "No.", " Yes."],
        "finish_reasons": ["stop", "stop", "length", "stop"],
        "rewards": [1.0, 0.0, -1.0, 0.5],
        "accepted": [0, 1, 2],
        "pairs": [[0, 1], [0, 2], [0, 3]],
    }
    (made,) = module._group(row)
    assert made["responses"] == ["Yes.", "No.", " Yes."] and made["scores"] == [1.0, -1.0, 0.5]
    assert made["finish_reasons"] == ["stop", "length", "stop"]
    assert made["pairs"] == [[0, 1]]  # the empty response is gone, and two that say the same are no pair
    assert list(module._group({**row, "responses": [" "] * 4})) == []
