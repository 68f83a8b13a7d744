"""A cluster of two machines on one: prints its address and its raylets as JSON, and ends with its input."""

from __future__ import annotations

import json
import sys

from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster


def main() -> None:
    """Start, say so, wait for the end of standard input, shut down."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    second = cluster.add_node(num_cpus=4)
    raylets = [node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid for node in (cluster.head_node, second)]
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
