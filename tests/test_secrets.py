"""TLS to all servers, as docs/operations.md installs it; and no secret is ever said aloud."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemons import AT, QUOTAD
from tests.guarded import Gate, Guarded, guarded_broker, guarded_store
from tests.servers import START_SECONDS, free_port
from tests.tap import until_now


@dataclass(slots=True)
class Secured:
    """A store, a broker and the settings of a daemon, with TLS between all of them."""

    store: Guarded
    gate: Gate
    settings: Path
    port: int

    @property
    def token(self) -> str:
        return (self.store.secrets / "http.token").read_text().strip()

    def secrets(self) -> list[str]:
        users = [self.store.password("quotad"), self.store.password("operator"), self.gate.password("quotad")]
        return [*users, self.token]

    def does(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [QUOTAD, *words]
        known = os.environ | environ
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=known)

    def get(self, path: str, token: str = "") -> int:
        trusting = ssl.create_default_context(cafile=self.store.secrets / "ca.pem")
        asked = urllib.request.Request(f"https://localhost:{self.port}{path}")
        if token:
            asked.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(asked, timeout=5, context=trusting) as page:  # noqa: S310 - the same
                return int(page.status)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code
        except OSError:
            return 0


def tls_of_the_store(secrets: Path, port: int) -> dict[str, str]:
    """Take the lines of redis.conf in that are there for gateways elsewhere."""
    return {
        "# port 0": "port 0",
        "# tls-port 6380": f"tls-port {port}",
        "# tls-cert-file /etc/redis/tls/server.pem": f"tls-cert-file {secrets}/server.pem",
        "# tls-key-file /etc/redis/tls/server.key": (
            f"tls-key-file {secrets}/server.key\ntls-ca-cert-file {secrets}/ca.pem"
        ),
        "# tls-auth-clients no": "tls-auth-clients no",
    }


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    rooms = [tmp_path_factory.mktemp(name) for name in ("store", "broker", "daemon")]
    tls_port, port = free_port(), free_port()
    changes = tls_of_the_store(rooms[0] / "secrets", tls_port)
    changes.pop("# port 0")  # the tester looks in from there
    with guarded_store(rooms[0], changes=changes) as store, guarded_broker(rooms[1]) as gate:
        settings = rooms[2] / "quotad.toml"
        settings.write_text(
            f'[redis]\nurl = "rediss://localhost:{tls_port}/0"\nusername = "quotad"\n'
            f'password_file = "{store.secrets}/redis.quotad"\nca_file = "{store.secrets}/ca.pem"\n'
            f'[mqtt]\nurl = "mqtts://localhost:{gate.port}"\nusername = "quotad"\n'
            f'password_file = "{gate.secrets}/mqtt.quotad"\nca_file = "{gate.secrets}/ca.pem"\n'
            f'[http]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{store.secrets}/http.token"\n'
            f'cert_file = "{store.secrets}/server.pem"\nkey_file = "{store.secrets}/server.key"\n'
            '[market]\nhkd_cny = "0.91250"\n'
        )
        yield Secured(store, gate, settings, port)


@contextmanager
def daemon(secured: Secured, log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [QUOTAD, "run", "--config", str(secured.settings), "--at", AT]
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | environ)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def test_a_daemon_works_with_tls_to_all_sides_and_says_no_secret(secured: Secured, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with daemon(secured, log) as process:
        until_now(lambda: secured.get("/-/ready") == 200)
        assert secured.get("/api/pools") == 401
        assert secured.get("/api/pools", secured.token) == 200
        line = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
        operator = {
            "QUOTA_REDIS__USERNAME": "operator",
            "QUOTA_REDIS__PASSWORD_FILE": str(secured.store.secrets / "redis.operator"),
        }
        said = [
            secured.does(*words, "--config", str(secured.settings), **operator)
            for words in (
                ("status",), ("halt", "NB-SH", "--reason", "x"), ("resume", "NB-SH", "--reason", "x"),
                ("verify",), ("check", "NB-SH", "buy"),
            )
        ]  # fmt: skip
    assert [each.returncode for each in said] == [0] * 5, said
    said.append(secured.does("config", str(secured.settings)))
    spoken = log.read_text() + line + "".join(each.stdout + each.stderr for each in said)
    assert [secret for secret in secured.secrets() if secret in spoken] == []
    assert json.loads(log.read_text().splitlines()[-1])["event"] == "daemon.ended"


@pytest.mark.parametrize("wrong", ["QUOTA_REDIS__PASSWORD", "QUOTA_MQTT__PASSWORD"])
def test_a_wrong_password_is_not_repeated(secured: Secured, tmp_path: Path, wrong: str) -> None:
    log, guess = tmp_path / "log", "a-guess-that-is-wrong"
    with daemon(secured, log, **{wrong: guess}):
        until_now(lambda: re.search("invalid username|not authorized", log.read_text(), re.IGNORECASE))
    assert guess not in log.read_text()
    assert [secret for secret in secured.secrets() if secret in log.read_text()] == []


def test_another_authority_is_not_trusted(secured: Secured, tmp_path: Path) -> None:
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-noenc",
    ]
    files = ["-keyout", f"{tmp_path}/k", "-out", f"{tmp_path}/ca.pem", "-subj", "/CN=other"]
    subprocess.run([*command, *files], check=True, capture_output=True)
    other = {"QUOTA_REDIS__CA_FILE": str(tmp_path / "ca.pem")}
    said = secured.does("check", "NB-SH", "buy", "--config", str(secured.settings), **other)
    assert said.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in said.stderr.upper()


def test_what_is_made_is_for_its_owner_alone_and_stays(secured: Secured) -> None:
    secrets = secured.store.secrets
    for path in secrets.rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o644 if path.suffix == ".pem" else 0o600
        assert path.stat().st_mode & 0o777 == wanted, path
    assert len({path.read_text() for path in secrets.glob("redis.*")}) == 5
