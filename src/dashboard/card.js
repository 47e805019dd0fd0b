// SPDX-License-Identifier: Apache-2.0
// One migration as it runs: how far, how fast, when it will end, whether it will; and what may be done about it.
import { cancel, rollback } from "./actions.js";
import { nodeNow } from "./api.js";
import { h, setHidden, setText, showBadge } from "./dom.js";
import { bytes, duration, milliseconds, number, percent, phase, phaseKind, rate, UNKNOWN, withError } from "./format.js";
import { RatePlot } from "./plot.js";
import { addSample } from "./samples.js";
import { Watch } from "./watch.js";

const ENDS = new Set(["completed", "failed", "cancelled"]);

function connections(m) {
  if (!m.connections?.length) return UNKNOWN;
  const up = m.connections.filter((c) => c.up).length;
  return up === m.connections.length ? `${up}` : `${up} of ${m.connections.length} are up`;
}

function lost(m) {
  const segments = (m.connections ?? []).reduce((sum, c) => sum + (c.segments ?? 0), 0);
  const again = (m.connections ?? []).reduce((sum, c) => sum + (c.retransmitted_segments ?? 0), 0);
  return segments > 0 ? `${((again / segments) * 100).toFixed(2)} %` : UNKNOWN;
}

function roundTrip(m) {
  return m.rtt_us ?? m.link_rtt_us ? `${((m.rtt_us ?? m.link_rtt_us) / 1000).toFixed(1)} ms` : UNKNOWN;
}

function pause(m) {
  if (typeof m.pause_ms === "number") return `${milliseconds(m.pause_ms)} (limit ${milliseconds(m.max_downtime_ms)})`;
  const expected = m.forecast_pause_ms ?? m.expected_downtime_ms;
  return expected ? `${milliseconds(expected)} expected (limit ${milliseconds(m.max_downtime_ms)})` : `limit ${milliseconds(m.max_downtime_ms)}`;
}

function elapsed(m) {
  const end = m.finished ? Date.parse(m.finished) : nodeNow();
  return m.started ? duration(Math.max(0, end - Date.parse(m.started))) : UNKNOWN;
}

// Of the machine. Only who watches is told a sum; lists have the parts, and QEMU sends nothing while disks go ahead.
function sentNow(m) {
  if (m.transfer_rate !== undefined || m.phase !== "disk_copy") return m.transfer_rate ?? m.rate_bps;
  return (m.disks ?? []).reduce((sum, disk) => sum + (disk.rate_bps ?? 0), 0);
}

// title, what it shows, and whether it is of use at the end, too
const FIGURES = [
  ["Ends in", (m) => withError(m.eta_ms, m.eta_error_ms), false],
  ["Elapsed", elapsed, true],
  ["Pause", pause, true],
  ["Sent, now", (m) => rate(sentNow(m)), false],
  ["Wire, now", (m) => rate(m.wire_rate_bps), false],
  ["Ratio", (m) => (m.ratio ? `${number(m.ratio, 1)} : 1` : UNKNOWN), true],
  ["Guest dirties", (m) => rate(m.effective_rate_bps ? m.dirty_rate_bps : null), false],
  ["Memory sent", (m) => `${bytes(m.ram_bytes)} (it has ${bytes(m.ram_total_bytes)})`, true],
  ["On the wire", (m) => bytes(m.wire_bytes), true],
  ["Round", (m) => number(m.rounds), true],
  ["Round trip", roundTrip, true],
  ["Sent again (loss)", lost, true],
  ["Connections", connections, false],
  ["Guest slowed by", (m) => percent(m.throttle), true],
  ["Coding", (m) => m.coding ?? UNKNOWN, false],
];

class Figures {
  constructor() {
    this.values = FIGURES.map(() => h("dd"));
    this.pairs = FIGURES.map(([title], i) => h("div", {}, h("dt", {}, title), this.values[i]));
    this.element = h("dl", { class: "figures" }, ...this.pairs);
  }

  update(m) {
    FIGURES.forEach(([, show, always], i) => {
      setText(this.values[i], show(m));
      setHidden(this.pairs[i], !always && m.outcome !== null);
    });
  }
}

/** What went wrong, and what a person has to do: as the node says it. */
class Complaints {
  constructor() {
    this.attention = h("p", { class: "complaint attention" });
    this.error = h("p", { class: "complaint" });
    this.element = h("div", {}, this.attention, this.error);
  }

  update(m) {
    setText(this.attention, m.attention ?? "");
    setHidden(this.attention, !m.attention);
    setText(this.error, m.error ? `${m.error.message ?? ""} (${m.error.code ?? "error"})` : "");
    setHidden(this.error, !m.error);
  }
}

export class Card {
  /** `context`: {mayOperate, say(text)}; `big`: on a page of its own; `isLive`: with plot and WebSocket. `onEvent` is called when its history has grown. */
  constructor(migration, context, { big = false, isLive = true, onEvent = () => {} } = {}) {
    this.context = context;
    this.onEvent = onEvent;
    const id = migration.id;
    this.title = h(big ? "h1" : "h3", big ? { tabindex: "-1" } : {});
    this.link = big ? null : h("a", { href: `#/migrations/${id}` });
    if (this.link) this.title.append(this.link);
    this.badge = h("span");
    this.bar = h("progress", { max: "100", "aria-label": `Progress of ${migration.vm}` });
    this.share = h("span", { class: "share" });
    this.live = h("span", { class: "live" });
    this.figures = new Figures();
    this.complaints = new Complaints();
    this.isLive = isLive;
    this.plot = isLive ? new RatePlot() : null;
    this.cancelButton = h("button", { type: "button", onclick: () => cancel(this.migration, context) }, "Cancel…");
    this.rollbackButton = h("button", { type: "button", onclick: () => rollback(this.migration, context) }, "Undo…");
    this.element = h("article", { class: big ? "card big" : "card" },
      h("div", { class: "headline" }, this.title, this.badge, h("div", { class: "buttons" }, this.cancelButton, this.rollbackButton)),
      h("div", { class: "progress" }, this.bar, this.share, this.live), this.complaints.element, this.figures.element, this.plot?.element);
    this.watch = null;
    this.hasRun = migration.outcome === null;
    this.update(migration);
  }

  /** Takes in what is news. Records and samples overtake each other: within an attempt the progress of the one that is further counts. */
  merge(news) {
    const before = this.migration ?? {};
    this.migration = { ...before, ...news };
    const saves = (m) => m.phase === "checkpoint"; // whose progress is another one
    const isSame = before.attempt === this.migration.attempt && saves(before) === saves(this.migration) && this.migration.outcome === null;
    if (isSame && before.progress > this.migration.progress) this.migration.progress = before.progress;
  }

  /** A whole record. */
  update(migration) {
    const before = this.migration;
    this.merge(migration);
    addSample(this.migration);
    this.show();
    if (before && this.migration.outcome !== null) this.announce(this.migration.outcome);
    const runs = this.migration.outcome === null;
    if (runs && this.isLive && !this.watch) this.begin();
    else if (!runs) this.end();
  }

  begin() {
    this.watch = new Watch(`migrations/${encodeURIComponent(this.migration.id)}`, {
      onMessage: (message) => this.take(message),
      onLink: (isUp) => this.setLink(isUp),
    });
  }

  setLink(isUp) {
    setText(this.live, isUp ? "live" : "not live: asking every few seconds");
    if (!isUp) delete this.migration.transfer_rate; // the last sample's: records, which come on, have another one
  }

  end() {
    this.watch?.close();
    setText(this.live, "");
  }

  /** Once, whoever knows first: the WebSocket or the record. */
  announce(outcome) {
    if (!this.isAnnounced && this.hasRun) this.context.say(`${this.migration.vm}: migration ${outcome}`);
    this.isAnnounced = true;
  }

  enter(phase) {
    if (this.migration.phase === "checkpoint" && phase !== "checkpoint") this.migration.progress = 0;
    this.migration.phase = phase;
  }

  take(message) {
    if (message.type === "progress") this.merge(message.data);
    else if (message.type === "phase" && message.data.phase) this.enter(message.data.phase);
    if (ENDS.has(message.type)) {
      setText(this.live, "");
      this.announce(message.type);
    }
    addSample(this.migration);
    this.show();
    if (message.type !== "progress") this.onEvent(message);
  }

  show() {
    const m = this.migration;
    setText(this.link ?? this.title, `${m.vm}: ${m.source} → ${m.destination}`);
    showBadge(this.badge, phase(m.phase) + (m.attempt > 1 ? `, attempt ${m.attempt}` : ""), phaseKind(m.phase));
    const isKnown = typeof m.progress === "number";
    if (isKnown) this.bar.value = m.progress;
    else this.bar.removeAttribute("value");
    setText(this.share, isKnown ? percent(m.progress) : "the source knows how far it is");
    this.figures.update(m);
    this.complaints.update(m);
    this.plot?.update(m);
    setHidden(this.cancelButton, !this.context.mayOperate || m.outcome !== null);
    setHidden(this.rollbackButton, !this.context.mayOperate || m.outcome !== "completed");
  }

  close() {
    this.watch?.close();
    this.plot?.close();
  }
}
