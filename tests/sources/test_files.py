"""Reading files: every supported form, folders and splits, and files that cannot be read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayflow.config import PromptSource
from rayflow.errors import DataError
from rayflow.sources.files import read_rows, source_digest
from rayflow.sources.read import read

ROWS = [{"prompt": "one", "target": "1"}, {"prompt": "two", "target": None}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def texts(path: Path, **settings: object) -> list[str | None]:
    return [row.prompt for row in read(PromptSource(path=str(path), **settings))]


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, Path]:
    """The same two rows in every form."""
    table = pa.Table.from_pylist(ROWS)
    names = ("a.jsonl", "a.jsonl.gz", "lines.json", "a.json", "a.json.gz", "a.parquet", "folder", "saved")
    files = {name: tmp_path / name for name in names}
    files["a.jsonl"].write_text(LINES)
    files["a.jsonl.gz"].write_bytes(gzip.compress(LINES.encode()))
    files["lines.json"].write_text(LINES)
    files["a.json"].write_text("\n" + json.dumps(ROWS, indent=2))
    files["a.json.gz"].write_bytes(gzip.compress(json.dumps(ROWS).encode()))
    pq.write_table(table, files["a.parquet"])
    (files["folder"] / "data").mkdir(parents=True)
    pq.write_table(table, files["folder"] / "data" / "train-00000-of-00001.parquet")
    pq.write_table(table.slice(0, 1), files["folder"] / "data" / "test-00000-of-00001.parquet")
    (files["saved"] / "train").mkdir(parents=True)
    (files["saved"] / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pa.ipc.new_stream(files["saved"] / "train" / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table)
    return files


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "lines.json", "a.json", "a.json.gz", "a.parquet"])
def test_files_give_the_same_rows(saved: dict[str, Path], name: str) -> None:
    assert texts(saved[name]) == ["one", "two"]
    assert texts(saved[name], limit=1) == ["one"]
    rows = list(read_rows(PromptSource(path=str(saved[name]))))
    assert [(row.path, row.number) for row in rows] == [(saved[name], 1), (saved[name], 2)]


def test_folders_are_read_by_split(saved: dict[str, Path]) -> None:
    assert texts(saved["folder"], split="train") == ["one", "two"]
    assert texts(saved["folder"], split="test") == ["one"]
    assert texts(saved["saved"], split="train") == ["one", "two"]
    with pytest.raises(DataError, match="set 'split' to one of train"):
        texts(saved["saved"])
    with pytest.raises(DataError, match="of split 'dev'"):
        texts(saved["folder"], split="dev")


def test_a_file_has_no_splits_to_choose_from(saved: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="'split: test' chooses among a folder's files"):
        texts(saved["a.jsonl"], split="test")


def test_a_folder_of_json_lines_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, prompt in (("batch4.json", "second"), ("batch3.json", "first")):
        (tmp_path / name).write_text(json.dumps({"prompt": prompt}) + "\n")
    assert texts(tmp_path) == ["first", "second"]
    rows = read_rows(PromptSource(path=str(tmp_path)))
    assert [(row.path.name, row.number) for row in rows] == [("batch3.json", 1), ("batch4.json", 1)]


def test_json_lines_in_a_folder_are_told_apart_by_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        packed = gzip.compress(json.dumps({"prompt": split}).encode())
        (tmp_path / f"{split}.jsonl.gz").write_bytes(packed)
    assert texts(tmp_path, split="test") == ["test"]
    with pytest.raises(DataError, match="holds several splits: set 'split' to one of test, train"):
        texts(tmp_path)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"), "test, train"),
        (("train_prefs-0.parquet", "train_sft-0.parquet"), "train_prefs, train_sft"),
        (("default/train/0000.parquet", "default/validation/0000.parquet"), "train, validation"),
    ],
)
def test_splits_are_told_by_the_names_that_the_hub_gives_them(
    tmp_path: Path, names: tuple, splits: str
) -> None:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"prompt": [name]}), path)
    with pytest.raises(DataError, match=f"set 'split' to one of {splits}\\."):
        texts(tmp_path)
    assert texts(tmp_path, split=splits.partition(", ")[0]) in ([names[0]], [names[1]])


def test_parts_of_one_split_are_read_together(tmp_path: Path) -> None:
    for name in ("train-a.jsonl", "train-b.jsonl", "testimony.jsonl"):
        (tmp_path / name).write_text(json.dumps({"prompt": name}) + "\n")
    assert texts(tmp_path) == ["testimony.jsonl", "train-a.jsonl", "train-b.jsonl"]


def test_a_bare_value_on_a_line_is_a_prompt(tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text('"plain"\n[{"role": "user", "content": "chat"}]\n')
    plain, chat = read(PromptSource(path=str(lines)))
    assert (plain.prompt, chat.messages) == ("plain", ({"role": "user", "content": "chat"},))
    two_lists = tmp_path / "a.json"  # begins like an array, and is none
    two_lists.write_text('[{"role": "user", "content": "a"}]\n[{"role": "user", "content": "b"}]\n')
    assert [row.messages[0]["content"] for row in read(PromptSource(path=str(two_lists)))] == ["a", "b"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "lines.json", "a.json", "a.json.gz"])
def test_the_mark_that_some_programs_put_before_a_text_is_not_part_of_it(
    saved: dict[str, Path], name: str
) -> None:
    """A UTF-8 BOM, as Excel and PowerShell write it; the content hash still is the file's."""
    without = source_digest(PromptSource(path=str(saved[name])))
    packed = name.endswith(".gz")
    content = gzip.decompress(saved[name].read_bytes()) if packed else saved[name].read_bytes()
    marked = b"\xef\xbb\xbf" + content
    saved[name].write_bytes(gzip.compress(marked) if packed else marked)
    source = PromptSource(path=str(saved[name]))
    assert [(row.number, row.values) for row in read_rows(source)] == list(enumerate(ROWS, start=1))
    assert source_digest(source) != without


def test_the_digest_follows_the_content(saved: dict[str, Path]) -> None:
    source = PromptSource(path=str(saved["a.jsonl"]))
    before = source_digest(source)
    assert before == source_digest(source)
    saved["a.jsonl"].write_text('{"prompt": "three"}\n')
    assert before != source_digest(source)


# It holds the time, so it must not name a test: pytest-xdist's processes compare their names.
PACKED = gzip.compress(LINES.encode())
BROKEN = {
    "broken.parquet": (b"PAR1 nothing", "broken.parquet.*cannot be read"),
    "bad.jsonl": (b'{"prompt": "a"}\n{oops\n', "bad.jsonl', line 2 is not JSON"),
    "long.jsonl": (b'{"prompt": ' + b"1" * 5000 + b"}", "long.jsonl', line 1 is not JSON"),
    "bad.json": (b'[{"prompt": "a"},\n {oops]', "bad.json' is not a JSON array.*line 2"),
    "latin.jsonl": ('{"prompt": "é"}'.encode("latin-1"), "latin.jsonl.*cannot be read"),
    "not.jsonl.gz": (b"not packed", "not.jsonl.gz.*cannot be read"),
    "cut.jsonl.gz": (PACKED[:-12], "cut.jsonl.gz.*cannot be read"),
    "bits.jsonl.gz": (PACKED[:10] + b"\xff" * 40, "bits.jsonl.gz.*cannot be read"),
    "notes.txt": (b"a", "must be .jsonl"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_cannot_be_read_say_which(tmp_path: Path, name: str) -> None:
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        texts(tmp_path / name)


def test_a_missing_file_offers_its_neighbour(saved: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="does not exist. Did you mean .*a.parquet"):
        texts(saved["a.parquet"].with_name("b.parquet"))


def test_a_dataset_of_the_hub_is_told_how_to_come_here() -> None:
    with pytest.raises(DataError, match="hf download --repo-type dataset org/pairs --local-dir data"):
        list(read_rows(PromptSource(path="org/pairs")))


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.json.gz", "prompts.parquet", "prompts.csv"])
def test_a_missing_file_in_a_folder_is_no_dataset_of_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="does not exist. A relative path starts in the folder") as error:
        list(read_rows(PromptSource(path=f"data/{name}")))
    assert "hf download" not in str(error.value)


def packed(folder: Path, name: str) -> None:
    """One row with the file's name for a prompt."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"prompt": name}).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)


def test_days_that_were_packed_are_read_with_those_that_were_not(tmp_path: Path) -> None:
    for name in ("01.jsonl.gz", "02.jsonl", "about/dataset_info.json", ".cache/huggingface/x.jsonl"):
        packed(tmp_path, name)
    assert texts(tmp_path) == ["01.jsonl.gz", "02.jsonl"]


def test_a_folder_may_be_called_like_a_file(tmp_path: Path) -> None:
    """As Spark writes them."""
    (tmp_path / "prompts.parquet").mkdir()
    pq.write_table(pa.table({"prompt": ["one"]}), tmp_path / "prompts.parquet" / "part-00000.snappy.parquet")
    assert texts(tmp_path) == texts(tmp_path / "prompts.parquet") == ["one"]


def test_files_of_several_forms_are_refused_by_name(tmp_path: Path) -> None:
    packed(tmp_path, "a.jsonl")
    packed(tmp_path, "notes.json")
    with pytest.raises(DataError, match=r"several forms: JSON lines \('a.jsonl'\), JSON \('notes.json'\)"):
        texts(tmp_path)


def test_a_split_of_another_form_is_a_split(tmp_path: Path) -> None:
    packed(tmp_path, "train.jsonl")
    pq.write_table(pa.table({"prompt": ["held out"]}), tmp_path / "test.parquet")
    with pytest.raises(DataError, match="holds several splits: set 'split' to one of test, train"):
        texts(tmp_path)
    assert texts(tmp_path, split="train") == ["train.jsonl"]
    assert texts(tmp_path, split="test") == ["held out"]


def test_subsets_in_folders_of_their_own_are_read_by_split(tmp_path: Path) -> None:
    """As Anthropic/hh-rlhf lies on the hub."""
    names = [
        f"{subset}/{split}.jsonl.gz" for subset in ("harmless", "helpful") for split in ("test", "train")
    ]
    for name in names:
        packed(tmp_path, name)
    assert texts(tmp_path, split="train") == ["harmless/train.jsonl.gz", "helpful/train.jsonl.gz"]


def test_a_date_that_python_has_not_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    late = pa.array([2**58], pa.timestamp("us"))
    pq.write_table(pa.table({"prompt": ["one"], "created_at": late}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet' cannot be read"):
        texts(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["deep.jsonl", "deep.json"])
def test_lists_that_are_nested_too_deep_are_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    (tmp_path / name).write_text(deep if name == "deep.json" else f'{{"prompt": {deep}}}\n')
    with pytest.raises(DataError, match=name):
        texts(tmp_path / name)
