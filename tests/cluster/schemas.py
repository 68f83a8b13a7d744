"""KubeRay's published schemas, made strict, and everything that the other kinds are checked against.

A schema of a custom resource accepts unknown fields, which the API server drops without a word: so a typo would
pass. Here an object that lists its fields has no others.
"""

from __future__ import annotations

import functools
import importlib.resources
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


@functools.cache
def kubernetes(kind: str, api_version: str) -> Draft202012Validator:
    """What checks a kind of Kubernetes' own, strictly; made once, for its definitions are two megabytes of JSON."""
    import kubernetes_validate
    from referencing import Registry, Resource

    folder = f"kubernetes-json-schema/v{kubernetes_validate.latest_version()}-local-strict"
    group, _, version = api_version.rpartition("/")
    name = "-".join([*([group.split(".")[0]] if group else []), version])
    files = importlib.resources.files(kubernetes_validate)
    schema, definitions = (
        json.loads((files / folder / f"{name}.json").read_text())
        for name in (f"{kind.lower()}-{name}", "_definitions")
    )
    registry = Resource.from_contents(definitions) @ (Resource.from_contents(schema) @ Registry())
    return Draft202012Validator(schema, registry=registry)


def check(manifest: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Refuse a manifest that its schema does not allow, or one of several in a file; or inside a ConfigMap.

    Where KubeRay's schemas are missing, the test is skipped after everything else of the file was checked.

    Raises:
        jsonschema.ValidationError: with the field.
    """
    if isinstance(manifest, list):
        texts = (each.get("data", {}).get("rayjob.yaml") for each in manifest)
        inner = [yaml.safe_load(text) for text in texts if text is not None]
        # A stable sort: what needs a schema that may be missing comes last.
        for each in sorted([*manifest, *inner], key=_is_kuberays):
            check(each)
    elif "cluster_name" in manifest:
        ray_up().validate(manifest)
    elif _is_kuberays(manifest):
        kuberay(manifest["kind"]).validate(manifest)
    else:
        kubernetes(manifest["kind"], manifest["apiVersion"]).validate(manifest)


def _is_kuberays(manifest: dict[str, Any]) -> bool:
    return manifest["apiVersion"].startswith("ray.io/")
