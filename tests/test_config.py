"""The border: what a mistake in a configuration says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rayflow.config import RunConfig, load_config, override, schema_of
from rayflow.config.blocks import WorkerRange
from rayflow.config.hints import _ELSEWHERE, _PLACES, _SENTENCES, fields_at
from rayflow.config.reward import RewardConfig
from rayflow.config.settings import read_settings
from rayflow.config.study import StudyConfig
from rayflow.core.registry import FAMILIES, resolve
from rayflow.errors import ConfigError
from rayflow.rewards.ensemble import EnsembleReward

MINIMAL = {
    "name": "a",
    "model": "org/model",
    "prompts": {"train": {"path": "p.jsonl"}},
    "reward": {"kind": "rule", "function": "m:f"},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


def test_defaults_are_the_papers(file: Path) -> None:
    config = load_config(file)
    assert (config.sample.num_candidates, config.sample.temperature, config.sample.top_k) == (64, 0.7, 40)
    assert (config.select.kind, config.select.beta, config.select.num_accepted) == ("rejection", 0.5, 8)
    assert (config.pair.kind, config.train.loss.kind, config.train.loss.gamma) == (
        "first_round",
        "sigmoid_norm",
        0.05,
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "rrhf", "lipo_lambda"])
def test_no_pairs_are_made_for_a_loss_that_reads_none(file: Path, loss: str) -> None:
    assert load_config(file, [f"train.loss={loss}"]).pair.kind == "none"
    assert load_config(file, [f"train.loss={loss}", "pair=tournament"]).pair.kind == "tournament"


def test_a_layout_is_found_named_or_set(file: Path) -> None:
    assert load_config(file).prompts.train.layout.kind == "auto"
    named = load_config(file, ["prompts.train.layout=hh", "prompts.train.layout.chat=false"])
    assert named.prompts.train.layout.model_dump() == {"kind": "hh", "chat": False}


def test_overrides_are_yaml_and_reach_into_blocks(file: Path) -> None:
    config = load_config(file, ["select.beta=0.25", "pair=tournament", "train.loss.kind=hinge_norm"])
    assert (config.select.beta, config.pair.kind, config.train.loss.kind) == (
        0.25,
        "tournament",
        "hinge_norm",
    )


@pytest.mark.parametrize(
    ("family", "block"), [("selection", "select"), ("pairing", "pair"), ("loss", "train.loss")]
)
def test_another_kind_takes_its_own_settings_with_it(
    file: Path, tmp_path: Path, family: str, block: str
) -> None:
    """Also over a stored configuration, which holds every setting of the kind that it was made with."""
    stored = tmp_path / "config.yaml"
    stored.write_text(load_config(file).to_yaml())
    for kind in FAMILIES[family]:
        own = resolve(family, kind).Config(kind=kind)
        found = load_config(stored, [f"{block}.kind={kind}"])
        for name in block.split("."):
            found = getattr(found, name)
        assert found == own, kind


def test_a_kind_keeps_what_is_set_beside_it_and_the_same_kind_keeps_everything(file: Path) -> None:
    config = load_config(file, ["select.num_accepted=3", "select.kind=top_k", "train.loss.gamma=0.7"])
    assert (config.select.kind, config.select.num_accepted) == ("top_k", 3)
    again = override(config, {"select.kind": "top_k", "train.loss.kind": "sigmoid_norm"})
    assert (again.select.num_accepted, again.train.loss.gamma) == (3, 0.7)
    assert load_config(file, ["reward.model=m", "reward.kind=classifier"]).reward.model == "m"
    beta = {**MINIMAL, "select": {"beta": 0.25}}  # rejection sampling, which goes without saying
    file.write_text(yaml.safe_dump(beta))
    assert load_config(file, ["select.kind=rejection"]).select.beta == 0.25


def test_a_block_over_a_kind_alone_keeps_the_kind(file: Path, tmp_path: Path) -> None:
    """`select: gumbel` is short for {kind: gumbel}, in a base, too."""
    file.write_text(yaml.safe_dump({**MINIMAL, "select": "gumbel", "train": {"loss": "hinge_norm"}}))
    child = tmp_path / "child.yaml"
    settings = {"select": {"beta": 0.125}, "train": {"loss": {"gamma": 0.25}}}
    child.write_text(yaml.safe_dump({"extends": file.name, **settings}))
    found = load_config(child)
    assert (found.select.kind, found.select.beta) == ("gumbel", 0.125)
    assert (found.train.loss.kind, found.train.loss.gamma) == ("hinge_norm", 0.25)
    more = tmp_path / "more.yaml"
    more.write_text(yaml.safe_dump(settings))
    assert load_config(file, [f"@{more}"]).select == found.select


def test_a_key_that_stands_twice_is_an_error_and_what_is_taken_over_may_be_written_again(
    file: Path, tmp_path: Path
) -> None:
    file.write_text(yaml.safe_dump(MINIMAL) + "train: {batch_size: 2}\nseed: 1\ntrain: {num_epochs: 2}\n")
    with pytest.raises(ConfigError, match="'train' stands twice, in lines 9 and 11; join the two"):
        load_config(file)
    file.write_text(
        yaml.safe_dump(MINIMAL) + "train: &it {batch_size: 2}\nselect: {<<: {beta: 0.25}, beta: 0.125}\n"
    )
    assert load_config(file).select.beta == 0.125
    file.write_text(yaml.safe_dump(MINIMAL) + "select: {beta: 1, beta: 2}\n")
    with pytest.raises(ConfigError, match="'beta' stands twice, in lines 9 and 9"):
        load_config(file)
    deep = "prompts: {train: {path: p.jsonl}}\ntrain: {loss: &own {<<: {kind: hinge, gamma: 1}, gamma: 2}}\n"
    file.write_text(
        yaml.safe_dump({k: v for k, v in MINIMAL.items() if k != "prompts"}) + deep + "extra: {<<: *own}\n"
    )
    assert read_settings(file)["extra"] == {"kind": "hinge", "gamma": 2}


@pytest.mark.parametrize(
    ("block", "command"), [("policy", "evaluate"), ("data", "train-reward"), ("rows", "study run")]
)
def test_a_file_of_another_job_names_its_command(file: Path, block: str, command: str) -> None:
    file.write_text(yaml.safe_dump({**MINIMAL, block: {}}))
    with pytest.raises(ConfigError, match=f"has a block '{block}': it is for `rayflow {command}`"):
        load_config(file)


@pytest.mark.parametrize("schema", [RewardConfig, StudyConfig])
def test_a_run_given_to_another_job_names_its_command(file: Path, schema: type) -> None:
    with pytest.raises(
        ConfigError, match="has a block 'prompts' and none of another job: it is for `rayflow run`"
    ):
        load_config(file, None, schema)


def test_of_many_mistakes_the_first_are_named(file: Path) -> None:
    file.write_text(yaml.safe_dump({**MINIMAL, **{f"no{i}": i for i in range(12)}}))
    with pytest.raises(ConfigError) as error:
        load_config(file)
    assert len(str(error.value).splitlines()) == 7 and str(error.value).endswith("\n  and 7 more")


def test_what_is_no_text_and_what_has_no_near_name_is_said(tmp_path: Path) -> None:
    (tmp_path / "bin.yaml").write_bytes(b"\x89PNG")
    with pytest.raises(ConfigError, match="bin.yaml' is not a text file.$"):
        load_config(tmp_path / "bin.yaml")
    with pytest.raises(ConfigError, match="nosuch.yaml' does not exist.$"):
        load_config(tmp_path / "nosuch.yaml")
    with pytest.raises(ConfigError, match="Did you mean '.*bin.yaml'"):
        load_config(tmp_path / "bni.yaml")


def test_the_settings_of_another_file_go_over_a_configuration_and_single_ones_over_them(
    file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "compute.yaml"
    compute = {"address": "auto", "sample": {"num_workers": 4}}
    other.write_text(yaml.safe_dump({"runs_dir": "/shared/runs", "compute": compute}))
    config = load_config(file, ["compute.score.num_workers=2", f"@{other}", "compute.address=head:6379"])
    assert (config.runs_dir, config.model) == ("/shared/runs", "org/model")
    assert (config.compute.sample.num_workers, config.compute.score.num_workers) == (4, 2)
    assert config.compute.address == "head:6379"
    with pytest.raises(ConfigError, match="none.yaml' does not exist"):
        load_config(file, [f"@{tmp_path / 'none.yaml'}"])


METHODS = sorted((Path(__file__).parents[1] / "jobs" / "configs" / "methods").glob("*.yaml"))


@pytest.mark.parametrize("method", METHODS, ids=lambda path: path.stem)
def test_a_method_goes_over_a_configuration_without_what_it_extends(method: Path, file: Path) -> None:
    """The demonstration's model, prompts, reward and sizes stay behind; what makes the method comes along."""
    own = load_config(file, ["sample.max_tokens=300"])
    found, ready = load_config(file, ["sample.max_tokens=300", f"@{method}"]), load_config(method)
    assert (found.name, found.model) == (method.stem, own.model)
    assert (found.reward, found.compute) == (own.reward, own.compute)
    assert (found.sample.max_tokens, found.train.learning_rate) == (300, own.train.learning_rate)
    assert found.prompts.evaluation is None and ready.prompts.evaluation is not None
    assert (found.source, found.select, found.pair) == (ready.source, ready.select, ready.pair)
    assert (found.train.loss, found.rounds) == (ready.train.loss, ready.rounds)


def test_the_resolved_configuration_reads_back_as_itself(file: Path, tmp_path: Path) -> None:
    config = load_config(file, ["seed=7"])
    stored = tmp_path / "resolved.yaml"
    stored.write_text(config.to_yaml())
    assert load_config(stored) == config


@pytest.mark.parametrize(
    "override, message",
    [
        ("sampel.top_k=3", "sampel: unknown key. Did you mean 'sample'?"),
        ("sample.temprature=1", "sample.temprature: unknown key. Did you mean 'temperature'?"),
        ("select.bta=1", "select.bta: unknown key. Did you mean 'beta'?"),
        ("train.loss={kind: hinge_nrm}", "Unknown loss kind 'hinge_nrm'. Did you mean 'hinge_norm'?"),
        ("train.loss.gama=1", "train.loss.gama: unknown key. Did you mean 'gamma'?"),
        ("train.loss.beta=0.1", "train.loss.beta: unknown key. Did you mean 'gamma'?"),
        ("train.per_device_train_batch_size=4", "size: unknown key. Did you mean 'batch_size'?"),
        ("sample.max_new_tokens=9", "sample.max_new_tokens: unknown key. Did you mean 'max_tokens'?"),
        ("sample.num_return_sequences=4", "unknown key. Did you mean 'num_candidates'?"),
        ("sample.max_length=9", "Set sample.max_tokens, which counts the response alone"),
        ("train.max_length=9", "Set sample.max_tokens, which counts the response alone"),
        ("train.beta=0.1", "train.beta: unknown key. Did you mean 'loss.gamma'?"),
        (
            "sample.stop=x",
            "sample.stop: unknown key. Known: engine, max_tokens, model, num_candidates, seed,",
        ),
        ("train.gradient_accumulation_steps=4", "steps: unknown key. It follows from batch_size"),
        ("train.bf16=true", "train.bf16: unknown key. Set precision: bfloat16."),
        ("train.warmup_steps=10", "'warmup_fraction'? It is a share of all optimizer steps"),
        ("train.max_steps=10", "Training is as long as num_epochs says"),
        ("train.save_steps=10", "unknown key. Did you mean 'checkpoint_every_steps'?"),
        ("train.max_completion_length=9", "unknown key. Did you mean 'sample.max_tokens'?"),
        ("train.temperature=1", "unknown key. Did you mean 'sample.temperature'?"),
        ("learning_rate=1", "unknown key. Did you mean 'train.learning_rate'?"),
        (
            "reward={kind: ensemble, missing_eos_penalty: 1, members: [{reward: {kind: rule, function: 'm:f'}}]}",
            "reward.missing_eos_penalty: unknown key. Its members take it",
        ),
        ("seed=abc", "seed: Input should be a valid integer"),
        ("sample.temperature=-1", "sample.temperature: Input should be greater than or equal to 0"),
        ("sample.top_p=2", "sample.top_p: Input should be less than or equal to 1"),
        ("sample.top_k=-3", "sample.top_k: Input should be greater than or equal to 0"),
        ("sample.max_tokens=0", "sample.max_tokens: Input should be greater than 0"),
        ("sample.num_candidates=0", "sample.num_candidates: Input should be greater than 0"),
        ("sample.engine.kv_cache_gib=-1", "sample.engine.kv_cache_gib: Input should be greater than 0"),
        ("sample.engine.max_model_len=0", "sample.engine.max_model_len: Input should be greater than 0"),
        ("compute.sample.num_workers=0", "compute.sample.num_workers: Input should be greater than 0"),
        (
            "compute.sample.num_workers=many",
            "num_workers: Input should be a whole number, or {min: .., max: ..}",
        ),
        (
            "compute.sample.num_workers={min: 4, max: 2}",
            "compute.sample.num_workers: min 4 is more than max 2",
        ),
        (
            "compute.sample.num_workers={mn: 4}",
            "compute.sample.num_workers.mn: unknown key. Did you mean 'min'?",
        ),
        ("compute.train.num_workers={max: 2}", "compute.train: num_workers must be a number"),
        ("compute.train={num_workers: 4, num_gpus: 2}", "computes on one GPU of its own: set it to 1"),
        ("compute.train={num_workers: 2, num_gpus: 0.5}", "computes on one GPU of its own: set it to 1"),
        ("name=../x", "name: String should match pattern"),
        ("reward={function: 'm:f'}", "reward: needs a 'kind': one of"),
        ("prompts.train.layout=trll", "prompts.train.layout: Unknown layout kind 'trll'. Did you mean 'trl'"),
        ("prompts.train.layout={kind: hh, chta: 1}", "layout.chta: unknown key. Did you mean 'chat'?"),
        ("reward=no_such_module_here:Reward", "cannot import 'no_such_module_here'"),
        ("train.zero_stage=4", "train.zero_stage: Input should be 1, 2 or 3"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_way_out(file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, [override])
    assert str(file) in str(caught.value)
    assert message in str(caught.value)


def test_every_other_name_of_a_setting_leads_to_one_that_exists() -> None:
    places = [fields_at(RunConfig, place) for place in _PLACES]
    losses = [resolve("loss", kind).Config.model_fields for kind in FAMILIES["loss"]]
    known = {*RunConfig.model_fields, *EnsembleReward.Config.model_fields}.union(*places, *losses)
    assert {*_ELSEWHERE.values()} <= known and _SENTENCES.keys() <= _ELSEWHERE.keys()
    assert not _ELSEWHERE.keys() & known - {"beta"}  # a selection has one


def test_a_pool_may_follow_its_queue(file: Path) -> None:
    config = load_config(
        file, ["compute.sample.num_workers={min: 2, max: 8}", "compute.score.num_workers={max: 4}"]
    )
    assert config.compute.sample.num_workers == WorkerRange(min=2, max=8)
    assert config.compute.score.num_workers == WorkerRange(min=1, max=4)
    assert yaml.safe_load(config.to_yaml())["compute"]["sample"]["num_workers"] == {"min": 2, "max": 8}


@pytest.mark.parametrize(
    ("engine", "gpus", "message"),
    [
        ("{tensor_parallel_size: 4}", 4, None),
        ("{tensor_parallel_size: 4}", 0, None),  # on CPU
        ("{tensor_parallel_size: 4}", 1, "set compute.sample.num_gpus to 4 (now 1)"),
        ("{gpu_memory_utilization: 0.45}", 0.5, None),
        ("{}", 0.5, "set sample.engine.gpu_memory_utilization to 0.5 or less"),
        ("fake", 0.5, None),
    ],
)
def test_an_engine_fits_the_gpus_of_its_worker(
    file: Path, engine: str, gpus: float, message: str | None
) -> None:
    overrides = [f"sample.engine={engine}", f"compute.sample.num_gpus={gpus}"]
    if message is None:
        assert load_config(file, overrides).compute.sample.num_gpus == gpus
        return
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides)
    assert message in str(caught.value)


def test_vllm_rewards_that_share_a_gpu_share_its_memory(file: Path) -> None:
    overrides = ["reward={kind: classifier, model: m, backend: vllm}", "compute.score.num_gpus=0.25"]
    with pytest.raises(ConfigError, match="set reward.gpu_memory_utilization to 0.25 or less"):
        load_config(file, overrides)
    load_config(file, [*overrides, "reward.gpu_memory_utilization=0.25"])


def test_a_missing_key_and_all_other_mistakes_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"name": "a", "sedd": 1}))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    for part in ("model: is required", "reward: is required", "sedd: unknown key. Did you mean 'seed'?"):
        assert part in str(caught.value)


def test_files_that_are_no_configuration(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist. Did you mean .*run.yaml"):
        load_config(tmp_path / "rum.yaml")
    file.write_text("a: [1")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_config(file)
    file.write_text("- a")
    with pytest.raises(ConfigError, match="must hold a mapping"):
        load_config(file)
    file.write_text(yaml.safe_dump(MINIMAL))
    with pytest.raises(ConfigError, match="must have the form a.b=value"):
        load_config(file, ["seed"])
    with pytest.raises(ConfigError, match="'seed' is a value, not a block"):
        load_config(file, ["seed=1", "seed.x=2"])


def test_shipped_configurations_are_valid() -> None:
    configs = sorted(Path(__file__).parents[1].glob("jobs/configs/**/*.yaml"))
    assert configs
    for path in configs:
        schema = schema_of(path)
        assert isinstance(load_config(path, schema=schema), schema)


def test_an_override_leaves_the_settings_that_it_was_given_as_they_were(file: Path) -> None:
    """Rows of a study share blocks: one that reached into such a block would change the others."""
    block = {"kind": "hinge_norm", "gamma": 0.5}
    changed = override(load_config(file), {"train.loss": block, "train.loss.gamma": 5})
    assert changed.train.loss.gamma == 5
    assert block == {"kind": "hinge_norm", "gamma": 0.5}
