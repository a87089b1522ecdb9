// The chart of one pool's day: the balance in per cent of the limit, drawn by hand.

import { html, svg } from "./dom.js";
import { hour, percent } from "./format.js";

const MARGIN = { left: 42, right: 12, top: 18, bottom: 20 };
const HEIGHT = 150;
const STOPPED = new Set(["suspended", "exhausted", "halted"]);
const SHADED = new Set(["opening", "break", "closing"]);

/** @typedef {{atMs: number, share: number}} Mark a moment and the balance as a share of the limit */

/** Where things are: moments and shares to pixels. */
function scales(day, marks, width) {
  const from = day.phases[0][0];
  const to = day.phases.at(-1)[0];
  const shares = marks.map((mark) => mark.share);
  const low = Math.min(0, ...shares);
  const high = Math.max(1, ...shares);
  const pad = (high - low) * 0.05;
  const tall = HEIGHT - MARGIN.top - MARGIN.bottom;
  const wide = width - MARGIN.left - MARGIN.right;
  const clipped = (ms) => Math.min(Math.max(ms, from), to);
  return {
    from, to, width,
    x: (ms) => MARGIN.left + ((clipped(ms) - from) / (to - from)) * wide,
    y: (share) => MARGIN.top + ((high + pad - share) / (high - low + 2 * pad)) * tall,
    bottom: HEIGHT - MARGIN.bottom,
    ms: (x) => from + ((x - MARGIN.left) / wide) * (to - from),
  };
}

const line = (at, marks, step = false) =>
  marks.map((mark, index) => {
    const [x, y] = [at.x(mark.atMs).toFixed(1), at.y(mark.share).toFixed(1)];
    return index === 0 ? `M${x} ${y}` : step ? `H${x}V${y}` : `L${x} ${y}`;
  }).join("");

/** The share at a moment of a line, for labels that keep away from it. */
const shareAt = (marks, ms) => marks.findLast((each) => each.atMs <= ms)?.share ?? marks[0]?.share ?? 0.5;

/** The phases in which the market is not in its usual trading, as bands with their names. */
function phases(at, day, marks) {
  return day.phases.flatMap(([ms, phase], index) => {
    const ends = day.phases[index + 1]?.[0];
    if (!SHADED.has(phase) || ends === undefined) return [];
    const [x, width] = [at.x(ms), at.x(ends) - at.x(ms)];
    const band = svg("rect", { class: `phase phase-${phase}`, x, width, y: MARGIN.top, height: at.bottom - MARGIN.top });
    const name = svg("text", { class: "phase-name", x: x + width / 2, y: at.y(shareAt(marks, (ms + ends) / 2) > 0.5 ? 0.2 : 0.75) + 4 }, phase);
    return width > 42 ? [band, name] : [band];
  });
}

/** The spans in which buys were stopped, with their names and their beginnings. */
function stops(at, day, nowMs) {
  let free = 0;
  return day.spans.flatMap(([ms, status], index) => {
    const ends = Math.min(day.spans[index + 1]?.[0] ?? nowMs, at.to);
    if (!STOPPED.has(status) || ms > at.to || ends < at.from) return [];
    const [x, width] = [at.x(ms), Math.max(2, at.x(ends) - at.x(ms))];
    const text = `${status} ${hour(ms)}`;
    const left = Math.max(free, Math.min(x, at.width - MARGIN.right - text.length * 6));
    free = left + text.length * 6 + 6;
    return [
      svg("rect", { class: "stop", "data-status": status, x, width, y: MARGIN.top, height: at.bottom - MARGIN.top }),
      svg("rect", { class: "stop-edge", "data-status": status, x, width, y: MARGIN.top - 3, height: 3 }),
      svg("text", { class: "stop-name", "data-status": status, x: left, y: MARGIN.top - 6 }, text),
    ];
  });
}

/** The place along a level, above or below it, where a note of some width is farthest from the lines. */
function roomiest(at, share, width, lines) {
  const rights = [0.99, 0.56, 0.36, 0.16].map((part) => Math.max(MARGIN.left + width + 4, part * (at.width - MARGIN.right)));
  const places = rights.flatMap((right) => [{ right, lift: 0.05, down: -4 }, { right, lift: -0.07, down: 11 }]);
  const room = ({ right, lift }) => {
    const [from, to] = [at.ms(right - width), at.ms(right)];
    const near = lines.flatMap((marks) => [...marks.filter((mark) => mark.atMs > from && mark.atMs < to).map((mark) => mark.share),
      ...(marks.length && marks.at(-1).atMs > from ? [shareAt(marks, from)] : [])]);
    const last = lines[0].at(-1);
    if (last && at.x(last.atMs) + 50 > right - width && at.x(last.atMs) < right) near.push(last.share);
    return Math.min(0.5, ...near.map((other) => Math.abs(other - share - lift)));
  };
  return places.reduce((best, place) => (room(place) > room(best) ? place : best));
}

/** Lines at the alert levels and at the share below which the exchanges publish. */
function levels(at, day, used, lines) {
  const shares = new Set([1, 0, day.published_below, ...used.map((level) => (100 - level) / 100)]);
  let last = -Infinity;
  return [...shares].sort((one, other) => other - one).flatMap((share) => {
    const y = at.y(share);
    const kind = share === 0 ? "zero" : share === 1 ? "full" : share === day.published_below ? "published" : "level";
    const rule = svg("line", { class: `rule rule-${kind}`, x1: MARGIN.left, x2: at.width - MARGIN.right, y1: y, y2: y });
    const fits = y - last >= 11 || share === 0;
    if (fits) last = y;
    const label = fits ? svg("text", { class: "axis axis-y", x: MARGIN.left - 6, y: y + 3.5 }, `${Math.round(share * 100)} %`) : null;
    const place = kind === "published" ? roomiest(at, share, 152, lines) : null;
    const note = place ? svg("text", { class: "note", x: place.right, y: y + place.down }, "exchanges publish below 30 %") : null;
    return [rule, label, note].filter(Boolean);
  });
}

/** The times at which the phases begin, as far as there is room for them. */
function times(at, day) {
  let last = -Infinity;
  const ends = at.x(at.to);
  return day.phases.flatMap(([ms], index) => {
    const x = at.x(ms);
    const final = index === day.phases.length - 1;
    if (!final && (x - last < 40 || ends - x < 40)) return [];
    last = x;
    const anchor = final ? "end" : index === 0 ? "start" : "middle";
    return [svg("text", { class: "axis", x, y: HEIGHT - 5, "text-anchor": anchor }, hour(ms))];
  });
}

/** The balance itself: a line, its area, and what of it is below zero. */
function balance(at, marks, name) {
  if (!marks.length) return [];
  const [first, last, zero] = [marks[0], marks.at(-1), at.y(0)];
  const path = line(at, marks, true);
  const area = `${path}V${zero}H${at.x(first.atMs)}Z`;
  const below = `below-${name}`;
  return [
    svg("clipPath", { id: below }, svg("rect", { x: 0, y: zero, width: at.width, height: HEIGHT - zero })),
    svg("path", { class: "area", d: area }),
    svg("path", { class: "area area-below", d: area, "clip-path": `url(#${below})` }),
    svg("path", { class: "balance-line", d: path }),
    svg("circle", { class: "balance-dot", cx: at.x(last.atMs), cy: at.y(last.share), r: 3.5 }),
  ];
}

/** The way to zero: even over the time that trades, level in the break. */
function wayDown(day, last, etaMs) {
  if (!last || etaMs === null || etaMs <= last.atMs) return [];
  const turns = day.phases.map(([ms]) => ms).filter((ms) => ms > last.atMs && ms < etaMs);
  const moments = [last.atMs, ...turns, etaMs];
  const phaseAt = (ms) => day.phases.findLast(([from]) => from <= ms)?.[1] ?? "closed";
  const lengths = moments.slice(1).map((ms, index) => (["break", "closed"].includes(phaseAt(moments[index])) ? 0 : ms - moments[index]));
  const whole = lengths.reduce((sum, length) => sum + length, 0) || 1;
  let passed = 0;
  return moments.map((atMs, index) => {
    passed += index ? lengths[index - 1] : 0;
    return { atMs, share: last.share * (1 - passed / whole) };
  });
}

/** Where the balance is expected to reach zero. */
function ahead(at, way) {
  if (!way.length) return [];
  const etaMs = way.at(-1).atMs;
  const [x, zero] = [at.x(etaMs), at.y(0)];
  return [
    svg("path", { class: "ahead", d: line(at, way) }),
    svg("path", { class: "ahead-end", d: `M${x} ${zero - 5}l5 5l-5 5l-5-5z` }),
    svg("text", { class: "ahead-name", x: x - 8, y: zero - 6, "text-anchor": x > at.width - 70 ? "end" : "start" }, hour(etaMs)),
  ];
}

function reading(at, marks) {
  const last = marks.at(-1);
  if (!last) return [];
  const [x, y] = [at.x(last.atMs), at.y(last.share)];
  const right = x > at.width - 64;
  return [svg("text", { class: "reading", x: right ? x - 8 : x + 8, y: Math.max(MARGIN.top + 10, y - 7), "text-anchor": right ? "end" : "start" }, percent(last.share))];
}

/** What the chart shows, in a sentence, for those who do not see it. */
function description(day, marks) {
  const from = `${hour(day.phases[0][0])} to ${hour(day.phases.at(-1)[0])}`;
  if (!marks.length) return `Chart of the balance from ${from}: nothing is known yet.`;
  const lowest = marks.reduce((best, mark) => (mark.share < best.share ? mark : best));
  const stopped = day.spans.filter(([, status]) => STOPPED.has(status)).map(([ms, status]) => `${status} from ${hour(ms)}`);
  return `Chart of the balance from ${from}: now ${percent(marks.at(-1).share)} of the limit, ` +
    `lowest ${percent(lowest.share)} at ${hour(lowest.atMs)}${stopped.length ? `; ${stopped.join(", ")}` : ""}. ` +
    "The table below has the figures.";
}

/**
 * Draws a pool's day into a figure.
 * @param {HTMLElement} figure
 * @param {{day: any, marks: Mark[], levels: number[], etaMs: number | null, nowMs: number, empty: string}} drawn what to draw, and what to say where there is nothing
 */
export function draw(figure, { day, marks, levels: used, etaMs, nowMs, empty }) {
  const width = Math.max(240, figure.clientWidth);
  if (!day.phases.length) {
    figure.replaceChildren(html("p", { class: "empty" }, empty));
    return;
  }
  const usual = day.usual_ms.map((atMs, index) => ({ atMs, share: 1 - day.usual_share[index] }));
  const way = wayDown(day, marks.at(-1), etaMs);
  const at = scales(day, [...marks, ...usual], width);
  const art = svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": description(day, marks) },
    ...phases(at, day, marks), ...stops(at, day, nowMs), ...levels(at, day, used, [marks, usual, way]), ...times(at, day),
    usual.length ? svg("path", { class: "usual", d: line(at, usual) }) : null,
    nowMs > at.from && nowMs < at.to ? svg("line", { class: "now-line", x1: at.x(nowMs), x2: at.x(nowMs), y1: MARGIN.top, y2: at.bottom }) : null,
    ...balance(at, marks, day.pool), ...ahead(at, way), ...reading(at, marks));
  figure.replaceChildren(art);
  figure.at = at;
}
