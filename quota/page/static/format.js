// Figures and moments as text. Unknown (null) is a dash, never zero.

export const DASH = "–";
const ZONE_MS = 8 * 3_600_000;
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Units of money, the largest first: fen in one, name, decimals. */
const CHINESE = [[1e10, "亿", 2], [1e6, "万", 2], [100, "元", 0]];
const ENGLISH = [[1e11, "bn RMB", 3], [1e8, "m RMB", 2], [100, "RMB", 0]];

const minus = (text) => text.replace("-", "−");

function number(value, decimals) {
  const text = value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  return minus(Number(text.replaceAll(",", "")) === 0 ? text.replace("-", "") : text);
}

/** The largest unit in which the scale is one or more; amounts of one pool then share it. */
function unit(units, scaleFen) {
  const index = units.findIndex(([fen]) => Math.abs(scaleFen) >= fen);
  return units[index < 0 ? units.length - 1 : index];
}

function amount(units, fen, scaleFen, signed) {
  if (fen === null || fen === undefined) return DASH;
  const [one, name, decimals] = unit(units, scaleFen);
  // Two digits more where the limit is a few units only, so that four digits are always told.
  const digits = Math.abs(scaleFen) / one < 20 && decimals ? decimals + 2 : decimals;
  const vanishes = fen !== 0 && Math.abs(fen / one) < 0.5 * 10 ** -digits;
  if (vanishes && one > 100) return amount(units, fen, fen, signed);
  const sign = signed && fen > 0 ? "+" : "";
  return `${sign}${number(fen / one, digits)} ${name}`;
}

/** An amount in 亿 (or 万, 元), by the size of `scaleFen`. */
export const chinese = (fen, scaleFen = fen, signed = false) => amount(CHINESE, fen, scaleFen, signed);

/** An amount in bn RMB (or m RMB, RMB), by the size of `scaleFen`. */
export const english = (fen, scaleFen = fen, signed = false) => amount(ENGLISH, fen, scaleFen, signed);

/** An amount that is only roughly known: three digits, a sign, the unit's first word. */
export function brief(fen, language) {
  const units = (language === "chinese" ? CHINESE : ENGLISH).slice(0, 2);
  const [one, name] = unit(units, fen);
  const value = Math.abs(fen / one);
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 || value === 0 ? 2 : 3;
  return `${fen > 0 ? "+" : ""}${number(fen / one, digits)} ${name.replace(" RMB", "")}`;
}

/** A whole limit, without decimals that say nothing. */
export function plain(fen) {
  const short = (text) => text.replace(/(\.\d*?)0+ /, "$1 ").replace(". ", " ");
  return `${short(chinese(fen))} = ${short(english(fen))}`;
}

/** The exact amount in yuan. */
export const yuan = (fen) => (fen === null ? DASH : number(fen / 100, 2));

/** A share in per cent: never rounded up to the 100 or down to the 0 that it has not reached. */
export function percent(ratio, decimals = 1) {
  if (ratio === null || ratio === undefined) return DASH;
  const one = 10 ** decimals;
  const scaled = Math.round(ratio * 1e8) / 1e6;
  const rounded = Math.round(scaled * one) / one;
  const kept = (rounded === 100 || rounded === 0) && rounded !== scaled ? Math.floor(scaled * one) / one : rounded;
  if (rounded === 0 && scaled > 0) return `< ${number(1 / one, decimals)} %`;
  return `${number(kept, decimals)} %`;
}

const parts = (ms) => new Date(ms + ZONE_MS);
const two = (value) => String(value).padStart(2, "0");

/** HH:MM:SS of the market. */
export function time(ms) {
  if (ms === null) return DASH;
  const at = parts(ms);
  return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`;
}

/** HH:MM of the market. */
export const hour = (ms) => time(ms).slice(0, 5);

/** Mon 23 Nov 2026. */
export function day(ms) {
  const at = parts(ms);
  return `${DAYS[at.getUTCDay()]} ${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]} ${at.getUTCFullYear()}`;
}

/** A number of seconds as people say it. */
export function ago(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}

export const count = (value) => value.toLocaleString("en-US");
