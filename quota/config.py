"""The settings: one frozen record per section, read from a TOML file and the environment.

``QUOTA_SECTION__KEY`` in the environment wins over the file; a list is ``a,b`` there, and a pool is
``NB_SH`` in a name (``QUOTA_MARKET__LIMITS_YUAN__NB_SH``). ``load`` names every mistake at once:
key, colon, rule, in words of ours. No message carries a secret.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from quota.decision import Admission, PoolName
from quota.endpoints import Http, Mqtt, Redis
from quota.errors import ConfigError
from quota.money import rate_e5, rate_text, yuan_to_fen
from quota.rulebook import ASSUMED
from quota.section import Section, Whole, between

_PREFIX, _DELIMITER = "QUOTA_", "__"
_SECRETS = {"redis": "password", "mqtt": "password", "http": "token"}
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_RULES = {
    "extra_forbidden": "unknown key",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text in quotes",
    "path_type": "must be text in quotes",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "date_from_datetime_parsing": "must be a date like 2026-11-25",
}


def _listed(value: object) -> object:
    """Take a list as it stands in the environment: items with commas between them."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _iso_date(value: object) -> object:
    """Take a TOML date or its text; pydantic alone would take numbers, weeks and moments too."""
    if isinstance(value, str) and _ISO_DATE.fullmatch(value):
        return value
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError(_RULES["date_from_datetime_parsing"])


def _rate(text: str) -> str:
    try:
        return rate_text(rate_e5(text))
    except ValueError as error:
        raise ValueError(str(error).removeprefix("rate: ")) from None


def _yuan(text: str) -> str:
    yuan_to_fen(text)
    return text


def _levels(levels: tuple[int, ...]) -> tuple[int, ...]:
    ascending = all(low < high for low, high in pairwise((0, *levels, 101)))
    if not levels or not ascending:
        raise ValueError("must be whole numbers from 1 to 100, each above the one before, and at least one")
    return levels


def _folder(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be a path from the root, like /var/lib/quotad/capture")
    return path


def _pools(pools: tuple[PoolName, ...]) -> tuple[PoolName, ...]:
    if not pools:
        raise ValueError("must name at least one pool")
    if len(set(pools)) < len(pools):
        raise ValueError("must not name a pool twice")
    return pools


_Dates = Annotated[
    tuple[Annotated[date, BeforeValidator(_iso_date)], ...], BeforeValidator(_listed), NoDecode
]
_Pools = Annotated[tuple[PoolName, ...], BeforeValidator(_listed), AfterValidator(_pools), NoDecode]
_Levels = Annotated[tuple[Whole, ...], BeforeValidator(_listed), AfterValidator(_levels), NoDecode]
_Yuan = Annotated[str, AfterValidator(_yuan)]


class Days(Section):
    """Days that the built-in table does not know: for all pools, half days for Hong Kong."""

    closed: _Dates = ()
    open: _Dates = ()
    half_days: _Dates = ()

    @field_validator("open")
    @classmethod
    def _is_not_closed(cls, days: tuple[date, ...], info: ValidationInfo) -> tuple[date, ...]:
        if both := sorted(set(days) & set(info.data.get("closed", ()))):
            raise ValueError(f"{both[0]} is in closed too")
        return days


class Market(Section):
    """The pools that this daemon serves, and the rules that the operator chooses.

    ``hkd_cny`` is RMB for one HKD with five decimals. ``limits_yuan`` replaces the rulebook's
    quota: a broker's own share, or a test.
    """

    pools: _Pools = tuple(PoolName)
    admission: Admission = Admission.POSITIVE_BALANCE
    open_late: Literal["halt", "open"] = "halt"
    southbound_opening_resumes: bool = ASSUMED.southbound_opening_resumes
    hkd_cny: Annotated[str, AfterValidator(_rate)] | None = Field(default=None, validate_default=True)
    keep_days: Annotated[Whole, between(0, 30)] = 1
    limits_yuan: Annotated[dict[PoolName, _Yuan], NoDecode] = Field(default_factory=dict)
    calendar: Annotated[Days, NoDecode] = Days()

    @field_validator("hkd_cny")
    @classmethod
    def _is_known_southbound(cls, rate: str | None, info: ValidationInfo) -> str | None:
        south = [pool for pool in info.data.get("pools", ()) if not pool.northbound]
        if rate is None and south:
            raise ValueError(f"required where a southbound pool is served ({', '.join(south)})")
        return rate

    def limit_fen(self, pool: PoolName) -> int | None:
        """The operator's limit for a day of this pool, in fen; None leaves it to the rulebook."""
        text = self.limits_yuan.get(pool)
        return None if text is None else yuan_to_fen(text)


class Alerts(Section):
    """Percentages of used quota at which an alert goes out."""

    levels: _Levels = (50, 70, 90, 100)


class Capture(Section):
    """The record of the day: the folder of its files, how many earlier days stay, how large a file grows.

    Without a folder there is no record.
    """

    folder: Annotated[Path, AfterValidator(_folder)] | None = None
    keep_days: Annotated[Whole, between(1, 3650)] = 7
    rotate_mib: Annotated[Whole, between(1, 65_536)] = 256


class Recovery(Section):
    """What becomes of a day that was rebuilt because the store had lost entries of it.

    ``auto``: it takes buys again once it verifies; ``operator``: once an operator resumes it.
    """

    resume: Literal["auto", "operator"] = "operator"


class Settings(BaseSettings):
    """All settings. Built by ``load`` alone, which hands over file and environment."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_prefix=_PREFIX,
        env_nested_delimiter=_DELIMITER,
    )

    redis: Redis = Redis()
    mqtt: Mqtt = Mqtt()
    http: Http = Http()
    market: Market
    alerts: Alerts = Alerts()
    capture: Capture = Capture()
    recovery: Recovery = Recovery()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings passes all five
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing behind the caller's back: what is not given is the default."""
        return (init_settings,)


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings from a TOML file, if there is one, and the environment.

    Raises ConfigError, whose text has a line for every mistake: the key, then the rule.
    """
    table = {} if path is None else _read(path)
    mistakes = _secrets_in(table) + _unknown_in(table, environ)
    merged = _merged({"market": {}}, _merged(table, _overrides(environ)))
    known = {name: merged[name] for name in Settings.model_fields if name in merged}
    try:
        settings = Settings(**known)
    except ValidationError as error:
        mistakes += map(_sentence, error.errors(include_url=False, include_input=False))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None


def _secrets_in(table: dict[str, Any]) -> list[str]:
    """Take secrets out of what the file says, and say so."""
    return [
        f"{name}.{key}: must not stand in the file: use {key}_file or {_PREFIX}{name.upper()}__{key.upper()}"
        for name, key in _SECRETS.items()
        if isinstance(table.get(name), dict) and table[name].pop(key, None) is not None
    ]


def _settings_of(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are settings; others with our prefix belong to somebody else."""
    return {name: text for name, text in environ.items() if name.startswith(_PREFIX) and _DELIMITER in name}


def _unknown_in(table: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Name the unknown sections. Settings itself would take ``_env_file`` and its kin for options."""
    sections = {name: name for name in table} | {
        name: name.split(_DELIMITER)[0].removeprefix(_PREFIX).lower() for name in _settings_of(environ)
    }
    return [f"{name}: unknown key" for name, own in sections.items() if own not in Settings.model_fields]


def _overrides(environ: Mapping[str, str]) -> dict[str, Any]:
    """Read the environment as a table. A variable's name has no ``-``, so a pool is NB_SH there."""
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): text for name, text in _settings_of(environ).items()}
    table = source()
    limits = table.get("market", {}).get("limits_yuan")
    if isinstance(limits, dict):
        table["market"]["limits_yuan"] = {key.upper().replace("_", "-"): limits[key] for key in limits}
    return table


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay one table over another, table by table."""
    both = [key for key in above if isinstance(below.get(key), dict) and isinstance(above[key], dict)]
    return below | above | {key: _merged(below[key], above[key]) for key in both}


def _sentence(error: ErrorDetails) -> str:
    """Say a mistake that pydantic found: the key's path, then the rule in our words."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"] if part != "[key]"]
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        rule = str(context["error"])
    elif kind in ("enum", "literal_error"):
        rule = "must be one of " + str(context["expected"]).replace("'", "").replace(" or ", ", ")
    else:
        rule = _RULES.get(kind, f"is not valid ({kind})")
    return f"{''.join(parts).lstrip('.')}: {rule}"
