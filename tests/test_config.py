"""The settings: one bad file per rule, each with the exact sentence that names it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from quota.config import Settings, load
from quota.decision import Admission, PoolName
from quota.errors import ConfigError

RATE = {"QUOTA_MARKET__HKD_CNY": "0.91250"}
PASSWORD = "correct-horse-battery"  # noqa: S105 - no secret, a sentence about horses

CONTRACT = """
[redis]
url = "redis://127.0.0.1:6379/0"
[mqtt]
url = "mqtt://127.0.0.1:1883"
root = "connect"
client_id = "quotad"
[http]
listen = "127.0.0.1:9464"
[market]
pools = ["NB-SH", "NB-SZ", "SB-SH", "SB-SZ"]
admission = "positive_balance"
open_late = "halt"
hkd_cny = "0.91250"
keep_days = 1
[market.limits_yuan]
NB-SH = "1000000.00"
[market.calendar]
closed = ["2026-11-25"]
open = []
half_days = []
[alerts]
levels = [50, 70, 90, 100]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "quotad.toml"
    path.write_text(text, "utf-8")
    return path


def mistakes(path: Path | None, environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ)
    return str(caught.value).splitlines()


def test_the_contracts_example_is_read(tmp_path: Path) -> None:
    settings = load(written(tmp_path, CONTRACT), {})
    assert settings.market.pools == tuple(PoolName)
    assert settings.market.limit_fen(PoolName.NB_SH) == 100_000_000
    assert settings.market.limit_fen(PoolName.NB_SZ) is None
    assert settings.market.calendar.closed == (date(2026, 11, 25),)


def test_the_defaults_are_the_contracts_example_without_limits_and_closures(tmp_path: Path) -> None:
    example = CONTRACT.replace('NB-SH = "1000000.00"', "").replace('"2026-11-25"', "")
    assert load(None, RATE) == load(written(tmp_path, example), {})


def test_the_defaults_that_the_example_does_not_show() -> None:
    settings = load(None, RATE)
    assert (settings.redis.deadline_ms, settings.mqtt.window) == (2_000, 1_000)
    assert settings.market.southbound_opening_resumes is False
    assert (settings.redis.password, settings.mqtt.username, settings.redis.tls) == (None, None, False)


MANY = "must be one of NB-SH, NB-SZ, SB-SH, SB-SZ"
LEVELS = "alerts.levels: must be whole numbers from 1 to 100, each above the one before, and at least one"
ROOT = "mqtt.root: must be a topic without + and #, without / at either end and without $ in front"
LISTEN = "http.listen: must be host:port, like 127.0.0.1:9464"
REDIS_URL = (
    "redis.url: must be redis://host:port/number, rediss://…, unix:///path, "
    "redis+sentinel://host:port,host:port/name/number or redis+cluster://host:port,host:port"
)
MQTT_URL = "mqtt.url: must be mqtt://host:port or mqtts://host:port"
NO_USER = "must not carry a user or a password, use username and password_file"
YUAN = "must be an amount in yuan: digits, with at most two decimals"
RATE_RULE = "market.hkd_cny: must be a decimal string below 10 with at most 5 decimals"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[radis]", "radis: unknown key"),
        ("redis = 5", "redis: must be a table"),
        ("[redis]\nurl_ = 'x'", "redis.url_: unknown key"),
        ("[market.calendar]\nclose = []", "market.calendar.close: unknown key"),
        ("[redis]\nurl = 6379", "redis.url: must be text in quotes"),
        ("[redis]\nurl = 'localhost:6379'", REDIS_URL),
        ("[redis]\nurl = 'http://localhost:6379'", REDIS_URL),
        ("[redis]\nurl = 'redis://localhost:99999'", REDIS_URL),
        ("[redis]\nurl = 'redis://localhost/cache'", REDIS_URL),
        ("[redis]\nurl = 'redis://localhost/0?timeout=1'", REDIS_URL),
        ("[redis]\nurl = 'redis://localhost/0#1'", REDIS_URL),
        ("[redis]\nurl = 'redis://:pw@localhost/0'", f"redis.url: {NO_USER}"),
        ("[redis]\ndeadline_ms = 49", "redis.deadline_ms: must be from 50 to 60000"),
        ("[redis]\ndeadline_ms = 60001", "redis.deadline_ms: must be from 50 to 60000"),
        ("[redis]\ndeadline_ms = 99.5", "redis.deadline_ms: must be a whole number"),
        ("[redis]\ndeadline_ms = 'soon'", "redis.deadline_ms: must be a whole number"),
        ("[redis]\ndurability = 'disk'", "redis.durability: must be one of memory, fsync, replica"),
        ("[redis]\ndeadline_ms = []", "redis.deadline_ms: must be a whole number"),
        (
            "[redis]\npassword = 'pw'",
            "redis.password: must not stand in the file: use password_file or QUOTA_REDIS__PASSWORD",
        ),
        (
            "[mqtt]\npassword = 5",
            "mqtt.password: must not stand in the file: use password_file or QUOTA_MQTT__PASSWORD",
        ),
        (
            "[mqtt]\npassword_file = '/nowhere'",
            "mqtt.password_file: cannot be read (No such file or directory)",
        ),
        ("[redis]\nca_file = '/nowhere'", "redis.ca_file: names no file"),
        ("[mqtt]\nca_file = 5", "mqtt.ca_file: must be text in quotes"),
        ("[mqtt]\nurl = 'mqtt://localhost/topic'", MQTT_URL),
        ("[mqtt]\nurl = 'mqtt://'", MQTT_URL),
        ("[mqtt]\nurl = 'rediss://localhost'", MQTT_URL),
        ("[mqtt]\nurl = 'mqtts://me@localhost'", f"mqtt.url: {NO_USER}"),
        ("[mqtt]\nroot = ''", ROOT),
        ("[mqtt]\nroot = '/connect'", ROOT),
        ("[mqtt]\nroot = 'connect/'", ROOT),
        ("[mqtt]\nroot = 'a/+/b'", ROOT),
        ("[mqtt]\nroot = 'a/#'", ROOT),
        ("[mqtt]\nroot = '$SYS'", ROOT),
        ("[mqtt]\nclient_id = ''", "mqtt.client_id: must be 1 to 64 characters of A-Z a-z 0-9 . _ : -"),
        ("[mqtt]\nclient_id = 'a b'", "mqtt.client_id: must be 1 to 64 characters of A-Z a-z 0-9 . _ : -"),
        ("[mqtt]\nwindow = 0", "mqtt.window: must be from 1 to 20000"),
        ("[mqtt]\nwindow = 20001", "mqtt.window: must be from 1 to 20000"),
        ("[mqtt]\nwindow = true", "mqtt.window: must be a whole number"),
        ("[http]\nlisten = '9464'", LISTEN),
        ("[http]\nlisten = ':9464'", LISTEN),
        ("[http]\nlisten = 'localhost'", LISTEN),
        ("[http]\nlisten = 'localhost:99999'", LISTEN),
        ("[http]\nlisten = 'localhost:9464/metrics'", LISTEN),
        ("[http]\nlisten = 'me@localhost:9464'", LISTEN),
        ("[market]\npools = []", "market.pools: must name at least one pool"),
        ("[market]\npools = ['NB-SH', 'NB-SH']", "market.pools: must not name a pool twice"),
        ("[market]\npools = ['NB-SH', 'NB-BJ']", f"market.pools[1]: {MANY}"),
        ("[market]\npools = 5", "market.pools: must be a list"),
        ("[market]\nadmission = 'any'", "market.admission: must be one of positive_balance, must_fit"),
        ("[market]\nopen_late = 'maybe'", "market.open_late: must be one of halt, open"),
        (
            "[market]\nsouthbound_opening_resumes = 'perhaps'",
            "market.southbound_opening_resumes: must be true or false",
        ),
        ("[market]\nhkd_cny = 0.9125", "market.hkd_cny: must be text in quotes"),
        ("[market]\nhkd_cny = '0.912501'", RATE_RULE),
        ("[market]\nhkd_cny = '10'", RATE_RULE),
        ("[market]\nhkd_cny = '0.00000'", "market.hkd_cny: must be above zero"),
        ("[market]\nkeep_days = -1", "market.keep_days: must be from 0 to 30"),
        ("[market]\nkeep_days = 31", "market.keep_days: must be from 0 to 30"),
        ("[market]\nlimits_yuan = '1.00'", "market.limits_yuan: must be a table"),
        ("[market.limits_yuan]\nNB-BJ = '1.00'", f"market.limits_yuan.NB-BJ: {MANY}"),
        ("[market.limits_yuan]\nNB-SH = 1.0", "market.limits_yuan.NB-SH: must be text in quotes"),
        ("[market.limits_yuan]\nNB-SH = '1.005'", f"market.limits_yuan.NB-SH: {YUAN}"),
        (
            "[market.limits_yuan]\nNB-SH = '0'",
            "market.limits_yuan.NB-SH: must be above zero and at most 45000000000000.00 yuan",
        ),
        (
            "[market.calendar]\nclosed = [20261125]",
            "market.calendar.closed[0]: must be a date like 2026-11-25",
        ),
        (
            "[market.calendar]\nclosed = ['2026-W48-3']",
            "market.calendar.closed[0]: must be a date like 2026-11-25",
        ),
        (
            "[market.calendar]\nopen = ['2026-02-30']",
            "market.calendar.open[0]: must be a date like 2026-11-25",
        ),
        (
            "[market.calendar]\nhalf_days = ['2026-12-24', 2026-12-31T00:00:00]",
            "market.calendar.half_days[1]: must be a date like 2026-11-25",
        ),
        (
            "[market.calendar]\nclosed = [2026-11-25]\nopen = ['2026-11-25']",
            "market.calendar.open: 2026-11-25 is in closed too",
        ),
        (
            "[capture]\nfolder = 'capture'",
            "capture.folder: must be a path from the root, like /var/lib/quotad/capture",
        ),
        ("[capture]\nfolder = 1", "capture.folder: must be text in quotes"),
        ("[capture]\nkeep_days = 0", "capture.keep_days: must be from 1 to 3650"),
        ("[capture]\nrotate_mib = 0", "capture.rotate_mib: must be from 1 to 65536"),
        ("[alerts]\nlevels = []", LEVELS),
        ("[alerts]\nlevels = [50, 50]", LEVELS),
        ("[alerts]\nlevels = [70, 50]", LEVELS),
        ("[alerts]\nlevels = [0, 50]", LEVELS),
        ("[alerts]\nlevels = [50, 101]", LEVELS),
        ("[alerts]\nlevels = [50, 'all']", "alerts.levels[1]: must be a whole number"),
    ],
)
def test_each_rule_names_its_mistake(tmp_path: Path, text: str, mistake: str) -> None:
    environ = {} if "hkd_cny" in text else RATE
    assert mistakes(written(tmp_path, text), environ) == [mistake]


@pytest.mark.parametrize(
    ("pools", "served"),
    [
        ("['NB-SH', 'SB-SH']", "SB-SH"),
        ("['SB-SZ', 'SB-SH']", "SB-SZ, SB-SH"),
    ],
)
def test_southbound_pools_need_a_rate(tmp_path: Path, pools: str, served: str) -> None:
    path = written(tmp_path, f"[market]\npools = {pools}")
    expected = f"market.hkd_cny: required where a southbound pool is served ({served})"
    assert mistakes(path, {}) == [expected]


def test_northbound_pools_need_none(tmp_path: Path) -> None:
    assert load(written(tmp_path, "[market]\npools = ['NB-SH']"), {}).market.hkd_cny is None


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    text = (
        "[redis]\npassword = 'pw'\ndeadline_ms = 1\n[mqtt]"
        "\nwindow = 0\nroot = '#'\n[market]\nkeep_days = 99\n[x]\n[_env_file]"
    )
    assert mistakes(written(tmp_path, text), {"QUOTA_OTHER__KEY": "1"}) == [
        "redis.password: must not stand in the file: use password_file or QUOTA_REDIS__PASSWORD",
        "x: unknown key",
        "_env_file: unknown key",
        "QUOTA_OTHER__KEY: unknown key",
        "redis.deadline_ms: must be from 50 to 60000",
        ROOT,
        "mqtt.window: must be from 1 to 20000",
        "market.hkd_cny: required where a southbound pool is served (SB-SH, SB-SZ)",
        "market.keep_days: must be from 0 to 30",
    ]


@pytest.mark.parametrize(
    ("name", "ends"),
    [("REDIS__DEADLINE_MS", "50 60000"), ("MQTT__WINDOW", "1 20000"), ("MARKET__KEEP_DAYS", "0 30")],
)
def test_both_ends_of_a_range_belong_to_it(name: str, ends: str) -> None:
    for number in ends.split():
        section, key = name.lower().split("__")
        settings = load(None, RATE | {f"QUOTA_{name}": number})
        assert getattr(getattr(settings, section), key) == int(number)


def test_what_is_not_toml_is_named_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "[redis]\nurl = \n")
    (mistake,) = mistakes(path, {})
    assert mistake.startswith(f"{path}: is not TOML: ")
    assert "line 2" in mistake


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing.toml"
    assert mistakes(path, RATE) == [f"{path}: cannot be read (No such file or directory)"]
    assert mistakes(tmp_path, RATE) == [f"{tmp_path}: cannot be read (Is a directory)"]


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# caf\xe9\n")
    assert mistakes(path, RATE) == [f"{path}: is not UTF-8"]


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environ = {
        "QUOTA_REDIS__URL": "redis://store:6380/2",
        "QUOTA_REDIS__DEADLINE_MS": "250",
        "QUOTA_MARKET__POOLS": "SB-SH, NB-SZ",
        "QUOTA_MARKET__ADMISSION": "must_fit",
        "QUOTA_MARKET__SOUTHBOUND_OPENING_RESUMES": "true",
        "QUOTA_MARKET__LIMITS_YUAN__NB_SH": "5.00",
        "QUOTA_MARKET__LIMITS_YUAN__SB_SZ": "6",
        "QUOTA_MARKET__CALENDAR__OPEN": "2027-01-04,2027-01-05",
        "QUOTA_ALERTS__LEVELS": "80,95",
    }
    settings = load(written(tmp_path, CONTRACT), environ)
    assert (settings.redis.url, settings.redis.deadline_ms) == ("redis://store:6380/2", 250)
    assert settings.market.pools == (PoolName.SB_SH, PoolName.NB_SZ)
    assert settings.market.admission is Admission.MUST_FIT
    assert settings.market.southbound_opening_resumes is True
    assert [settings.market.limit_fen(pool) for pool in (PoolName.NB_SH, PoolName.SB_SZ)] == [500, 600]
    assert settings.market.calendar.closed == (date(2026, 11, 25),)
    assert settings.market.calendar.open == (date(2027, 1, 4), date(2027, 1, 5))
    assert settings.alerts.levels == (80, 95)
    assert settings.mqtt.root == "connect"


@pytest.mark.parametrize(
    ("name", "text", "mistake"),
    [
        ("QUOTA_REDIS__ULR", "x", "redis.ulr: unknown key"),
        ("QUOTA_REDDIS__URL", "x", "QUOTA_REDDIS__URL: unknown key"),
        ("QUOTA_MARKET__POOLS", "NB-SH,NB-BJ", f"market.pools[1]: {MANY}"),
        ("QUOTA_MARKET__POOLS", "", "market.pools: must name at least one pool"),
        ("QUOTA_MARKET__CALENDAR", "x", "market.calendar: must be a table"),
        ("QUOTA_MARKET__LIMITS_YUAN__NB_BJ", "1", f"market.limits_yuan.NB-BJ: {MANY}"),
        ("QUOTA_ALERTS__LEVELS", "50,x", "alerts.levels[1]: must be a whole number"),
        ("QUOTA_MQTT__URL", "mqtt://me:pw@broker", f"mqtt.url: {NO_USER}"),
    ],
)
def test_a_mistake_in_the_environment_is_named(name: str, text: str, mistake: str) -> None:
    assert mistakes(None, RATE | {name: text}) == [mistake]


def test_variables_without_a_section_belong_to_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOTA_MQTT__ROOT", "from-the-process")
    assert load(None, RATE | {"QUOTA_CONFIG": "/etc/quotad.toml", "QUOTA": "", "HOME": "/"}) == load(
        None, RATE
    )
    assert load(None, RATE).mqtt.root == "connect"


def test_a_secret_comes_from_the_environment() -> None:
    settings = load(None, RATE | {"QUOTA_REDIS__PASSWORD": PASSWORD, "QUOTA_REDIS__USERNAME": "quotad"})
    assert settings.redis.password is not None
    assert settings.redis.password.get_secret_value() == PASSWORD
    assert settings.redis.username == "quotad"


def test_an_empty_secret_is_none() -> None:
    assert load(None, RATE | {"QUOTA_REDIS__PASSWORD": ""}).redis.password is None


def test_a_secret_comes_from_its_own_file_and_the_environment_wins(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("from the file\n", "utf-8")
    path = written(tmp_path, f"[mqtt]\npassword_file = '{secret}'")
    from_file, from_environ = (
        load(path, RATE | more).mqtt.password for more in ({}, {"QUOTA_MQTT__PASSWORD": PASSWORD})
    )
    assert from_file is not None
    assert from_environ is not None
    assert (from_file.get_secret_value(), from_environ.get_secret_value()) == ("from the file", PASSWORD)


@pytest.mark.parametrize(
    ("content", "rule"), [(b"\n", "names an empty file"), (b"\xff", "cannot be read (it is not UTF-8)")]
)
def test_a_secret_file_has_to_hold_one(tmp_path: Path, content: bytes, rule: str) -> None:
    secret = tmp_path / "password"
    secret.write_bytes(content)
    assert mistakes(None, RATE | {"QUOTA_REDIS__PASSWORD_FILE": str(secret)}) == [
        f"redis.password_file: {rule}"
    ]


def test_no_secret_shows_in_a_record_or_a_mistake(tmp_path: Path) -> None:
    environ = RATE | {"QUOTA_REDIS__PASSWORD": PASSWORD, "QUOTA_MQTT__PASSWORD": PASSWORD}
    settings = load(None, environ)
    assert PASSWORD not in repr(settings) + str(settings) + settings.model_dump_json()
    path = written(tmp_path, f"[redis]\npassword = '{PASSWORD}'\n[mqtt]\nurl = 'mqtt://u:{PASSWORD}@h'")
    assert PASSWORD not in "".join(mistakes(path, environ | {"QUOTA_REDIS__ULR": PASSWORD}))


def test_tls_is_in_the_url_and_its_files_need_it(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.touch()
    files = f"ca_file = '{pem}'\ncert_file = '{pem}'\nkey_file = '{pem}'"
    both = f"[redis]\nurl = 'rediss://store'\n{files}\n[mqtt]\nurl = 'mqtts://broker'\n{files}"
    settings = load(written(tmp_path, both), RATE)
    assert (settings.redis.tls, settings.mqtt.tls, settings.mqtt.port) == (True, True, 8883)
    assert (settings.redis.ca_file, settings.mqtt.key_file) == (pem, pem)
    assert mistakes(written(tmp_path, f"[mqtt]\n{files}"), RATE) == [
        "mqtt.ca_file: needs a mqtts:// URL",
        "mqtt.cert_file: needs a mqtts:// URL",
        "mqtt.key_file: needs a mqtts:// URL",
    ]


@pytest.mark.parametrize("alone", ["cert_file", "key_file"])
def test_a_certificate_and_its_key_go_together(tmp_path: Path, alone: str) -> None:
    pem = tmp_path / "client.pem"
    pem.touch()
    path = written(tmp_path, f"[mqtt]\nurl = 'mqtts://broker'\n{alone} = '{pem}'")
    assert mistakes(path, RATE) == ["mqtt.key_file: cert_file and key_file go together"]


@pytest.mark.parametrize(
    ("environ", "host", "port"),
    [
        ({"QUOTA_MQTT__URL": "mqtt://broker"}, "broker", 1883),
        ({"QUOTA_MQTT__URL": "mqtts://broker"}, "broker", 8883),
        ({"QUOTA_MQTT__URL": "mqtt://[::1]:1884"}, "::1", 1884),
    ],
)
def test_the_broker_is_a_host_and_a_port(environ: dict[str, str], host: str, port: int) -> None:
    mqtt = load(None, RATE | environ).mqtt
    assert (mqtt.host, mqtt.port) == (host, port)


@pytest.mark.parametrize(
    ("listen", "host", "port"), [("127.0.0.1:9464", "127.0.0.1", 9464), ("[::]:0", "::", 0)]
)
def test_the_http_side_binds_a_host_and_a_port(listen: str, host: str, port: int) -> None:
    http = load(None, RATE | {"QUOTA_HTTP__LISTEN": listen, "QUOTA_HTTP__TOKEN": "t" * 16}).http
    assert (http.host, http.port) == (host, port)


def test_a_rate_has_five_decimals_however_it_was_written() -> None:
    assert load(None, {"QUOTA_MARKET__HKD_CNY": "0.9"}).market.hkd_cny == "0.90000"


def test_settings_are_frozen() -> None:
    settings = load(None, RATE)
    assert isinstance(settings, Settings)
    with pytest.raises(ValidationError):
        settings.redis.url = "redis://elsewhere"
    with pytest.raises(ValidationError):
        settings.market = settings.market
