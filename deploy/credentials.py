"""Make what the servers of quotad and those who come to them know each other by, in one directory.

python3 deploy/credentials.py DIRECTORY [--name NAME]... [--source SOURCE]...

A password for each user of the store and of the broker, the token of the pages, an authority and a
certificate for the servers (``openssl`` makes them). What is there already stays as it is; the files
for store and broker are written anew from it. Nothing but this program and the standard library.
"""

# ruff: noqa: INP001 - a tool in a directory of files, not a package

from __future__ import annotations

import argparse
import base64
import hashlib
import ipaddress
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
BROKER_USERS = ("quotad", "monitor", "rates", "health")
_ROUNDS = 101
_DAYS = 825
_NAME = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_SOURCE = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A colon ends the name in the broker's file."""


def store_users(rules: str) -> list[str]:
    """Read the users of an ACL file that may come in."""
    words = (line.split() for line in rules.splitlines() if line.startswith("user "))
    return [line[1] for line in words if "on" in line]


def password(path: Path) -> str:
    """Read a password, or make one that nobody can guess."""
    if not path.exists():
        write(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text("utf-8").strip()


def write(path: Path, text: str) -> None:
    """Write a file for its owner alone, in one step."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


def for_the_store(directory: Path) -> str:
    """Write the ACL file: the rules, and of each user the hash of its password."""
    rules = (HERE / "users.acl").read_text("utf-8")
    for user in store_users(rules):
        digest = hashlib.sha256(password(directory / f"redis.{user}").encode()).hexdigest()
        rules = rules.replace(f"user {user} reset on ", f"user {user} reset on #{digest} ")
    return rules


def for_the_broker(directory: Path, sources: Sequence[str]) -> str:
    """Write the password file as ``mosquitto_passwd`` does: PBKDF2 with SHA-512."""
    lines = []
    for user in (*BROKER_USERS, *sources):
        secret, salt = password(directory / f"mqtt.{user}"), secrets.token_bytes(12)
        digest = hashlib.pbkdf2_hmac("sha512", secret.encode(), salt, _ROUNDS)
        words = (base64.b64encode(part).decode() for part in (salt, digest))
        lines.append(f"{user}:$7${_ROUNDS}${'$'.join(words)}\n")
    return "".join(lines)


def certify(directory: Path, names: Sequence[str]) -> None:
    """Make an authority, and a certificate of the servers for these names and addresses."""
    if not (directory / "ca.pem").exists():
        request = ["req", "-x509", "-subj", "/CN=quotad authority", "-days", str(10 * 365)]
        make(directory, request, "ca", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
    if not (directory / "server.pem").exists():
        alternatives = ",".join(f"{kind(name)}:{name}" for name in names)
        request = ["req", "-x509", "-subj", "/CN=quotad servers", "-days", str(_DAYS)]
        request += ["-CA", str(directory / "ca.pem"), "-CAkey", str(directory / "ca.key")]
        limits = ("basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth")
        make(directory, request, "server", f"subjectAltName={alternatives}", *limits)


def kind(name: str) -> str:
    """Tell an address from a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "DNS"
    return "IP"


def make(directory: Path, request: Sequence[str], name: str, *extensions: str) -> None:
    """Have openssl make a key and its certificate."""
    files = ["-keyout", str(directory / f"{name}.key"), "-out", str(directory / f"{name}.pem")]
    added = [word for extension in extensions for word in ("-addext", extension)]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    command = ["openssl", *request, *curve, *files, *added]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - words of ours and paths that were given
    (directory / f"{name}.pem").chmod(0o644)


def main() -> int:
    """Make what is missing."""
    parser = argparse.ArgumentParser(
        description="Make passwords, certificates, and the files of their users."
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument(
        "--name", action="append", default=[], help="what the servers are called, beside localhost"
    )
    parser.add_argument("--source", action="append", default=[], help="a source that speaks over MQTT")
    given = parser.parse_args()
    directory, sources = given.directory, list(dict.fromkeys(given.source))
    if wrong := [name for name in given.name if not _NAME.fullmatch(name)]:
        parser.error(f"--name {wrong[0]!r} is no name of a host and no address")
    if wrong := [name for name in sources if not _SOURCE.fullmatch(name)]:
        parser.error(f"--source {wrong[0]!r} must be 1 to 64 of A-Z a-z 0-9 . _ -")
    if taken := [name for name in sources if name in {*BROKER_USERS, "-"}]:
        parser.error(f"--source {taken[0]!r} cannot be a source")
    os.umask(0o077)
    directory.mkdir(parents=True, exist_ok=True)
    known = [path.name.removeprefix("mqtt.") for path in sorted(directory.glob("mqtt.*"))]
    sources = list(dict.fromkeys(name for name in (*known, *sources) if name not in BROKER_USERS))
    password(directory / "http.token")
    write(directory / "users.acl", for_the_store(directory))
    write(directory / "passwords", for_the_broker(directory, sources))
    health = f"-u health\n-P {password(directory / 'mqtt.health')}\n"
    (directory / "health").mkdir(exist_ok=True)
    write(directory / "health" / "mosquitto_sub", health)
    certify(directory, ["localhost", "127.0.0.1", "::1", *given.name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
