"""What must not run, must not be read by others, and must not be stored or shown."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import yaml

from rayflow.config import PromptSource, RunConfig, load_config
from rayflow.core.registry import resolve
from rayflow.dist.access import (
    is_loopback,
    keep_token_private,
    make_private_token,
    token_path,
)
from rayflow.errors import ConfigError, DataError, ModelError
from rayflow.pipeline.report import report
from rayflow.sources.read import read
from tests.pipeline.conftest import prompt_file, settings  # noqa: F401
from tests.pipeline.helpers import run_data, tables
from tests.rewards.test_http import Answer, ok, serve  # noqa: F401
from tests.test_whole import finished_run, small_settings

SECRETS = {"PLANTED_API_KEY": "planted-key-0a1b2c3d", "PLANTED_TOKEN": "planted-token-4e5f6a7b"}
SCRIPT = "<script>document.title='planted'</script>"


class Opens:
    """Unpickled, it makes a file: what a data file must not be able to do."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


@pytest.fixture
def pickled(tmp_path: Path) -> tuple[pa.Table, Path]:
    """A table with a column of Ray's pickled objects, registered as a driver has it; and what they would make."""
    pytest.importorskip("ray.data")
    from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType

    made = tmp_path / "made-by-the-data"
    storage = pa.array([pickle.dumps(Opens(made))], pa.large_binary())
    column = pa.ExtensionArray.from_storage(ArrowPythonObjectType(), storage)
    return pa.table({"prompt": pa.array(["hello"]), "extra": column}), made


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_data_file_with_pickled_objects_is_refused_and_runs_nothing(
    pickled: tuple[pa.Table, Path], tmp_path: Path, suffix: str
) -> None:
    table, made = pickled
    folder = tmp_path / "data"
    folder.mkdir()
    if suffix == "parquet":
        pq.write_table(table, folder / "data.parquet")
    else:
        with pa.ipc.new_stream(folder / "data-00000.arrow", table.schema) as sink:
            sink.write_table(table)
    with pytest.raises(DataError, match="'extra' has the extension type 'ray.data.arrow_pickled_object'"):
        list(read(PromptSource(path=str(folder))))
    assert not made.exists()
    table.to_pylist()  # the danger is real: this is what reading it does
    assert made.exists()


def test_a_pickled_column_is_found_where_nobody_has_registered_its_type(
    pickled: tuple[pa.Table, Path], tmp_path: Path
) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(pickled[0], path)
    code = (
        "import sys; from rayflow.config import PromptSource; from rayflow.sources.read import read\n"
        "list(read(PromptSource(path=sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert "DataError" in done.stderr and "arrow_pickled_object" in done.stderr
    assert not pickled[1].exists()


def test_nested_foreign_types_are_found_and_arrows_own_are_read(tmp_path: Path) -> None:
    class Odd(pa.ExtensionType):
        def __init__(self) -> None:
            super().__init__(pa.string(), "tests.odd")

        def __arrow_ext_serialize__(self) -> bytes:
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> Odd:
            return cls()

    odd = pa.ExtensionArray.from_storage(Odd(), pa.array(["x"]))
    nested = pa.StructArray.from_arrays([pa.ListArray.from_arrays([0, 1], odd)], ["inner"])
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"prompt": ["a"], "nested": nested}), path)
    with pytest.raises(DataError, match="'nested' has the extension type 'tests.odd'"):
        list(read(PromptSource(path=str(path))))
    own = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}']))
    pq.write_table(pa.table({"prompt": ["a"], "notes": own}), path)
    assert [row.prompt for row in read(PromptSource(path=str(path)))] == ["a"]


@pytest.fixture
def with_code(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, dict[str, Path]]:
    """A model that brings code for its configuration and its tokenizer; and what each of them would make."""
    import shutil

    # Code that is trusted is first copied to a folder for modules: not to the user's.
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    made = {name: tmp_path / f"made-by-the-{name}" for name in ("model", "tokenizer")}
    for name, path in made.items():
        (folder / f"own_{name}.py").write_text(f"open({str(path)!r}, 'w')\nclass Own: pass\n")
    planted = {
        "config.json": {"AutoConfig": "own_model.Own", "AutoModelForCausalLM": "own_model.Own"},
        "tokenizer_config.json": {"AutoTokenizer": ["own_tokenizer.Own", None]},
    }
    changes = {"config.json": {"model_type": "own"}, "tokenizer_config.json": {"tokenizer_class": "Own"}}
    for file, own in planted.items():
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**content, **changes[file], "auto_map": own}))
    return folder, made


def test_code_that_comes_with_a_model_is_not_run(
    with_code: tuple[Path, dict[str, Path]], tiny_model: str
) -> None:
    import shutil

    from transformers import AutoConfig, AutoTokenizer

    from rayflow.core.model_folder import load_tokenizer
    from rayflow.core.options import build

    folder, made = with_code
    engine = build("engine", resolve("engine", "transformers").Config())
    assert not engine.options.trust_remote_code
    with pytest.raises(ModelError):
        engine.setup(str(folder))
    # The tokenizer's own code, where nothing is wrong with the model.
    own = (folder / "config.json").read_text()
    shutil.copy(Path(tiny_model) / "config.json", folder)
    with pytest.raises(ModelError, match="trust_remote_code"):
        load_tokenizer(str(folder))
    assert not any(path.exists() for path in made.values())
    # The danger is real: this is what trust does.
    with pytest.raises(AttributeError):  # the class is none
        AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    (folder / "config.json").write_text(own)
    with pytest.raises(AttributeError):
        AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert all(path.exists() for path in made.values())


def test_weights_are_read_from_safetensors_alone(tiny_model: str, tmp_path: Path) -> None:
    """Also by transformers itself, asked behind the check of the folder: a pickle beside it is not looked at."""
    import shutil

    from rayflow.training.models import load_model

    folder, made = tmp_path / "model", tmp_path / "made-by-the-weights"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Opens(made)))
    with pytest.raises(ModelError, match="safetensors"):
        load_model(str(folder), "float32")
    assert not made.exists()


def test_a_trained_model_with_a_flipped_bit_is_refused(tiny_model: str, tmp_path: Path) -> None:
    import shutil

    from rayflow.core.model_folder import check_model_folder
    from rayflow.training.checkpoints import write_checksums

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    write_checksums(folder)
    check_model_folder(str(folder))
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"model.safetensors is not what its checksums.json says"):
        check_model_folder(str(folder))


@pytest.mark.parametrize("kind", ["os.system", "subprocess", "rayflow.engines.fake", "../engine.py"])
def test_a_plug_in_is_named_as_module_and_class_or_not_at_all(kind: str) -> None:
    with pytest.raises(ConfigError, match="Unknown engine kind"):
        resolve("engine", kind)
    with pytest.raises(ConfigError, match="no nested class Config"):
        resolve("engine", "os:system")


@pytest.mark.parametrize(
    "url", ["http://me:hunter2@host/x", "https://host/x?api_key=hunter2", "https://host/x?a=1&sig=hunter2"]
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    given = small_settings(tmp_path, tmp_path / "p.jsonl", "fake") | {"reward": {"kind": "http", "url": url}}
    path.write_text(yaml.safe_dump(given))
    with pytest.raises(ConfigError, match="must not hold .*token_env") as caught:
        load_config(path)
    assert "hunter2" not in str(caught.value)


def test_a_secret_in_the_configuration_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    given = small_settings(tmp_path, tmp_path / "p.jsonl", "fake")
    given["sample"]["engine"] = {"kind": "vllm", "extra": {"hf_token": "hf_hunter2"}}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(given))
    with pytest.raises(ConfigError, match=r"sample.engine.extra.hf_token: is a secret.*HF_TOKEN") as caught:
        load_config(path)
    assert "hunter2" not in str(caught.value)


def test_no_secret_of_the_environment_is_stored_in_a_run(
    settings: dict,  # noqa: F811
    serve,  # noqa: ANN001, F811
    ray_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a server that echoes its token wherever it may, over Ray, whose workers write logs of their own."""
    from rayflow.dist.runner import RayRunner

    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(ray_home))
    server = serve(echo)
    reward = {"kind": "http", "url": server.url, "token_env": "PLANTED_TOKEN", "max_retries": 0}
    compute = {"sample": {"num_cpus": 0.25}, "score": {"num_cpus": 0.25}, "shard_size": 4}
    given = {**settings, "reward": reward, "compute": compute, "max_failed_fraction": 0.9}
    config = RunConfig.model_validate(given)
    plan, text = run_data(config, runner=RayRunner(config.compute, config.root / "logs"))
    report(plan)
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {SECRETS['PLANTED_TOKEN']}"}
    assert list(plan.artifacts["score"].shards.failures()), "the echoes are in the failures"
    stored = [text, json.dumps(tables(plan))]
    stored += [p.read_bytes().decode(errors="replace") for p in config.root.rglob("*") if p.is_file()]
    assert len(stored) > 20
    for value in SECRETS.values():
        assert not [found for found in stored if value in found]


def echo(items: list[dict], number: int) -> Answer:
    """Rewards for most prompts; for some the token, as a page, as JSON, and as an error."""
    token = SECRETS["PLANTED_TOKEN"]
    answers = {
        3: (200, f"<html>{token}</html>".encode(), {}),
        4: (200, json.dumps({"rewards": token}).encode(), {}),
        5: (422, f"no: Bearer {token}".encode(), {}),
    }
    which = next((n for n in answers if f"number {n}." in items[0]["prompt"]), None)
    return answers[which] if which else ok([len(item["response"]) for item in items])


def test_markup_in_data_and_names_stays_text_in_a_runs_report(tmp_path: Path, tiny_model: str) -> None:
    """From the files to the page: a prompt, the responses, a target and a failure's reason hold a script."""
    import shutil

    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"{SCRIPT} write review {i}", "target": SCRIPT} for i in range(6)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": f"fails {SCRIPT}"}]))
    model = tmp_path / "<b>model"
    shutil.copytree(tiny_model, model)
    given = small_settings(tmp_path, prompts, str(model))
    words = [SCRIPT, "</td><script>1</script>", "good", "bad"]
    given["sample"]["engine"] |= {"words": words, "fail_on": "fails"}
    given["sample"]["max_tokens"] = 100
    given["max_failed_fraction"] = 0.5
    plan = finished_run(RunConfig.model_validate(given))
    page = (plan.config.root / "report.html").read_text()
    assert "<script" not in page.lower() and "<b>model" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("address", "alone"),
    [("127.0.0.1:8265", True), ("http://localhost:8265", True), ("[::1]:8265", True), ("::1", True)]
    + [
        ("0.0.0.0:8265", False),
        ("10.0.0.4:8265", False),
        ("head.example.org:8265", False),
        ("[::]:1", False),
    ],
)
def test_loopback_is_told_from_the_network(address: str, alone: bool) -> None:
    assert is_loopback(address) is alone


def test_rays_token_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    make_private_token()
    first = token_path().read_text()
    assert len(first) == 64 and token_path().stat().st_mode & 0o777 == 0o600
    make_private_token()
    assert token_path().read_text() == first
    token_path().chmod(0o644)
    keep_token_private()
    assert token_path().stat().st_mode & 0o777 == 0o600
    token_path().unlink()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    make_private_token()
    assert not token_path().exists()
    assert os.environ["HOME"] == str(tmp_path)
