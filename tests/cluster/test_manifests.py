"""Manifests: allowed by the published schemas, consistent with each other, nothing exposed, no secret inside."""

from __future__ import annotations

import copy
import os
import re
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from rayflow.cli.app import app
from rayflow.cluster.options import RAY_VERSION, ClusterOptions
from rayflow.cluster.render import render
from rayflow.schedule.times import Times
from tests.cluster.schemas import ROOT, check

SPLIT = ClusterOptions(gpus_sampling=16, gpus_reward=4, gpus_train=8)
SIZINGS = {
    "documented": SPLIT,
    "one-gpu": ClusterOptions(gpus=1),
    "eight-shared": ClusterOptions(gpus=8, reward="pairwise", gpu_type="L4"),
    "sixty-four": ClusterOptions(gpus_sampling=40, gpus_reward=8, gpus_train=16, gpus_per_node=8),
    "all-options": ClusterOptions(
        gpus_sampling=8,
        gpus_train=4,
        gpus_per_node=4,
        gpu_type="A10G",
        tensor_parallel=4,
        cpus_per_gpu=10,
        name="other",
        head_image="registry.example.com/rayflow:0.1.0-cpu",
        storage_class="nfs",
        redis_address="redis:6379",
        node_selector={"pool": "gpu"},
        time_zone="Europe/Zurich",
        refresh_config="jobs/configs/nightly.yaml",
    ),
}
MANIFESTS = ("storage", "config", "network-policy", "raycluster", "rayjob", "cronjob", "raycronjob", "ray-up")


def rendered(options: ClusterOptions) -> dict[str, Any]:
    """Each file's content by its name without the suffix; a list where it holds several objects."""
    found = {name: list(yaml.safe_load_all(text)) for name, text in render(options).items()}
    return {name.removesuffix(".yaml"): each if len(each) > 1 else each[0] for name, each in found.items()}


def night(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """The RayJob that a CronJob creates."""
    return yaml.safe_load(objects[0]["data"]["rayjob.yaml"])


@pytest.fixture(scope="module", params=SIZINGS.values(), ids=SIZINGS)
def files(request: pytest.FixtureRequest) -> dict[str, Any]:
    return rendered(request.param)


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_manifest_is_allowed_by_its_published_schema(name: str, files: dict[str, Any]) -> None:
    check(files[name])


@pytest.mark.parametrize(
    ("name", "path", "typo"),
    [
        ("raycluster", "spec", "enableInTreeAutoscalling"),
        ("raycluster", "spec.workerGroupSpecs.0", "maxReplica"),
        ("raycluster", "spec.headGroupSpec.template.spec.containers.0", "volumeMount"),
        ("rayjob", "spec", "shutdownAfterJobFinish"),
        ("rayjob", "spec.submitterPodTemplate.spec", "restartPolicies"),
        ("raycronjob", "spec", "timezone"),
        ("raycronjob", "spec.jobTemplate", "entryPoint"),
        ("cronjob", "4.spec", "concurrentPolicy"),
        ("cronjob", "4.spec.jobTemplate.spec.template.spec.containers.0", "envs"),
        ("cronjob", "4.spec.jobTemplate.spec.podFailurePolicy.rules.0", "onExitCode"),
        ("cronjob", "2.rules.0", "apiGroup"),
        ("network-policy", "spec", "ingres"),
        ("storage", "spec", "storageClass"),
        ("ray-up", "", "max_worker"),
        ("ray-up", "available_node_types.sampler", "maxworkers"),
    ],
)
def test_a_typo_is_caught(name: str, path: str, typo: str) -> None:
    import kubernetes_validate

    manifest = copy.deepcopy(rendered(SPLIT)[name])
    check(manifest)
    place = manifest
    for key in filter(None, path.split(".")):
        place = place[int(key) if key.isdigit() else key]
    place[typo] = "x"
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError), match=typo):
        check(manifest)


def test_a_wrong_type_is_caught() -> None:
    manifest = rendered(SPLIT)["raycluster"]
    manifest["spec"]["workerGroupSpecs"][0]["maxReplicas"] = "two"
    with pytest.raises(jsonschema.ValidationError, match="'two' is not of type 'integer'"):
        check(manifest)


def test_rays_own_autoscaler_reads_the_machines_that_the_compute_block_names(files: dict[str, Any]) -> None:
    """The code of Ray that turns a RayCluster into node types, and what `ray up` is given."""
    from ray.autoscaler._private.kuberay import autoscaling_config

    cluster = copy.deepcopy(files["raycluster"])
    cluster["metadata"]["namespace"] = "default"
    read = autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]
    for node in files["compute"]["compute"]["nodes"]:
        wanted = {"CPU": node["num_cpus"], **node.get("resources", {})}
        wanted |= {"GPU": node["num_gpus"]} if node.get("num_gpus") else {}
        head = node["name"] == "head"
        found = read["headgroup" if head else node["name"]]
        assert {name: found["resources"].get(name) for name in wanted} == wanted
        assert (found["min_workers"], found["max_workers"]) == ((0, 0) if head else (0, node["count"]))
        on_aws = files["ray-up"]["available_node_types"][node["name"]]
        assert all(on_aws["resources"][name] >= amount for name, amount in wanted.items())
        assert on_aws["max_workers"] == (0 if head else node["count"])
    assert len(read) == len(files["compute"]["compute"]["nodes"])


def test_all_kinds_describe_the_same_cluster_and_settings(files: dict[str, Any]) -> None:
    spec = files["raycluster"]["spec"]
    assert files["rayjob"]["spec"]["rayClusterSpec"] == spec
    assert files["raycronjob"]["spec"]["jobTemplate"]["rayClusterSpec"] == spec
    assert yaml.safe_load(files["config"]["data"]["compute.yaml"]) == files["compute"]
    assert spec["rayVersion"] == RAY_VERSION
    own, alpha = night(files["cronjob"])["spec"], files["raycronjob"]["spec"]["jobTemplate"]
    assert {**own, "entrypoint": ""} == {**alpha, "entrypoint": ""}
    assert own["entrypoint"].replace(" --at SECONDS-OF-THE-NIGHT", "") == alpha["entrypoint"]


def test_pods_mount_what_the_other_files_make(files: dict[str, Any]) -> None:
    groups = files["raycluster"]["spec"]["workerGroupSpecs"]
    head = files["raycluster"]["spec"]["headGroupSpec"]
    for template in (head["template"], *(group["template"] for group in groups)):
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == files["storage"]["metadata"]["name"]
        assert volumes["compute"]["configMap"]["name"] == files["config"]["metadata"]["name"]
        (container,) = template["spec"]["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        assert files["compute"]["runs_dir"].startswith(container["volumeMounts"][0]["mountPath"] + "/")
        selected = files["network-policy"]["spec"]["podSelector"]["matchLabels"]
        assert selected.items() <= template["metadata"]["labels"].items()


def containers(data: Any) -> list[dict[str, Any]]:
    """Every container anywhere in a manifest."""
    if isinstance(data, list):
        return [found for item in data for found in containers(item)]
    if not isinstance(data, dict):
        return []
    inner = [found for value in data.values() for found in containers(value)]
    return inner + [c for c in data.get("containers", []) if isinstance(c, dict)]


def test_no_container_runs_as_root_and_none_has_rights_that_it_does_not_need(files: dict[str, Any]) -> None:
    found = [c for name in MANIFESTS for c in containers(files[name])]
    assert len(found) >= 6
    for container in found:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not container["image"].endswith(":latest")
    text = yaml.safe_dump({name: files[name] for name in MANIFESTS})
    assert text.count("runAsNonRoot: true") == text.count("containers:")


def test_the_token_is_referred_to_and_never_written(files: dict[str, Any]) -> None:
    for name in ("raycluster", "rayjob", "raycronjob"):
        text = yaml.safe_dump(files[name])
        assert "mode: token" in text and "secretName: rayflow-auth" in text
    assert "--env RAY_AUTH_MODE=token" in files["ray-up"]["docker"]["run_options"]
    assert "secretName: rayflow-auth" in files["cronjob"][0]["data"]["rayjob.yaml"]
    for name in MANIFESTS:
        assert "kind: Secret\n" not in yaml.safe_dump(files[name])
        for variable in (e for c in containers(files[name]) for e in c.get("env", [])):
            assert "value" not in variable or not re.search("TOKEN|KEY|PASSWORD|SECRET", variable["name"])


def test_no_dashboard_is_exposed(files: dict[str, Any]) -> None:
    for text in render(SPLIT).values():
        assert "0.0.0.0" not in text and "LoadBalancer" not in text and "NodePort" not in text
    head = files["raycluster"]["spec"]["headGroupSpec"]
    assert (head["serviceType"], head["enableIngress"]) == ("ClusterIP", False)
    assert "--dashboard-host=127.0.0.1" in " ".join(files["ray-up"]["head_start_ray_commands"])
    policy = files["network-policy"]["spec"]
    assert policy["policyTypes"] == ["Ingress"] and all(rule["from"] for rule in policy["ingress"])


def test_the_nightly_refresh_never_overlaps_itself_and_says_what_becomes_of_a_missed_night() -> None:
    files = rendered(SIZINGS["all-options"])
    spec = files["cronjob"][-1]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid" and spec["startingDeadlineSeconds"] > 0
    assert spec["timeZone"] == files["raycronjob"]["spec"]["timeZone"] == "Europe/Zurich"
    assert spec["schedule"] == files["raycronjob"]["spec"]["schedule"]
    command = shlex.split(files["raycronjob"]["spec"]["jobTemplate"]["entrypoint"])
    assert command[command.index("rayflow") + 1 :][:2] == ["refresh", "jobs/configs/nightly.yaml"]


def day_of(line: str) -> str:
    """The day that a shell on the cluster makes of an entry point."""
    here = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    said = subprocess.run(
        ["sh", "-c", f"echo {line}"], capture_output=True, text=True, check=True, env=here
    ).stdout.split()
    assert said[-2] == "--date"
    return said[-1]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_a_refresh_is_for_the_day_of_its_schedules_latest_time(zone: str) -> None:
    """At any time one of the two zones has another day than UTC; and what starts late is for its own day."""
    options = ClusterOptions(gpus=8, time_zone=zone, schedule="0 22 * * *", command="refresh")
    times = Times("0 22 * * *", zone)
    line = rendered(options)["raycronjob"]["spec"]["jobTemplate"]["entrypoint"]
    before = times.latest_day(datetime.now(UTC))
    assert day_of(line) in {before, times.latest_day(datetime.now(UTC))}
    with pytest.raises(ValidationError, match="time_zone"):
        ClusterOptions(gpus=8, time_zone="UTC $(touch x)")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "61 2 * * *"}, "61"),
        ({"schedule": "@daily"}, "five fields"),
        ({"schedule": "0 2 * * 7"}, r"write '0 2 \* \* 0'"),
        ({"schedule": "0 2 L * *"}, "not understood alike"),
        ({"time_zone": "Berlin"}, "Berlin"),
    ],
)
def test_times_that_a_cluster_would_refuse_every_night_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ClusterOptions(gpus=8, **settings)


def test_the_pod_that_creates_the_job_may_do_that_and_nothing_else(files: dict[str, Any]) -> None:
    template, account, role, binding, cron = files["cronjob"]
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert role["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [each["name"] for each in binding["subjects"]] == [account["metadata"]["name"]]
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert pod["volumes"][0]["configMap"]["name"] == template["metadata"]["name"]
    mount = pod["containers"][0]["volumeMounts"][0]["mountPath"]
    assert f"{mount}/rayjob.yaml" in pod["containers"][0]["command"][-1]


KUBECTL = """#!/bin/sh
# Keeps the created RayJob in a file; each look at its status takes the next line of `states`.
echo "$*" >> calls
case "$1 $2" in
  "get rayjob")
    test -e created || exit 1
    case "$*" in *jobDeploymentStatus*) head -n 1 states; sed -i 1d states ;; *) echo why ;; esac ;;
  "create -f") cat > created ;;
esac
"""


def pod_of(folder: Path, options: ClusterOptions, job: str, states: list[str]) -> tuple[str, dict[str, str]]:
    """The script of the pod that waits for a night's RayJob, and its environment; `folder` has its files."""
    objects = rendered(options)["cronjob"]
    (container,) = containers(objects[-1])
    (folder / "rayjob.yaml").write_text(objects[0]["data"]["rayjob.yaml"])
    (folder / "kubectl").write_text(KUBECTL)
    (folder / "kubectl").chmod(0o755)
    (folder / "states").write_text("".join(f"{state}\n" for state in states))
    env = {"PATH": f"{folder}:/usr/bin:/bin", "JOB_NAME": job, "JOB_UID": UID, "POLL_SECONDS": "0"}
    assert {e["name"] for e in container["env"]} - {"HOME"} <= env.keys()
    return container["command"][-1].replace("/etc/rayflow-job", str(folder)), env


UID = "0b4f8b1e-6a1c-4c58-9a37-6b1f6a1d2c3e"


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([" ", "Initializing ", "Running PENDING", "Running RUNNING", "Complete SUCCEEDED"], 0),
        (["Running RUNNING", "Failed FAILED"], 3),
        (["Complete FAILED"], 3),
        (["Retrying FAILED", "Running RUNNING", "Complete SUCCEEDED"], 0),
        (["ValidationFailed "], 3),
    ],
)
def test_the_pod_ends_as_the_job_that_it_created(states: list[str], code: int, tmp_path: Path) -> None:
    for _ in range(2):  # the second time for a pod that replaces a lost one
        script, env = pod_of(tmp_path, SPLIT, "rayflow-refresh-29384750", states)
        done = subprocess.run(
            ["/bin/sh", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == code, done.stderr
        assert ("why" in done.stdout) == (code != 0)
    assert (tmp_path / "calls").read_text().count("create") == 1
    made = yaml.safe_load((tmp_path / "created").read_text())
    check(made)
    assert made["metadata"]["name"] == "rayflow-refresh-29384750"
    (owner,) = made["metadata"]["ownerReferences"]  # with the Job, which goes by itself, the RayJob goes
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Job", "rayflow-refresh-29384750", UID)
    assert owner["blockOwnerDeletion"] is False and "controller" not in owner


@pytest.mark.parametrize("minutes_late", [0, 60 * 26])
def test_the_day_of_a_night_is_fixed_when_its_job_is_made(minutes_late: int, tmp_path: Path) -> None:
    """However late it starts, and whenever the line is read: the Job's name says for when it was planned."""
    options = SIZINGS["all-options"]
    times = Times(options.schedule, options.time_zone)
    planned = times.latest(
        datetime.now(UTC) - timedelta(days=9), datetime.now(UTC) - timedelta(minutes=minutes_late)
    )
    name = f"other-refresh-{int(planned.timestamp()) // 60}"
    script, env = pod_of(tmp_path, options, name, ["Complete SUCCEEDED"])
    subprocess.run(["/bin/sh", "-c", script], cwd=tmp_path, env=env, check=True, timeout=30)
    line = yaml.safe_load((tmp_path / "created").read_text())["spec"]["entrypoint"]
    assert f"--at {int(planned.timestamp())})" in line
    assert day_of(line) == times.date(planned)


@pytest.mark.parametrize("job", ["by-hand", "by-hand-1", "refresh-20261120", "refresh-99999999", "r-0123"])
def test_a_job_made_by_hand_is_for_now(job: str, tmp_path: Path) -> None:
    script, env = pod_of(tmp_path, SPLIT, job, ["Complete SUCCEEDED"])
    before = int(time.time())
    subprocess.run(["/bin/sh", "-c", script], cwd=tmp_path, env=env, check=True, timeout=30)
    line = yaml.safe_load((tmp_path / "created").read_text())["spec"]["entrypoint"]
    assert before - 60 <= int(re.search(r"--at (\d+)", line).group(1)) <= time.time()


def test_an_answer_of_a_refresh_is_not_asked_for_again_on_another_cluster(files: dict[str, Any]) -> None:
    """Held back (3) and busy (75) are no accidents; a run that lost its cluster goes on with the next one."""
    nights = (night(files["cronjob"])["spec"], files["raycronjob"]["spec"]["jobTemplate"])
    assert [spec["backoffLimit"] for spec in nights] == [0, 0]
    assert files["rayjob"]["spec"]["backoffLimit"] == 2
    refresh = rendered(ClusterOptions(gpus=1, command="refresh"))["rayjob"]["spec"]
    assert refresh["backoffLimit"] == 0


def test_a_head_that_never_comes_up_ends_the_night(files: dict[str, Any]) -> None:
    """Else the pod waits for ever, and no later night begins."""
    for spec in (
        night(files["cronjob"])["spec"],
        files["raycronjob"]["spec"]["jobTemplate"],
        files["rayjob"]["spec"],
    ):
        assert 600 <= spec["preRunningDeadlineSeconds"] <= 6 * 3600


def test_no_pod_after_a_failed_night_tries_again(files: dict[str, Any]) -> None:
    job = files["cronjob"][-1]["spec"]["jobTemplate"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    (container,) = job["template"]["spec"]["containers"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["containerName"] == container["name"]
    assert [f"exit {value} ;;" in container["command"][-1] for value in rule["onExitCodes"]["values"]] == [
        True
    ]


def test_names_of_nights_are_not_too_long_for_the_operator() -> None:
    longest = ClusterOptions(gpus=1, name="n" * 30)
    assert len(f"{rendered(longest)['cronjob'][-1]['metadata']['name']}-29384750") <= 47
    with pytest.raises(ValidationError, match="name"):
        ClusterOptions(gpus=1, name="n" * 31)


def test_prometheus_reaches_the_metrics_where_its_namespace_is_named() -> None:
    closed, opened = (
        rendered(ClusterOptions(gpus=8, metrics_namespace=name))["network-policy"]
        for name in (None, "monitoring")
    )
    check(opened)
    *same, rule = opened["spec"]["ingress"]
    assert same == closed["spec"]["ingress"]
    assert rule["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]
    assert {port["port"] for port in rule["ports"]} >= {8080}
    assert not {8265, 6379, 10001} & {port["port"] for port in rule["ports"]}


def test_jobs_run_commands_that_exist_with_settings_that_load() -> None:
    files = rendered(SPLIT)
    command = shlex.split(files["rayjob"]["spec"]["entrypoint"])
    assert command[:2] == ["env", "-C"] and command[3] == "rayflow"
    assert (ROOT / command[5]).exists()
    # The operator hands the entry point to a shell: quoted or not, it must stay the same words.
    assert shlex.join(command) == files["rayjob"]["spec"]["entrypoint"]
    shown = CliRunner().invoke(app, [command[4], "--help"])
    assert shown.exit_code == 0 and "--set" in shown.output


def test_fault_tolerance_is_asked_for_with_a_reference_to_the_password() -> None:
    assert "gcsFaultToleranceOptions" not in rendered(SPLIT)["raycluster"]["spec"]
    asked = rendered(SIZINGS["all-options"])["raycluster"]["spec"]["gcsFaultToleranceOptions"]
    assert asked["redisAddress"] == "redis:6379"
    assert list(asked["redisPassword"]) == ["valueFrom"]


def test_the_committed_files_are_what_the_readmes_command_writes(tmp_path: Path) -> None:
    command = re.search(
        r"^rayflow (cluster render .*?)(?: +#.*)?$", (ROOT / "cluster/README.md").read_text(), re.M
    )
    arguments = [*shlex.split(command.group(1)), "--output", str(tmp_path)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    committed = ROOT / "cluster" / "manifests"
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in committed.iterdir()}
    for path in tmp_path.iterdir():
        assert path.read_text() == (committed / path.name).read_text(), path.name


def test_a_configuration_that_no_pod_sees_is_told_where_to_go(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: " + str(ROOT / "jobs/configs/quickstart.yaml"))
    arguments = ["cluster", "render", "--gpus", "1", "--output", str(tmp_path / "out"), "--config"]
    told = CliRunner().invoke(app, [*arguments, str(path)], catch_exceptions=False).output
    assert f"put {path}, its data and its code there" in told
    told = (
        CliRunner().invoke(app, [*arguments, "jobs/configs/quickstart.yaml"], catch_exceptions=False).output
    )
    assert "put " not in told


def test_a_model_of_a_laptop_is_warned_of_when_manifests_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only hint was a comment inside rayjob.yaml."""
    monkeypatch.chdir(ROOT)
    arguments = ["cluster", "render", "--gpus", "1", "--output", str(tmp_path)]
    told = CliRunner().invoke(app, arguments, catch_exceptions=False).stderr
    for config in ("quickstart", "refresh"):
        assert f"Warning: jobs/configs/{config}.yaml: model is '~/.cache/rayflow/models/" in told
    for model in ("HuggingFaceTB/SmolLM2-135M-Instruct", "/shared/models/mine"):
        told = CliRunner().invoke(app, [*arguments, "--set", f"model={model}"], catch_exceptions=False)
        assert told.stderr == ""
