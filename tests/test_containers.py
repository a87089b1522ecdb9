"""What can be held of image, compose file and manifests where no container engine is: they fit."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compose_spec
import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest
import redis
import yaml
from prometheus_client import CollectorRegistry

from quota.config import load
from quota.http import app, serving
from tests.deployed import DEPLOY, ROOT, fetch, rendered, running
from tests.guarded import TESTER, credentials
from tests.servers import binary, free_port

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TOKEN = {"QUOTA_HTTP__TOKEN": "of-sixteen-chars"}
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


# The image. -----------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Read the Dockerfile: words and what follows them, lines that go on joined."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined.splitlines()]


def last(word: str) -> str:
    return [rest for found, rest in instructions() if found == word][-1]


def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    said = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_everything_that_is_copied_is_there_and_nothing_else_is_sent() -> None:
    copied = [source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]]
    sources = {source for source in copied if not source.startswith(("--", "/"))}
    assert all((ROOT / source).exists() for source in sources)
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == sources


def test_the_image_runs_as_a_number_that_is_not_root_and_by_itself() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))
    for word in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(last(word)), list)
    assert f'image.version="{VERSION}"' in last("LABEL")
    pythons = [rest for word, rest in instructions() if word == "ARG"]
    assert pythons == ["PYTHON=python:3.11-slim-bookworm"]


def test_the_image_has_settings_that_the_daemon_takes() -> None:
    settings = dict(pair.split("=", 1) for pair in last("ENV").split())
    listens = load(DEPLOY / "quotad.toml", settings | TOKEN).http
    assert (listens.host, listens.port) == ("0.0.0.0", int(last("EXPOSE")))  # noqa: S104 - a container's own address
    assert json.loads(last("ENTRYPOINT")) == ["quotad"]
    assert json.loads(last("CMD"))[-1] in {rest.split()[-1] for _, rest in instructions()}


# Compose. -------------------------------------------------------------------------------------


def test_the_compose_file_keeps_to_its_specification() -> None:
    parsed = compose_spec.PyCompose.from_json(json.dumps(COMPOSE))
    parsed.validate()
    assert set(parsed.service_names()) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_contained_pinned_and_watched(name: str) -> None:
    own = SERVICES[name]
    assert own["read_only"] is True
    assert own["cap_drop"] == ["ALL"]
    assert own["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r":v?\d+\.\d+\.\d+$", own["image"])
    assert all(port.startswith("127.0.0.1:") for port in own["ports"])
    assert "healthcheck" in own or name == "quotad"
    assert own["restart"] == "unless-stopped"


def test_every_file_and_volume_that_is_mounted_is_there(tmp_path: Path) -> None:
    secrets = credentials(tmp_path)
    mounts = [volume.split(":") for own in SERVICES.values() for volume in own.get("volumes", ())]
    for source, _, *mode in mounts:
        if source.startswith("."):
            made = (secrets.parent / source.removeprefix("./compose/")).exists()
            assert made or (DEPLOY / source).exists(), source
            assert mode == ["ro"], source
    assert {source for source, *_ in mounts if not source.startswith(".")} == set(COMPOSE["volumes"])


def test_what_lies_in_compose_is_made_from_the_files_of_a_machine() -> None:
    tool = DEPLOY / "compose" / "derive.py"
    said = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


def test_the_containers_find_each_other(tmp_path: Path) -> None:
    own = SERVICES["quotad"]
    assert own["image"] == f"quotad:{VERSION}"
    secrets = credentials(tmp_path)
    environment = {
        name: text.replace("/run/secrets", str(secrets)) for name, text in own["environment"].items()
    }
    settings = load(DEPLOY / "quotad.toml", environment | {"QUOTA_HTTP__LISTEN": "[::]:9464"})
    assert (settings.mqtt.tls, settings.http.token is None) == (True, False)
    assert settings.mqtt.username == settings.mqtt.client_id
    assert {settings.redis.host, settings.mqtt.host} <= set(SERVICES)
    assert SERVICES["grafana"]["environment"]["PROMETHEUS_URL"] == "http://prometheus:9090"
    named = re.findall(
        r"([a-z]+):(\d{4})\b", "".join(p.read_text() for p in (DEPLOY / "compose").glob("*.yml"))
    )
    opened = {(name, port.split(":")[2]) for name, own in SERVICES.items() for port in own["ports"]}
    assert set(named) <= opened
    assert {name for name, _ in named} == {"alertmanager", "quotad"}


def test_grafana_finds_the_dashboards_where_they_are_mounted() -> None:
    provider = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/quotad.yml").read_text("utf-8"))
    (path,) = (each["options"]["path"] for each in provider["providers"])
    assert f"../grafana/dashboards:{path}:ro" in SERVICES["grafana"]["volumes"]


def test_every_directory_that_a_server_names_is_a_volume_of_it() -> None:
    """A path of a machine is not there in an image, and a store ends when it reads one."""
    for name in ("valkey", "mosquitto"):
        mounts = dict(volume.split(":")[:2] for volume in SERVICES[name]["volumes"])
        (source,) = (source for source in mounts if source.endswith(".conf"))
        text = re.sub(r"^#.*", "", (DEPLOY / source).read_text("utf-8"), flags=re.MULTILINE)
        ours = {"/mosquitto/secrets/ca.pem", "/mosquitto/secrets/mosquitto_sub"}  # of the health check
        named = {path.rstrip("/") for path in re.findall(r"(?<!\w)/[\w/.]+", text)}
        assert named == set(mounts.values()) - {mounts[source]} - ours
        assert mounts[source] == SERVICES[name]["command"][-1]


def test_the_store_of_the_compose_file_listens_beyond_its_own_loopback(tmp_path: Path) -> None:
    port = free_port()
    assert SERVICES["valkey"]["command"] == ["valkey-server", "/etc/valkey/redis.conf"]
    users = tmp_path / "users.acl"
    users.write_text((credentials(tmp_path) / "users.acl").read_text() + TESTER + "\n")
    changes = {
        "\nport 6379": f"\nport {port}",
        "dir /data": f"dir {tmp_path}",
        "/etc/valkey/users.acl": str(users),
    }
    command = [binary("redis-server"), rendered("compose/redis.conf", tmp_path, changes)]
    with running(command, port, tmp_path), redis.Redis(port=port, username="tester", password="") as client:
        have: Any = client.config_get("*")
        wanted = {"bind": "* -::*", "protected-mode": "no", "appendonly": "yes", "dir": str(tmp_path)}
        assert {key: have[key] for key in wanted} == wanted


def test_the_broker_of_the_compose_file_starts_and_passes_its_health_check(tmp_path: Path) -> None:
    port = free_port()
    secrets = credentials(tmp_path, "--name", "mosquitto")
    changes = {
        "listener 8883": f"listener {port} 127.0.0.1",
        "/mosquitto/secrets/server.pem": f"{secrets}/server.pem",
        "/mosquitto/secrets/server.key": f"{secrets}/server.key",
        "/mosquitto/secrets/passwords": f"{secrets}/passwords",
        "/mosquitto/config/topics.acl": str(DEPLOY / "topics.acl"),
        "/mosquitto/data/": f"{tmp_path}/\nuser root",
    }
    command = [binary("mosquitto"), "-c", rendered("compose/mosquitto.conf", tmp_path, changes)]
    check = [word.replace("$$", "$") for word in SERVICES["mosquitto"]["healthcheck"]["test"][1:]]
    check[0] = binary(check[0])
    check = [
        {"8883": str(port), "/mosquitto/secrets/ca.pem": f"{secrets}/ca.pem"}.get(it, it) for it in check
    ]
    environment = os.environ | {"XDG_CONFIG_HOME": str(secrets / "health")}
    with running(command, port, tmp_path):
        said = subprocess.run(check, capture_output=True, text=True, check=False, env=environment)
        assert (said.returncode, said.stdout.split()[0]) == (0, "mosquitto")


# Kubernetes. ----------------------------------------------------------------------------------


def objects() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from yaml.safe_load_all(path.read_text("utf-8"))


BY_KIND = {each["kind"]: each for each in objects()}
DAEMON: dict[str, Any] = BY_KIND["Deployment"]["spec"]["template"]
VERIFY: dict[str, Any] = BY_KIND["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]


@pytest.mark.parametrize("release", ["1.27", "1.32", "1.37"])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_keeps_to_the_schema_of_its_kind(path: Path, release: str) -> None:
    for each in yaml.safe_load_all(path.read_text("utf-8")):
        kubernetes_validate.validate(each, release, strict=True)


def test_one_daemon_at_a_time_is_asked_for_and_chosen_by_its_labels() -> None:
    deployment = BY_KIND["Deployment"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    labels = DAEMON["metadata"]["labels"].items()
    for kind, selector in (
        ("Deployment", deployment["selector"]["matchLabels"]),
        ("PodDisruptionBudget", BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]),
        ("Service", BY_KIND["Service"]["spec"]["selector"]),
        ("NetworkPolicy", BY_KIND["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]),
    ):
        assert selector.items() <= labels, kind
    both = BY_KIND["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items()
    assert both <= VERIFY["metadata"]["labels"].items()
    assert not BY_KIND["Service"]["spec"]["selector"].items() <= VERIFY["metadata"]["labels"].items()


@pytest.mark.parametrize("pod", [DAEMON, VERIFY], ids=["daemon", "verify"])
def test_a_pod_may_nothing(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" == last("USER")
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["image"] == f"quotad:{VERSION}"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}


def test_the_config_map_holds_settings_that_the_daemon_takes() -> None:
    settings = load(DEPLOY / "quotad.toml", BY_KIND["ConfigMap"]["data"] | TOKEN)
    assert settings.http.host == "0.0.0.0"  # noqa: S104 - a pod's own address
    (container,) = DAEMON["spec"]["containers"]
    assert settings.http.port == container["ports"][0]["containerPort"]
    secrets = {each["name"]: "of-sixteen-chars" for each in container["env"]}
    assert load(None, BY_KIND["ConfigMap"]["data"] | secrets).mqtt.password is not None


async def test_the_probe_of_readiness_asks_for_a_page_that_exists() -> None:
    (container,) = DAEMON["spec"]["containers"]
    paths = {container["readinessProbe"]["httpGet"]["path"], "/metrics"}
    async with serving(app(CollectorRegistry(), pools=list, ready=list), "127.0.0.1", 0) as address:
        for path in paths:
            assert await asyncio.to_thread(fetch, f"http://{address}{path}") is not None


def test_names_may_be_asked_of_anybody() -> None:
    """A cache on the node answers at an address of the node: no selector would let it through."""
    egress = BY_KIND["NetworkPolicy"]["spec"]["egress"]
    ports = {
        (port["port"], port["protocol"]) for rule in egress if "to" not in rule for port in rule["ports"]
    }
    assert ports >= {(53, "UDP"), (53, "TCP"), (6379, "TCP"), (1883, "TCP")}


def test_verify_runs_on_the_clock_of_the_market() -> None:
    cron = BY_KIND["CronJob"]["spec"]
    assert (cron["schedule"], cron["timeZone"]) == ("30 16 * * 1-5", "Asia/Shanghai")
    assert cron["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert VERIFY["spec"]["containers"][0]["args"][0] == "verify"
