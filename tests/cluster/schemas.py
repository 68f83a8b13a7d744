"""KubeRay's published schemas, made strict, and everything that the other kinds are checked against.

A schema of a custom resource accepts unknown fields, which the API server drops without a word: so a typo would
pass. Here an object that lists its fields has no others.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

ROOT = Path(__file__).parents[2]
FOLDER_VARIABLE = "RAYFLOW_KUBERAY_SCHEMAS"


def schema_folder() -> Path | None:
    """Where the schemas lie: the variable's folder, or a `schemas` folder of a neighbour of this checkout."""
    if FOLDER_VARIABLE in os.environ:
        return Path(os.environ[FOLDER_VARIABLE])
    found = sorted(ROOT.parent.glob("*/schemas/ray.io_rayclusters.yaml"))
    return found[0].parent if found else None


@functools.cache
def kuberay(kind: str) -> Draft202012Validator:
    """What checks a kind of ray.io/v1, strictly; skips the test where the schemas are not at hand."""
    folder = schema_folder()
    if folder is None:
        pytest.skip(f"set {FOLDER_VARIABLE} to a folder with KubeRay's ray.io_*.yaml (its config/crd/bases)")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load((folder / f"ray.io_{kind.lower()}s.yaml").read_text(), loader)
    (version,) = [v for v in definition["spec"]["versions"] if v["name"] == "v1"]
    return Draft202012Validator(strict(version["schema"]["openAPIV3Schema"]))


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI schema as a JSON schema that refuses unknown fields."""
    made = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes")}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if "properties" in schema:
        made["properties"] = {name: strict(inner) for name, inner in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            made[key] = strict(schema[key])
    return made


@functools.cache
def ray_up() -> Draft7Validator:
    """What checks a cluster's configuration as `ray up` does."""
    (folder,) = importlib.util.find_spec("ray").submodule_search_locations
    return Draft7Validator(json.loads((Path(folder) / "autoscaler" / "ray-schema.json").read_text()))


def check(manifest: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Refuse a manifest that its schema does not allow, or one of several in a file; or inside a ConfigMap.

    Raises:
        jsonschema.ValidationError, kubernetes_validate.ValidationError: with the field.
    """
    if isinstance(manifest, list):
        for each in manifest:
            check(each)
            if "rayjob.yaml" in each.get("data", {}):
                check(yaml.safe_load(each["data"]["rayjob.yaml"]))
    elif "cluster_name" in manifest:
        ray_up().validate(manifest)
    elif manifest["apiVersion"].startswith("ray.io/"):
        kuberay(manifest["kind"]).validate(manifest)
    else:
        import kubernetes_validate

        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
