// Draws what /status.json tells, again and again. What comes from a log is put in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const PATIENCE_MS = 8000;
const MAX_PAUSE_MS = 10000;
const NONE = "–";

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = tag === "svg" || tag === "path" ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Writes only what has changed, so that a selection, and a reader's place, stay where they are. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// How figures are written

const count = (n) => (n < 1e7 ? Math.round(n).toLocaleString("en-US") : new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 2 }).format(n));
const plural = (n, one, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;
const fixed = (n, digits) => n.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

function dollars(usd) {
  if (usd === 0) return "$0";
  if (usd >= 1) return "$" + fixed(usd, 2);
  if (usd >= 0.01) return "$" + fixed(usd, 4);
  return "$" + usd.toLocaleString("en-US", { maximumSignificantDigits: 2, maximumFractionDigits: 20 });
}

function duration(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 10) return fixed(ms, 1) + " ms";
  if (ms < 1000) return fixed(ms, 0) + " ms";
  if (ms < 100000) return fixed(ms / 1000, 2) + " s";
  return fixed(ms / 60000, 1) + " min";
}

/** Of round figures beside a chart: no more digits than they need. */
const brief = (text) => text.replace(/(\.\d*?)0+(?!\d)/, "$1").replace(/\.(?!\d)/, "");

/** A histogram knows no more of what is over its last bound. */
const bounded = (over) => (ms) => (ms === over ? "over " + duration(ms) : duration(ms));

function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; n >= 1000 && unit < units.length - 1; unit++) n /= 1000;
  return `${unit && n < 100 ? fixed(n, 1) : fixed(n, 0)} ${units[unit]}`;
}

function share(part, whole) {
  if (!whole) return NONE;
  const percent = (100 * part) / whole;
  return percent === 0 ? "0 %" : percent < 0.1 ? "under 0.1 %" : fixed(percent, 1) + " %";
}

function span(seconds) {
  if (seconds < 1) return "0 s";
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    if (seconds >= 2 * length || unit === "s") return `${Math.floor(seconds / length)} ${unit}`;
  }
}

const ago = (seconds) => (seconds < 1 ? "now" : span(seconds) + " ago");
const clock = (unix, withSeconds = true) =>
  new Date(unix * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(withSeconds && { second: "2-digit" }) });
const day = (unix) => new Date(unix * 1000).toLocaleDateString("sv-SE"); // which is 2026-01-31
const moment = (unix, now) => (day(unix) === day(now) ? clock(unix) : `${day(unix)} ${clock(unix)}`);

// Charts: what each shows, of a slot and of the whole hour

const CARDS = [
  {
    id: "requests", title: "Requests", kind: "bars", format: () => count,
    big: (s) => count(s.hour.requests),
    note: (s) => (s.hour.requests ? `${share(s.hour.errors, s.hour.requests)} failed` : "none yet"),
    layers: [
      { name: "answered", look: "first", of: (h, i) => h.requests[i] - h.errors[i], hour: (s) => s.hour.requests - s.hour.errors },
      { name: "failed", look: "bad", of: (h, i) => h.errors[i], hour: (s) => s.hour.errors },
    ],
  },
  {
    id: "latency", title: "Latency", kind: "lines", format: (s) => bounded(s.over_duration_ms),
    big: (s) => bounded(s.over_duration_ms)(s.hour.duration_p50),
    note: () => "median of all requests",
    layers: ["p50", "p95", "p99"].map((name, i) => ({
      name, look: ["first", "second", "third"][i], of: (h, j) => h["duration_" + name][j], hour: (s) => s.hour["duration_" + name],
    })),
  },
  {
    id: "first-token", title: "Time to first token", kind: "lines", format: (s) => bounded(s.over_first_token_ms),
    big: (s) => bounded(s.over_first_token_ms)(s.hour.first_token_p50),
    note: () => "median of streamed answers",
    layers: ["p50", "p95"].map((name, i) => ({
      name, look: ["first", "second"][i], of: (h, j) => h["first_token_" + name][j], hour: (s) => s.hour["first_token_" + name],
    })),
  },
  {
    id: "cost", title: "Cost", kind: "bars", format: () => dollars,
    big: (s) => dollars(s.hour.cost_usd),
    note: (s) => `today ${dollars(s.today.cost_usd)}, since ${clock(s.today.since, false)}${s.today.since % 86400 ? "" : " (midnight UTC)"}`,
    layers: [{ name: "cost", look: "second", of: (h, i) => h.cost_usd[i], hour: (s) => s.hour.cost_usd }],
  },
  {
    id: "tokens", title: "Tokens", kind: "bars", format: () => count,
    big: (s) => count(s.hour.input_tokens + s.hour.output_tokens),
    note: (s) => `${share(s.hour.output_tokens, s.hour.input_tokens + s.hour.output_tokens)} of them output`,
    layers: [
      { name: "input", look: "first", of: (h, i) => h.input_tokens[i], hour: (s) => s.hour.input_tokens },
      { name: "output", look: "second", of: (h, i) => h.output_tokens[i], hour: (s) => s.hour.output_tokens },
    ],
  },
];

let status = null;
let cursor = null; // Slots before the running one; null for the whole hour.

/** The least of 1, 2, 5 × 10ⁿ that is not under the value. */
function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((bound) => bound >= value * 0.999999);
}

class Card {
  constructor(spec) {
    this.spec = spec;
    const title = spec.id + "-title";
    this.big = make("p", { class: "big", id: spec.id + "-big" });
    this.note = make("p", { class: "note", id: spec.id + "-note" });
    this.paths = spec.layers.map((layer) => make("path", { class: `${spec.kind === "bars" ? "bars" : "line"} ${layer.look}` }));
    this.grid = make("path", { class: "grid" });
    this.cursor = make("path", { class: "cursor" });
    this.svg = make("svg", { preserveAspectRatio: "none", "aria-hidden": "true" },
      this.grid, ...this.paths, this.cursor);
    this.top = make("span", { class: "top", "aria-hidden": "true" });
    this.chart = make("div", {
      class: "chart", role: "slider", tabindex: "0", "aria-label": `${spec.title}, chart of the last hour`, "aria-describedby": "how",
      "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0",
    }, this.svg, this.top);
    this.from = make("span");
    this.at = make("span", { class: "at" });
    this.values = spec.layers.map(() => make("b"));
    const legend = spec.layers.map((layer, i) =>
      make("li", {}, make("span", { class: "swatch " + layer.look, "aria-hidden": "true" }), layer.name + " ", this.values[i]));
    $("cards").append(make("section", { class: "card", "aria-labelledby": title },
      make("h3", { id: title }, spec.title), this.big, this.note, this.chart,
      make("p", { class: "axis", "aria-hidden": "true" }, this.from, this.at, make("span", {}, "now")),
      make("ul", { class: "legend" }, ...legend)));
    this.listen();
  }

  listen() {
    this.chart.addEventListener("pointermove", (event) => {
      const box = this.chart.getBoundingClientRect();
      const place = Math.floor(((event.clientX - box.left) / box.width) * slots());
      move(slots() - 1 - place);
    });
    this.chart.addEventListener("pointerleave", () => move(null));
    this.chart.addEventListener("blur", () => move(null));
    this.chart.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: 1, ArrowDown: 1, ArrowRight: -1, ArrowUp: -1, PageUp: -10, PageDown: 10 };
      if (event.key in steps) move(cursor === null ? 0 : cursor + steps[event.key]);
      else if (event.key === "Home") move(slots());
      else if (event.key === "End") move(0);
      else if (event.key === "Escape") move(null);
      else return;
      event.preventDefault();
    });
  }

  draw() {
    const { spec } = this;
    const h = status.history;
    const known = h.requests.length;
    const format = spec.format(status);
    say(this.big, spec.big(status));
    say(this.note, spec.note(status));
    const series = spec.layers.map((layer) => Array.from({ length: known }, (_, i) => layer.of(h, i)));
    const heights = spec.kind === "bars" ? series[0].map((_, i) => series.reduce((sum, one) => sum + one[i], 0)) : series.flat();
    const top = ceiling(Math.max(0, ...heights));
    say(this.top, Math.max(0, ...heights) > 0 ? brief(format(top)) : "");
    const left = slots() - known;
    const paths = spec.kind === "bars" ? bars(series, left, top) : series.map((one) => line(one, left, top));
    paths.forEach((d, i) => set(this.paths[i], "d", d));
    set(this.grid, "d", `M0 0H${slots()}M0 50H${slots()}`);
    set(this.svg, "viewBox", `0 0 ${slots()} 100`);
    say(this.from, clock(h.start - left * h.slot_seconds, false));
    this.point(series, format);
  }

  /** Shows the figures of one slot, or those of the whole hour. */
  point(series, format) {
    const { spec } = this;
    const h = status.history;
    const last = h.requests.length - 1;
    const at = last - (cursor ?? 0);
    const figures = spec.layers.map((layer, i) => format(cursor === null ? layer.hour(status) : series[i][at]));
    figures.forEach((figure, i) => say(this.values[i], figure));
    const when = cursor === null ? "" : clock(h.start + at * h.slot_seconds);
    say(this.at, when);
    const x = slots() - 0.5 - cursor;
    set(this.cursor, "d", cursor === null ? "" : `M${x} 0V100`);
    set(this.chart, "aria-valuemax", String(last));
    set(this.chart, "aria-valuenow", String(cursor === null ? last : at));
    const told = figures.map((figure, i) => `${spec.layers[i].name} ${figure}`).join(", ");
    set(this.chart, "aria-valuetext", cursor === null ? `whole hour: ${told}` : `${h.slot_seconds} seconds from ${when}: ${told}`);
  }
}

function bars(series, left, top) {
  const below = series[0].map(() => 0);
  return series.map((one) => one.map((value, i) => {
    if (!value) return "";
    const base = 100 - (100 * below[i]) / top;
    below[i] += value;
    // what is there is seen, be it little
    const height = Math.min(base, Math.max(1, (100 * value) / top));
    return `M${left + i + 0.1} ${base.toFixed(2)}v${(-height).toFixed(2)}h.8v${height.toFixed(2)}z`;
  }).join(""));
}

function line(values, left, top) {
  let d = "";
  values.forEach((value, i) => {
    if (value === null) return;
    const y = (100 - (100 * value) / top).toFixed(2);
    const x = left + i + 0.5;
    const isJoined = i > 0 && values[i - 1] !== null;
    d += isJoined ? `L${x} ${y}` : `M${x - 0.3} ${y}H${x}`;
  });
  return d;
}

/** How many slots a chart is wide: ten minutes at first, then all that is known, an hour at the most. */
const slots = () => (status ? Math.max(20, status.history.requests.length) : 20);
const cards = CARDS.map((spec) => new Card(spec));
const reading = new (class {
  constructor() {
    this.big = make("p", { class: "big", id: "reading-big" });
    this.note = make("p", { class: "note", id: "reading-note" });
    this.list = make("ul", { class: "legend tall" });
    $("cards").append(make("section", { class: "card", "aria-labelledby": "reading-title" },
      make("h3", { id: "reading-title" }, "Reading"), this.big, this.note, this.list));
  }

  draw(s) {
    const files = s.files.length + s.other_files;
    say(this.big, s.lag_bytes ? bytes(s.lag_bytes) + " behind" : files || s.paths.includes("-") ? "Caught up" : "Waiting");
    say(this.note, files ? `${plural(files, "file")} followed, ${bytes(s.read_bytes)} read` : "for a log to be there");
    const parsers = Object.entries(s.parsers).sort((a, b) => b[1] - a[1]);
    const unread = UNREAD.reduce((sum, result) => sum + s.lines[result], 0);
    const texts = [
      ...parsers.slice(0, 3).map(([name, requests]) => `${plural(requests, "request")} read by ${name}`),
      ...(parsers.length > 3 ? [`and by ${plural(parsers.length - 3, "other parser")}`] : []),
      `${plural(s.lines.ignored, "line")} of something else`,
      unread ? `${plural(unread, "line")} could not be read` : "no line that could not be read",
    ];
    fill(this.list, texts, () => make("li"), say);
  }
})();

function move(to) {
  if (!status) return;
  cursor = to === null ? null : Math.max(0, Math.min(status.history.requests.length - 1, to));
  for (const card of cards) card.draw();
}

// Tables

/** Makes as many children as there are items, keeps those that are there already, and writes each. */
function fill(parent, items, create, write) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  items.forEach((item, i) => {
    if (!parent.children[i]) parent.append(create());
    write(parent.children[i], item);
  });
}

class Table {
  constructor(id, title, columns, look = "") {
    this.hint = make("p", { class: "hint", id: id + "-hint" });
    this.body = make("tbody");
    const head = make("tr", {}, ...columns.map((name) => make("th", { scope: "col", ...(name.startsWith("#") && { class: "number" }) }, name.replace("#", ""))));
    this.columns = columns;
    this.scroll = make("div", { class: "scroll", role: "group", tabindex: "0", "aria-labelledby": id + "-title" },
      make("table", { class: look, "aria-labelledby": id + "-title" }, make("thead", {}, head), this.body));
    $(id).append(make("h2", { id: id + "-title" }, title), this.hint, this.scroll);
  }

  /** A cell is text, or [text, look], or of the first column [text, smaller text]. */
  draw(hint, rows) {
    say(this.hint, hint);
    this.hint.hidden = !hint;
    this.scroll.hidden = !rows.length;
    fill(this.body, rows, () => this.row(), (tr, cells) => {
      set(tr, "class", cells.look ?? "");
      cells.forEach((cell, i) => {
        const [text, more] = Array.isArray(cell) ? cell : [cell, ""];
        const td = tr.children[i];
        say(td.querySelector("bdi"), text);
        if (i === 0) {
          say(td.querySelector("small"), more);
          td.querySelector("small").hidden = !more;
        }
        else set(td, "class", [this.columns[i].startsWith("#") ? "number" : "", more].join(" ").trim());
      });
    });
  }

  row() {
    // a name may hold marks that turn the direction of what follows: it is kept to itself
    return make("tr", {}, ...this.columns.map((_, i) =>
      i ? make("td", {}, make("bdi")) : make("th", { scope: "row" }, make("bdi"), make("small", {}))));
  }
}

const models = new Table("models", "Models", ["Model", "Requests", "Failed", "p50", "p95", "p99", "First token p50", "First token p95", "Input tokens", "Output tokens", "Cost", "Last request"]);
const errors = new Table("errors", "Failures", ["Model", "Requests by kind"], "words");
const unpriced = new Table("unpriced", "Without a price", ["Model", "#Requests"]);
const files = new Table("files", "What is followed", ["File", "Behind", "Read", "Last change"]);
const lines = new Table("lines", "What became of each line", ["Result", "#Lines", "Meaning"], "words");

const RESULTS = {
  request: "a finished request, counted",
  superseded: "a later line told the same request better",
  repeat: "its id had been counted before",
  ignored: "JSON, but no finished request that any parser knows",
  not_json: "no JSON",
  malformed: "a parser knows the format, but the record is broken",
  too_long: "longer than --max-line-bytes",
  plugin_error: "a parser failed; its traceback is in the sidecar's own log",
};
const UNREAD = ["not_json", "malformed", "too_long", "plugin_error"];

function drawTables(s) {
  const formatDuration = bounded(s.over_duration_ms);
  const formatFirst = bounded(s.over_first_token_ms);
  const cells = (name, m) => [
    name, count(m.requests), [count(m.errors), m.errors ? "" : "zero"],
    formatDuration(m.duration_p50), formatDuration(m.duration_p95), formatDuration(m.duration_p99),
    formatFirst(m.first_token_p50), formatFirst(m.first_token_p95),
    count(m.input_tokens), count(m.output_tokens),
    // where nothing has a price, 0 would be a wrong figure
    m.unpriced && !m.cost_usd ? ["no price", "warn"] : dollars(m.cost_usd),
    m.last_request ? ago(s.now - m.last_request) : NONE,
  ];
  const rows = s.models.map((m) => cells([m.model, m.provider], m));
  if (s.other_models.models) rows.push(cells([plural(s.other_models.models, "other model"), ""], s.other_models));
  const total = s.total;
  models.draw(rows.length
    ? `All that was counted so far: ${plural(total.requests, "request")}, ${count(total.input_tokens)} input and ${count(total.output_tokens)} output tokens, ${dollars(total.cost_usd)}.`
    : "No request has been read yet. A line is seen as soon as it is written; ai-sidecar check FILE tells what becomes of it.", rows);

  const failures = new Map();
  for (const e of s.errors) {
    const key = JSON.stringify([e.model, e.provider]);
    failures.set(key, [...(failures.get(key) ?? []), `${e.error_type} ${count(e.requests)}`]);
  }
  errors.draw(failures.size ? (s.other_errors ? `The most frequent; ${plural(s.other_errors, "other kind")} not shown.` : "") : "No request has failed.",
    [...failures].map(([key, kinds]) => [JSON.parse(key), kinds.join(", ")]));

  const without = s.models.filter((m) => m.unpriced).sort((a, b) => b.unpriced - a.unpriced);
  const hidden = s.unpriced_models - without.length;
  unpriced.draw(without.length
    ? "Their tokens are counted, their cost is not: name a price with --prices." + (hidden ? ` ${plural(hidden, "other model")} not shown.` : "")
    : "Every request with tokens has a price.", without.map((m) => [[m.model, m.provider], count(m.unpriced)]));

  // what is rotated and read is waiting to be let go of, and tells nobody anything
  const shown = s.files.filter((f) => !f.is_rotated || f.lag_bytes);
  const held = s.files.length - shown.length;
  files.draw([
    s.files.length ? "" : `Nothing is there yet at ${s.paths.join(", ")}.`,
    s.paths.includes("-") ? "Standard input is read." : "",
    s.unreadable_files ? `${plural(s.unreadable_files, "file")} may not be read.` : "",
    held ? `${plural(held, "rotated file")} beside these, read to the end and still held open.` : "",
    s.other_files ? `${plural(s.other_files, "more file")} not shown.` : "",
  ].filter(Boolean).join(" "), shown.map((f) => [
    [f.path, f.is_rotated ? "rotated, and not read to its end yet" : ""],
    f.lag_bytes ? [bytes(f.lag_bytes), "warn"] : ["nothing", "zero"], bytes(f.read_bytes), ago(f.idle_seconds),
  ]));

  const unread = UNREAD.reduce((sum, result) => sum + s.lines[result], 0);
  const results = Object.entries(s.lines).map(([result, n]) => {
    return Object.assign([[result, ""], [count(n), n && UNREAD.includes(result) ? "warn" : ""], RESULTS[result] ?? ""], { look: n ? "" : "zero" });
  });
  lines.draw(unread ? `${plural(unread, "line")} could not be read.` : "Every line could be read.", results);
}

function drawNotices(s) {
  const failed = s.state.saves.failure ?? 0;
  const texts = [
    s.unpriced_models && (s.unpriced_models === 1 ? "1 model has no price: what it costs is in no figure here." : `${count(s.unpriced_models)} models have no price: what they cost is in no figure here.`),
    s.unreadable_files && `${plural(s.unreadable_files, "file")} may not be read: the sidecar's user needs permission.`,
    s.lines.plugin_error && `A parser has failed on ${plural(s.lines.plugin_error, "line")}: its own log says where.`,
    s.series.overflow && `${plural(s.series.overflow, "request")} counted under _other, since ${count(s.series.most)} label sets are kept at the most (--max-series).`,
    failed && `The state could not be saved ${plural(failed, "time")}.`,
    s.prices_timestamp && s.now - s.prices_timestamp > 90 * 86400 && `The prices are of ${day(s.prices_timestamp)}, older than 90 days.`,
  ].filter(Boolean);
  $("notices").hidden = !texts.length;
  fill($("notices"), texts, () => make("li"), say);
}

function drawFacts(s) {
  const rotations = Object.values(s.rotations).reduce((sum, n) => sum + n, 0);
  const facts = [
    ["Version", s.version],
    ["Running for", span(s.now - s.started)],
    ["Label sets", `${count(s.series.kept)} of ${count(s.series.most)}`],
    ["Rotations", count(rotations)],
    ["State", s.state.is_kept ? (s.state.last_save ? "saved " + ago(s.now - s.state.last_save) : "not saved yet") : "not kept (--state-dir)"],
    ["Prices of", s.prices_timestamp ? day(s.prices_timestamp) : NONE],
  ];
  fill($("facts"), facts, () => make("div", {}, make("dt"), make("dd")), (row, [name, value]) => {
    say(row.children[0], name);
    say(row.children[1], value);
  });
}

// Renewing

let restarted = null; // When the sidecar was seen to have started again, and until when that is said.

function show(state, text) {
  document.body.dataset.state = state;
  say($("state"), text);
  document.title = state === "away" ? "not reachable – ai-sidecar" : "ai-sidecar";
}

function draw(next) {
  if (status && next.started !== status.started) restarted = { at: next.started, until: next.now + 60 };
  status = next;
  if (restarted && next.now > restarted.until) restarted = null;
  for (const card of cards) card.draw();
  const watched = next.now - next.history.since;
  say($("hour-title"), watched > 3540 ? "The last hour" : `Since ${clock(next.history.since)}`);
  reading.draw(next);
  drawTables(next);
  drawNotices(next);
  drawFacts(next);
  say($("watched"), `${next.paths.map((path) => (path === "-" ? "standard input" : path)).join(", ")} · watched since ${moment(next.started, next.now)}`);
  show("live", restarted ? `Live; it started again at ${clock(restarted.at)}` : "Live");
  say($("moment"), clock(next.now));
}

/** Says why there are no new figures, and from when those on the page are. */
function missing(problem) {
  const old = status ? ` What you see is of ${clock(status.now)}.` : "";
  if (problem === 503) show("waiting", "The sidecar is still reading what the logs hold already." + old);
  else if (problem === 401) show("away", "A user and a password are asked for: load this page again." + old);
  else show("away", "The sidecar does not answer; this page tries again by itself." + old);
  say($("moment"), "");
}

let timer = 0;
let isAsking = false;
let failures = 0;

async function renew() {
  clearTimeout(timer);
  // nobody looks: nobody asks
  if (isAsking || document.hidden) return;
  isAsking = true;
  let next = null;
  let problem = 0;
  try {
    const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.ok) next = await answer.json();
    else problem = answer.status;
  } catch {
    problem = -1;
  }
  isAsking = false;
  failures = next ? 0 : failures + 1;
  const pause = next ? next.renew_seconds * 1000 : Math.min(MAX_PAUSE_MS, 1000 * failures);
  timer = setTimeout(renew, pause);
  if (next) draw(next);
  else missing(problem);
}

document.addEventListener("visibilitychange", renew);
window.addEventListener("online", renew);
renew();
