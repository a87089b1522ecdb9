// One pool: its words, its figures and its tables. The chart is drawn in chart.js.

import { html, mark, say, show } from "./dom.js";
import { DASH, brief, chinese, count, english, hour, percent, plain, yuan } from "./format.js";

const PHASES = { opening: "opening", continuous: "trading", break: "break", closing: "closing auction", closed: "closed" };
const VERDICTS = ["accepted", "exhausted", "suspended", "closed", "halted", "insufficient", "id_reused"];

/** What the mark beside the status looks like: its shape says the same as its word. */
function shape(view) {
  if (view.status === "open") return view.tone === "watch" ? "watch" : view.phase === "break" ? "closed" : "open";
  return view.status;
}

const perMinute = (yuanPerSecond) => (yuanPerSecond === null ? null : yuanPerSecond * 6000);

/** What stands below a dash where there is no balance. */
const NOTHING = { now: "no trading day is open", once: "no trading day was open", never: "not known" };

export class Card {
  constructor(view) {
    const template = document.getElementById("pool");
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.id = view.pool;
    this.element.tabIndex = -1; // so that a link to it takes the keyboard along
    this.part = (name) => this.element.querySelector(`.${name}`);
    this.figure = this.part("chart");
    this.element.querySelector("h2").id = `${view.pool}-title`;
    this.element.setAttribute("aria-labelledby", `${view.pool}-title`);
    say(this.part("code"), view.pool);
    say(this.part("english"), view.english);
    say(this.part("chinese"), view.chinese);
    say(this.element.querySelector("summary"), `All figures of ${view.pool}`);
  }

  update(view) {
    mark(this.element, "tone", view.tone);
    mark(this.element, "status", view.status);
    say(this.part("word"), view.word);
    this.element.querySelector("use").setAttribute("href", `#mark-${shape(view)}`);
    for (const name of ["now", "why", "until"]) {
      const text = name === "now" ? view.meaning : view[name];
      say(this.part(name), text);
      show(this.part(name).parentElement, text !== "");
    }
    this.updateFigures(view);
  }

  updateFigures(view) {
    const { figures, expected } = view;
    const limit = figures?.limit_fen ?? 0;
    const [big, small] = figures
      ? [chinese(figures.balance_fen, limit), english(figures.balance_fen, limit)] : [DASH, ""];
    this.amount("balance", big, small);
    say(this.part("left"), figures ? `${percent(1 - figures.used_ratio)} left of ${plain(figures.limit_fen)}` : NOTHING[view.known]);
    say(this.part("outlook"), view.outlook || DASH);
    mark(this.part("outlook"), "tone", expected.eta_ms !== null ? "watch" : view.outlook.startsWith("Used up") ? "trouble" : "ok");
    say(this.part("eta"), expected.eta);
    const follows = view.next_ms === null ? "" : ` until ${hour(view.next_ms)}, then ${PHASES[view.next_phase]}`;
    const phase = PHASES[view.phase];
    const said = view.half_day || follows || view.word.toLowerCase() !== phase;
    say(this.part("phase-note"), said && figures && view.known === "now" ? `${phase[0].toUpperCase()}${phase.slice(1)}${follows}${view.half_day ? "; half day" : ""}` : "");
    const [fast, slow] = [perMinute(expected.net_use_1m), perMinute(expected.net_use_10m)];
    say(this.part("rate"), fast === null ? DASH : `${brief(fast, "chinese")} = ${brief(fast, "english")}`);
    say(this.part("rate-slow"), slow === null ? "" : `10-min average: ${brief(slow, "chinese")}`);
    say(this.part("pace"), expected.pace_told || DASH);
    say(this.part("pace-note"), expected.pace === null ? "" : "of the limit by the close");
    mark(this.part("pace"), "tone", expected.pace !== null && Math.round(expected.pace * 100) > 100 ? "watch" : "ok");
  }

  /** A balance with its number apart from its unit, and the same in the other unit. */
  amount(name, big, small) {
    const element = this.part(name);
    if (element.told === big + small) return;
    element.told = big + small;
    const [number, ...unit] = big.split(" ");
    element.replaceChildren(html("b", {}, number), " ", html("span", { lang: "zh-Hans" }, unit.join(" ")),
      html("span", { class: "other" }, small ? ` ${small}` : ""));
  }

  /** The tables behind "All figures": only while they are open. */
  updateTables(view, marks) {
    const details = this.element.querySelector("details");
    if (!details.open) return;
    const text = JSON.stringify([view.figures, view.last_event_ms, marks.length]);
    if (details.told === text) return;
    details.told = text;
    const tables = view.figures ? [terms(view), decisions(view), course(view, marks)] : [html("p", {}, view.known === "never" ? "Nothing is known yet." : "No trading day is open.")];
    details.querySelector(".tables").replaceChildren(...tables);
  }
}

const row = (name, ...cells) => html("tr", {}, html("th", { scope: "row" }, name), ...cells.map((cell) => html("td", {}, cell)));

function table(caption, head, rows) {
  return html("table", {}, html("caption", {}, caption),
    head.length ? html("thead", {}, html("tr", {}, ...head.map((name) => html("th", { scope: "col" }, name)))) : null,
    html("tbody", {}, ...rows));
}

/** The four terms of the balance, exactly. */
function terms({ figures, last_event_ms: lastMs }) {
  const market = figures.market_limit_fen;
  const other = market !== null && market !== figures.limit_fen;
  return table("The balance in RMB", [], [
    row("Limit", yuan(figures.limit_fen)),
    row("− open buys", yuan(figures.open_buy_fen)),
    row("− filled buys", yuan(figures.filled_buy_fen)),
    row("+ filled sells", yuan(figures.filled_sell_fen)),
    row("= balance", yuan(figures.balance_fen)),
    row("Used", percent(figures.used_ratio, 2)),
    row("Level reached", figures.level ? `${figures.level} %` : "none"),
    row("Levels", figures.levels.map((level) => `${level} %`).join(", ")),
    row("The exchange's daily quota", market === null ? DASH : other ? `${plain(market)}; this limit was set apart from it` : "the same as the limit"),
    row("RMB for one HKD", figures.rate === "1.00000" ? "not needed" : figures.rate),
    row("Trading day", figures.trading_day),
    row("Last entry", `no. ${count(figures.seq)}, ${lastMs === null ? DASH : hour(lastMs)}`),
  ]);
}

/** What was decided today, by verdict. */
function decisions({ figures }) {
  const of = (side, verdict) => figures.decided.find((each) => each.side === side && each.verdict === verdict)?.count ?? 0;
  const rows = VERDICTS.map((verdict) => row(verdict.replace("_", " "), count(of("buy", verdict)), count(of("sell", verdict))));
  const wrong = Object.entries(figures.violated).map(([kind, times]) => row(kind.replaceAll("_", " "), count(times), ""));
  return table("New orders today", ["verdict", "buys", "sells"], [...rows, ...wrong]);
}

/** The chart as a table: the balance at every half hour that has passed, and now. */
function course({ figures }, marks) {
  const rows = [];
  let due = -Infinity;
  for (const each of marks) {
    if (each.atMs < due && each !== marks.at(-1)) continue;
    due = (Math.floor(each.atMs / 1_800_000) + 1) * 1_800_000;
    rows.push(row(hour(each.atMs), percent(each.share), chinese(each.share * figures.limit_fen, figures.limit_fen)));
  }
  return table("The day so far", ["time", "of the limit", "balance"], rows);
}
