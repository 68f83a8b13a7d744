"""Kinds of GPUs: what Kubernetes calls them, and the machines of AWS that carry them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from rayflow.errors import ConfigError


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU.

    Attributes:
        products: values of the label `nvidia.com/gpu.product`, which NVIDIA's GPU feature discovery sets.
        instances: AWS instance types by their number of GPUs, each with its vCPUs.
    """

    products: tuple[str, ...]
    instances: dict[int, tuple[str, int]]


GPUS = {
    "H200": Gpu(("NVIDIA-H200", "NVIDIA-H200-NVL"), {8: ("p5en.48xlarge", 192)}),
    "H100": Gpu(
        ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe", "NVIDIA-H100-NVL"),
        {1: ("p5.4xlarge", 16), 8: ("p5.48xlarge", 192)},
    ),
    "A100": Gpu(
        ("NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-80GB-PCIe"),
        {8: ("p4d.24xlarge", 96)},
    ),
    "L40S": Gpu(
        ("NVIDIA-L40S",), {1: ("g6e.4xlarge", 16), 4: ("g6e.12xlarge", 48), 8: ("g6e.48xlarge", 192)}
    ),
    "A10G": Gpu(("NVIDIA-A10G",), {1: ("g5.4xlarge", 16), 4: ("g5.12xlarge", 48), 8: ("g5.48xlarge", 192)}),
    "L4": Gpu(("NVIDIA-L4",), {1: ("g6.4xlarge", 16), 4: ("g6.12xlarge", 48), 8: ("g6.48xlarge", 192)}),
}


def find_gpu(name: str) -> Gpu:
    """The kind of this name.

    Raises:
        ConfigError: unknown; the nearest one is offered.
    """
    if name not in GPUS:
        near = difflib.get_close_matches(name.upper(), GPUS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(
            f"Unknown gpu_type '{name}'.{hint} Known: {', '.join(GPUS)}. For another one leave it out, and name "
            "its machines with node_selector."
        )
    return GPUS[name]
