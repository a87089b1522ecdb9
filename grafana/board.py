"""A dashboard around its panels: variables, links, annotations, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard, text
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    GridPos,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.text import TextMode

from grafana.panels import STATUS_COLOURS, Panel
from grafana.queries import began, resumed

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

_KEPT = "${datasource:queryparam}&${job:queryparam}"
_TITLES = {"overview": "Overview", "pool": "Pool", "daemon": "Daemon"}
_WHOSE = """**Whose balance this is.** The exchange's balance counts the orders of every participant.
quotad's is that of the events it is fed: the exchange's own if that is the whole market, a
participant's usage of its own limit if that is one participant. If the exchange refuses a buy for
quota while a pool shows room here, halt the pool: `quotad halt POOL --reason TEXT`."""


@dataclass(frozen=True, slots=True)
class Board:
    """What one dashboard is made of. ``panels`` have their places: x, y, width and height."""

    name: str
    description: str
    variables: Sequence[dashboard.QueryVariable]
    panels: Sequence[tuple[Panel, tuple[int, int, int, int]]]
    annotations: Sequence[dict[str, Any]] = ()

    def json(self) -> str:
        """Write the dashboard as the JSON that Grafana loads."""
        built = self._frame()
        for link in _links(self.name):
            built.link(link)
        for variable in self.variables:
            built.with_variable(variable)
        for number, (panel, (x, y, width, height)) in enumerate(self.panels, start=1):
            placed = panel.id(number).grid_pos(GridPos(x=x, y=y, w=width, h=height))
            if not isinstance(placed, text.Panel):
                placed.datasource(SOURCE)
            built.with_panel(placed)
        plain = json.loads(json.dumps(built.build(), cls=JSONEncoder))
        # The library's record of an annotation knows no step, no text and no time of its own.
        plain["annotations"] = {"list": list(self.annotations)}
        return json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def _frame(self) -> dashboard.Dashboard:
        source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        return (
            dashboard.Dashboard(f"quotad: {_TITLES[self.name]}")
            .uid(f"quotad-{self.name}")
            .description(self.description)
            .tags(["quotad", "stock-connect"])
            .timezone("Asia/Shanghai")
            .week_start("monday")
            .time("now-8h", "now")
            .refresh("5s")
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .readonly()
            .with_variable(source)
        )


def _links(name: str) -> Iterable[dashboard.DashboardLink]:
    """Link to the other dashboards. Variables are named, because a pool there is one, and here may be all."""
    for other, title in _TITLES.items():
        if other != name:
            link = dashboard.DashboardLink(title).type(DashboardLinkType.LINK).icon("dashboard")
            yield link.url(f"/d/quotad-{other}?{_KEPT}").keep_time(keep_time=True)


def to_pool(pool: str) -> dashboard.DashboardLink:
    """Link a value to the dashboard of its pool."""
    link = dashboard.DashboardLink("Show this pool")
    return link.url(f"/d/quotad-pool?{_KEPT}&var-pool={pool}&${{__url_time_range}}")


# Variables.


def _asked(name: str, query: str, description: str) -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable(name).label(name.capitalize()).description(description)
    variable = variable.datasource(SOURCE).query(query).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.sort(VariableSort.ALPHABETICAL_ASC)


def _several(variable: dashboard.QueryVariable) -> dashboard.QueryVariable:
    every = VariableOption(text="All", value="$__all", selected=True)
    return variable.multi(multi=True).include_all(include_all=True).all_value(".+").current(every)


def one_job() -> dashboard.QueryVariable:
    """Choose the job. One: two jobs are two markets, and the larger figure would hide the smaller."""
    text = "The Prometheus job whose daemons watch one and the same set of pools."
    return _asked("job", "label_values(quota_build_info, job)", text)


def jobs() -> dashboard.QueryVariable:
    """Choose jobs."""
    return _several(
        _asked("job", "label_values(quota_build_info, job)", "The Prometheus jobs of the daemons.")
    )


def instances() -> dashboard.QueryVariable:
    """Choose daemons."""
    query = 'label_values(quota_build_info{job=~"$job"}, instance)'
    return _several(_asked("instance", query, "The daemons, by the address at which they are scraped."))


def one_pool() -> dashboard.QueryVariable:
    """Choose one pool."""
    query = 'label_values(quota_limit_yuan{job=~"$job"}, pool)'
    return _asked("pool", query, "The pool: NB northbound, SB southbound; SH Shanghai, SZ Shenzhen.")


def pools() -> dashboard.QueryVariable:
    """Choose pools."""
    return _several(one_pool())


# Annotations.


def _annotation(name: str, expr: str, colour: str) -> dict[str, Any]:
    """Mark moments: the query's values are the moments, in milliseconds."""
    return {
        "name": name,
        "datasource": {"type": SOURCE.type_val, "uid": SOURCE.uid},
        "enable": True,
        "iconColor": colour,
        "expr": expr,
        "step": "5s",
        "tagKeys": "pool",
        "titleFormat": f"{{{{pool}}}} {name.lower()}",
        "textFormat": "",
        "useValueForTime": True,
    }


def changes() -> list[dict[str, Any]]:
    """Mark when a pool came into the statuses that the desk has to know of, and out of them."""
    statuses = ("suspended", "exhausted", "halted")
    marks = [_annotation(status.capitalize(), began(status), STATUS_COLOURS[status]) for status in statuses]
    return [*marks, _annotation("Resumed", resumed(), STATUS_COLOURS["open"])]


def whose() -> text.Panel:
    """Say whose balance the figures are."""
    panel = text.Panel().title("About these figures").description("What the balance counts, and what not.")
    return panel.mode(TextMode.MARKDOWN).content(_WHOSE)
