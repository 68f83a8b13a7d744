"""A refresh from day to day: what is computed, what is carried over, what readers get."""

from __future__ import annotations

import json
import shutil

import pytest
from rich.console import Console

from rayflow.core.files import read_json
from rayflow.errors import ArtifactError, ConfigError, DataError
from rayflow.refresh import commands
from rayflow.refresh.folder import RefreshFolder
from tests.pipeline.conftest import cheerful
from tests.refresh.conftest import DAYS, Nightly

GLOOMY = "reward.function=tests.refresh.engines:gloomy"
OPEN = "refresh.gate={max_reward_shift: null, max_reward_distance: null, max_length_drift: null}"


def provenance(row: dict) -> tuple:
    return tuple(row[name] for name in ("prompt_id", "date", "attempt", "policy", "sampling", "reward"))


def test_the_first_refresh_gives_readers_every_prompt_once_with_its_whole_group(nightly: Nightly) -> None:
    assert nightly.run(DAYS[0]) == 0
    rows = nightly.rows()
    assert len(nightly.asked()) == len({row["prompt_id"] for row in rows}) == len(rows) == 20
    for row in rows:
        n = len(row["responses"])
        assert n == len(row["rewards"]) == len(row["num_tokens"]) == len(row["logprobs"]) == 16
        assert all(row["rewards"][a] > row["rewards"][b] for a, b in row["pairs"])
        assert row["margins"] == [row["rewards"][a] - row["rewards"][b] for a, b in row["pairs"]]
        assert (row["date"], row["attempt"]) == (DAYS[0], f"{DAYS[0]}-1")
        # The fake engine's tokens are bytes, and an end of turn where the response ended by itself.
        ended = [reason == "stop" for reason in row["finish_reasons"]]
        texts = zip(row["responses"], ended, strict=True)
        assert row["num_tokens"] == [len(text.encode()) + end for text, end in texts]


def test_a_day_that_is_done_is_not_done_again(nightly: Nightly) -> None:
    assert nightly.run(DAYS[0]) == 0
    nightly.asked()
    nightly.write(range(30))
    assert nightly.run(DAYS[0]) == 0 and "Done before" in nightly.said
    assert nightly.asked() == [] and len(nightly.rows()) == 20


def test_only_new_prompts_are_computed_and_the_other_rows_stay_as_they_are(refreshed: Nightly) -> None:
    before = {row["prompt_id"]: row for row in refreshed.rows()}
    refreshed.asked()
    refreshed.write(range(2, 23))
    assert refreshed.run(DAYS[1]) == 0
    assert sorted(refreshed.asked()) == sorted(f"Tell me all you know about {i}." for i in (20, 21, 22))
    after = {row["prompt_id"]: row for row in refreshed.rows()}
    assert len(after) == 21 and len(before.keys() & after.keys()) == 18
    assert all(after[key] == before[key] for key in before.keys() & after.keys())
    assert {after[key]["date"] for key in after.keys() - before.keys()} == {DAYS[1]}
    assert refreshed.root.record(refreshed.root.latest).counts == {
        "read": 21,
        "dropped": {},
        "carried": 18,
        "restored": 0,
        "todo": {"new": 3},
        "gone": 2,
        "failed": 0,
    }


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("model=another", "policy"),
        ("sample.temperature=0.9", "sampling"),
        ("seed=4", "sampling"),
        (GLOOMY, "reward"),
        ("select.beta=0.2", "selection"),
        ("pair.kind=tournament", "selection"),
    ],
)
def test_a_changed_part_of_the_recipe_computes_every_prompt_again(
    refreshed: Nightly, setting: str, why: str
) -> None:
    refreshed.asked()
    assert refreshed.run(DAYS[1], setting, OPEN) == 0
    assert len(refreshed.asked()) == 20
    assert refreshed.root.record(refreshed.root.latest).counts["todo"] == {why: 20}
    assert {row["date"] for row in refreshed.rows()} == {DAYS[1]}


@pytest.mark.parametrize(
    "setting",
    ["compute.shard_size=7", "train.learning_rate=0.5", "sample.engine.latency_seconds=0.001"],
)
def test_what_does_not_decide_the_rows_computes_nothing(refreshed: Nightly, setting: str) -> None:
    refreshed.asked()
    assert refreshed.run(DAYS[1], setting) == 0 and "Nothing has changed" in refreshed.said
    assert refreshed.asked() == [] and len(refreshed.root.records()) == 1
    assert refreshed.root.day(DAYS[1]) == refreshed.root.latest
    assert refreshed.run(DAYS[1]) == 0 and "Done before" in refreshed.said


def test_a_policy_in_a_folder_of_another_name_is_the_same_policy(nightly: Nightly, tiny_model: str) -> None:
    models = [shutil.copytree(tiny_model, nightly.folder / name) for name in ("before", "after-1")]
    assert nightly.run(DAYS[0], f"model={models[0]}") == 0 and len(nightly.asked()) == 20
    assert nightly.run(DAYS[1], f"model={models[1]}") == 0 and nightly.asked() == []
    assert "Nothing has changed" in nightly.said
    nightly.write(range(21))
    assert nightly.run(DAYS[2], f"model={models[1]}") == 0 and len(nightly.asked()) == 1
    names = {row["policy"].rpartition("-")[0] for row in nightly.rows()}
    assert names == {"before", "after-1"}
    (models[1] / "config.json").write_text((models[1] / "config.json").read_text() + "\n")
    assert nightly.run(DAYS[3], f"model={models[1]}") == 0 and len(nightly.asked()) == 21


def test_a_day_goes_on_when_its_policy_was_moved(
    nightly: Nightly, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rayflow.refresh.table import PreferenceTable

    model = shutil.copytree(tiny_model, nightly.folder / "before")
    with monkeypatch.context() as patch:
        patch.setattr(PreferenceTable, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
        with pytest.raises(OSError):
            nightly.run(DAYS[0], f"model={model}")
    assert len(nightly.asked()) == 20
    moved = model.rename(nightly.folder / "after")
    assert nightly.run(DAYS[0], f"model={moved}") == 0
    assert nightly.asked() == [] and "Going on with" in nightly.said


def test_a_changed_target_computes_its_prompt_again(nightly: Nightly) -> None:
    nightly.write(range(20), target="good")
    nightly.run(DAYS[0])
    rows = nightly.prompts.read_text().splitlines()
    rows[5] = rows[5].replace('"good"', '"better"')
    nightly.prompts.write_text("\n".join(rows))
    nightly.asked()
    nightly.run(DAYS[1])
    assert nightly.asked() == ["Tell me all you know about 5."]
    assert nightly.root.record(nightly.root.latest).counts["todo"] == {"prompt": 1}


def test_every_earlier_version_can_be_read_again(nightly: Nightly) -> None:
    seen = {}
    for day, last in zip(DAYS[:4], (20, 22, 25, 21), strict=True):
        nightly.write(range(last))
        assert nightly.run(day) == 0
        seen[nightly.root.latest] = nightly.rows()
    assert [len(rows) for rows in seen.values()] == [20, 22, 25, 21]
    assert all(nightly.rows(version) == rows for version, rows in seen.items())
    with pytest.raises(ArtifactError, match="has no version 99"):
        nightly.rows(99)


def test_a_version_that_fails_the_gate_is_written_but_readers_keep_the_last_good_one(
    refreshed: Nightly,
) -> None:
    good, before = refreshed.root.latest, refreshed.rows()
    assert refreshed.run(DAYS[1], GLOOMY) == 3
    assert refreshed.root.latest == good and refreshed.rows() == before
    newest = refreshed.root.records()[-1]
    assert newest.version > good and not newest.passed and "mean reward" in " ".join(newest.reasons)
    assert all(reason in refreshed.said for reason in newest.reasons)
    assert max(row["rewards"][0] for row in refreshed.rows(newest.version)) < -5
    page = (refreshed.root.root / "report.html").read_text()
    assert "written but not promoted" in page and "The mean reward of the whole table moved" in page


def test_a_day_that_was_held_back_is_judged_again_without_computing(refreshed: Nightly) -> None:
    assert refreshed.run(DAYS[1], GLOOMY) == 3
    refreshed.asked()
    assert refreshed.run(DAYS[1], GLOOMY) == 3
    assert refreshed.run(DAYS[1], GLOOMY, OPEN) == 0
    assert refreshed.asked() == []
    record = refreshed.root.record(refreshed.root.latest)
    assert record.passed and record.counts["todo"] == {"reward": 20}
    assert {row["date"] for row in refreshed.rows()} == {DAYS[1]}


def test_rows_that_were_replaced_in_a_held_back_version_come_back_when_the_change_is_undone(
    refreshed: Nightly,
) -> None:
    before = refreshed.rows()
    refreshed.run(DAYS[1], GLOOMY)
    refreshed.asked()
    refreshed.write(range(21))
    assert refreshed.run(DAYS[2]) == 0
    assert refreshed.asked() == ["Tell me all you know about 20."]
    assert [row for row in refreshed.rows() if row["date"] == DAYS[0]] == before
    assert refreshed.root.record(refreshed.root.latest).counts["restored"] == 20


def test_new_rows_are_judged_by_themselves_so_that_old_ones_cannot_hide_them(nightly: Nightly) -> None:
    """A tenth of the rows is worse: the mean of the whole table hardly moves."""
    settings = (
        "refresh.dedup.near=null",
        "reward.function=tests.refresh.test_refresh:worse_for_newcomers",
    )
    nightly.write(range(200))
    assert nightly.run(DAYS[0], *settings) == 0
    nightly.write([*range(200), *(f"newcomer {i}" for i in range(20))])
    assert nightly.run(DAYS[1], *settings) == 3
    reasons = nightly.root.records()[-1].reasons
    assert any("mean reward of the new rows moved" in reason for reason in reasons)
    assert not any("the whole table" in reason for reason in reasons)


def worse_for_newcomers(prompt: str, response: str) -> float:
    """The tests' reward, lower for some prompts."""
    return cheerful(prompt, response) - (0.3 if "newcomer" in prompt else 0.0)


def test_prompts_that_failed_are_tried_again_the_next_day(nightly: Nightly) -> None:
    setting = "sample.engine.fail_on=about 7."
    assert nightly.run(DAYS[0], setting, "refresh.gate.max_failure_rate=0.2") == 0
    assert len(nightly.rows()) == 19
    assert nightly.root.record(nightly.root.latest).counts["failed"] == 1
    nightly.asked()
    assert nightly.run(DAYS[1], setting, "refresh.gate.max_failure_rate=null") == 0
    assert nightly.asked() == ["Tell me all you know about 7."]


def test_a_table_that_keeps_what_is_missing_grows_by_each_days_file(nightly: Nightly) -> None:
    daily = f"prompts.train.path={nightly.folder}/{{date}}.jsonl"
    for day, names in ((DAYS[0], range(10)), (DAYS[1], range(8, 14))):
        nightly.write(names)
        nightly.prompts.rename(nightly.folder / f"{day}.jsonl")
        assert nightly.run(day, daily, "refresh.missing=keep") == 0
    assert len(nightly.asked()) == 14 == len(nightly.rows())
    assert nightly.run(DAYS[1], daily, "refresh.missing=keep") == 0
    nightly.prompts = nightly.folder / f"{DAYS[2]}.jsonl"
    nightly.write([0])
    assert nightly.run(DAYS[2], daily, "refresh.missing=keep", "sample.temperature=0.9", OPEN) == 0
    assert len(nightly.asked()) == 14  # those of earlier files too: their policy's sampling has changed


def test_near_duplicates_and_repeats_are_left_out_and_counted(nightly: Nightly) -> None:
    text = "Write a long and friendly letter to the neighbours about the music that was heard all {} evening."
    nightly.write(range(5))
    with open(nightly.prompts, "a") as file:
        for prompt in (text.format("Friday"), text.format("Sunday"), text.format("FRIDAY"), "  x", "X"):
            file.write(json.dumps({"prompt": prompt}) + "\n")
    nightly.run(DAYS[0], "refresh.dedup.near.threshold=0.7")
    record = nightly.root.record(nightly.root.latest)
    assert len(nightly.rows()) == 7
    assert record.counts["dropped"] == {"near-duplicate prompt": 1, "duplicate after normalisation": 2}
    page = (nightly.root.root / "report.html").read_text()
    assert "dropped: near-duplicate prompt" in page


def test_a_newcomer_never_displaces_the_prompt_it_resembles(nightly: Nightly) -> None:
    settings = ("refresh.dedup.near.threshold=0.5",)
    nightly.write(["the sea and all the ships on it"])
    nightly.run(DAYS[0], *settings)
    before = nightly.rows()
    nightly.write(["the sea and all the boats on it", "the sea and all the ships on it"])
    assert nightly.run(DAYS[1], *settings) == 0
    assert nightly.rows() == before


def test_a_dry_run_says_what_would_be_done_and_leaves_nothing(nightly: Nightly) -> None:
    assert commands.refresh(nightly.config(), DAYS[0], Console(quiet=True), dry_run=True) == 0
    assert not nightly.root.root.exists() and nightly.asked() == []


def test_the_run_of_an_unfinished_day_is_given_up_when_its_rows_would_be_others(
    nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rayflow.refresh.table import PreferenceTable

    with monkeypatch.context() as patch:
        patch.setattr(PreferenceTable, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
        with pytest.raises(OSError):
            nightly.run(DAYS[0])
    assert nightly.run(DAYS[0], "sample.temperature=0.9") == 0
    assert "given up" in nightly.said and "recipe.sampling" in nightly.said
    assert read_json(nightly.root.attempts / f"{DAYS[0]}-1" / "done.json")["abandoned"]
    assert {row["attempt"] for row in nightly.rows()} == {f"{DAYS[0]}-2"}


def test_a_day_that_died_after_writing_costs_the_next_day_nothing(
    refreshed: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    refreshed.write(range(22))
    with monkeypatch.context() as patch:
        patch.setattr(RefreshFolder, "write_record", lambda *_: (_ for _ in ()).throw(OSError("no space")))
        with pytest.raises(OSError):
            refreshed.run(DAYS[1])
    assert len(refreshed.rows()) == 20
    refreshed.asked()
    assert refreshed.run(DAYS[2]) == 0 and len(refreshed.rows()) == 22
    assert refreshed.run(DAYS[1]) == 0 and refreshed.asked() == []
    assert len(refreshed.root.records()) == 2 and refreshed.root.day(DAYS[1]) == refreshed.root.day(DAYS[2])


def test_a_day_whose_version_was_removed_before_it_was_judged_is_computed_anew(
    nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later days replaced its rows, and retention removed the files that nobody had promoted."""
    keep_one = ("refresh.retention={versions: 1, days: 0, grace_hours: 0}",)
    nightly.run(DAYS[0], *keep_one)
    with monkeypatch.context() as patch:
        patch.setattr(RefreshFolder, "write_record", lambda *_: (_ for _ in ()).throw(OSError("no space")))
        with pytest.raises(OSError):
            nightly.run(DAYS[1], "sample.temperature=0.8", *keep_one)
    assert nightly.run(DAYS[2], "sample.temperature=0.9", *keep_one) == 0
    assert nightly.run(DAYS[1], "sample.temperature=0.9", *keep_one) == 0
    assert nightly.root.day(DAYS[1]) is not None and len(nightly.rows()) == 20


def test_a_prompt_with_too_few_accepted_is_sampled_again(nightly: Nightly) -> None:
    more = ("select.num_accepted=20", "select.shortfall=resample", "select.max_resamples=1")
    assert nightly.run(DAYS[0], *more) == 0
    rows = nightly.rows()
    assert len(rows) == 20 and len(nightly.asked()) == 40
    for row in rows:
        assert len(row["responses"]) == len(row["rewards"]) == len(row["num_tokens"]) == 32
        assert row["pairs"] and max(map(max, row["pairs"])) >= 16


def test_a_selection_that_reads_no_rewards_has_them_in_its_table(nightly: Nightly) -> None:
    rules = ("select={kind: first_k}", "pair=none", "train.loss=cross_entropy")
    assert nightly.run(DAYS[0], *rules, "refresh.gate.min_paired=0") == 0
    assert all(len(row["rewards"]) == 16 for row in nightly.rows())


def test_mistakes_are_sentences(nightly: Nightly) -> None:
    with pytest.raises(ConfigError, match="must be a date"):
        nightly.run("yesterday")
    with pytest.raises(ConfigError, match="refresh.gate.max_shift: unknown key. Did you mean"):
        nightly.config("refresh.gate.max_shift=1")
    with pytest.raises(ConfigError, match="a refresh samples its responses"):
        nightly.config("source=direct", "select=null", "pair=null")
    with pytest.raises(ConfigError, match="select.low and select.high: give them as numbers"):
        nightly.run(DAYS[0], "select={kind: threshold, scale: global, threshold: 0.5}")
    nightly.prompts.write_text('{"prompt": ""}\n')
    with pytest.raises(DataError, match=r"holds no prompts \(rows refused: 1; .* 'prompt' is empty"):
        nightly.run(DAYS[0])
    with pytest.raises(ArtifactError, match="holds no preference table"):
        RefreshFolder.open(nightly.folder)
    (nightly.folder / "runs" / "taken").mkdir(parents=True)
    (nightly.folder / "runs" / "taken" / "run.json").write_text("{}")
    with pytest.raises(ArtifactError, match="is not a refresh's folder"):
        nightly.write([1])
        nightly.run(DAYS[0], "name=taken")
    with pytest.raises(ArtifactError, match="is not a refresh's folder"):
        commands.refresh(nightly.config("name=taken"), DAYS[0], Console(quiet=True), dry_run=True)
    assert len(list((nightly.folder / "runs" / "taken").iterdir())) == 1


def test_a_gate_that_nothing_passes_is_refused(nightly: Nightly) -> None:
    with pytest.raises(
        ConfigError, match="refresh.gate: min_acceptance_rate 0.6 is above max_acceptance_rate 0.4"
    ):
        nightly.config("refresh.gate={min_acceptance_rate: 0.6, max_acceptance_rate: 0.4}")
    nightly.config("refresh.gate={min_acceptance_rate: 0.4, max_acceptance_rate: 0.4}")
