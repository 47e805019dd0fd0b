// SPDX-License-Identifier: Apache-2.0
// The page of an evacuation or a batch: how far it is, when it will end, and what becomes of each of its machines.
import { cancelGroup } from "./actions.js";
import { get, list, nodeNow } from "./api.js";
import { h, setHidden, setText, showBadge, showLink, Table } from "./dom.js";
import { duration, number, percent, phase, phaseKind, rate, time, UNKNOWN } from "./format.js";
import { Watch } from "./watch.js";

const MOST = 1000; // machines that are shown, as many as a batch can have
const SOON_MS = 300; // several machines begin and end at once
const TURNS_AFTER_THE_END = 6;
const MOST_ATTENTIONS = 3; // said in one line above

const STATE_KINDS = { completed: "good", gone: "good", failed: "bad", refused: "bad", backoff: "warn", running: "busy", starting: "busy", stays: "warn" };
const STATE_WORDS = { backoff: "waits for another attempt", starting: "is begun", running: "moves", queued: "waits", refused: "refused", completed: "moved", gone: "left in another way" };

const NOWHERE = { stays: "nowhere", gone: "elsewhere" };

const GROUPS = {
  evacuation: { path: "fleet/evacuations", parts: (id) => `fleet/evacuations/${id}/items?limit=500`, title: (g) => `Emptying ${g.nodes.join(", ")}` },
  batch: { path: "fleet/batches", parts: (id) => `fleet/migrations?batch=${id}&limit=500`, title: () => "Batch of migrations" },
};

const when = (us) => (us > 0 ? time(new Date(us / 1000).toISOString()) : UNKNOWN);

/** Of an item without a migration that is not said to be gone: nothing is left where an evacuation has completed. */
function stateWithout(row, group) {
  if (group.state === "completed") return "gone";
  return row.destination === "" || row.reason || group.is_finished ? "stays" : "queued";
}

/** Machines of a batch that have no migration, as rows of it. */
function notSubmitted(batch) {
  return (batch.detail.not_submitted ?? []).map(({ machine, reason }, i) => ({ seq: `not-${i}`, machine, reason, source: UNKNOWN, destination: "", state: "stays", finished_us: 0 }));
}

/** An evacuation's item and a batch's migration, as one. `destination`: of an evacuation that of its plan, which its migration need not keep to. */
function partOf(row, group) {
  const state = row.state || stateWithout(row, group);
  return { key: `${row.position ?? row.seq}`, migration: row.migration ?? row.id, machine: row.machine, source: row.source, destination: row.destination, goesTo: row.goes_to || row.destination, wave: row.wave ?? null, state,
    reason: row.reason || (state === "stays" && group.is_finished ? "it was not begun" : "") };
}

function howFar(part) {
  const { live } = part;
  if (!live) return "";
  const eta = typeof live.eta_ms === "number" ? `, ends in ${duration(live.eta_ms)}` : "";
  return `${percent(live.progress)}, ${rate(live.transfer_rate)}${eta}`;
}

function showState(part, cell) {
  if (part.live) showBadge(cell, phase(part.live.phase) + (part.live.attempt > 1 ? `, attempt ${part.live.attempt}` : ""), phaseKind(part.live.phase));
  else showBadge(cell, STATE_WORDS[part.state] ?? part.state, STATE_KINDS[part.state] ?? "plain");
}

/** As the event of it says it (src/agent/fleet_messages.c). */
function attentionOf({ migration, attempt, source }) {
  return `a human has to decide: novacron status ${migration}.${attempt} on node ${source} says what`;
}

/** The attempt under way is a migration of its source: there, and only there, it has a page. */
function showMachine(part, cell, context) {
  const hasPage = part.live?.source === context.nodeName;
  if (hasPage !== Boolean(cell.querySelector("a"))) cell.replaceChildren();
  if (hasPage) showLink(cell, part.machine, `#/migrations/${part.migration}.${part.live.attempt}`);
  else setText(cell, part.machine);
}

function showRoute(part, cell) {
  cell.classList.add("route");
  setText(cell, `${part.source} → ${NOWHERE[part.state] ?? (part.live?.destination || part.goesTo || "not chosen yet")}`);
}

function partTable(context, hasWaves) {
  const columns = [
    { title: "Machine", show: (p, cell) => showMachine(p, cell, context) },
    { title: "From and to", show: showRoute },
    { title: "State", show: showState },
    { title: "Progress", show: howFar },
    { title: "Why", show: (p) => p.attention || p.live?.silence || p.reason },
  ];
  if (hasWaves) columns.splice(2, 0, { title: "Wave", show: (p) => (p.destination === "" ? UNKNOWN : number(p.wave + 1)) });
  return new Table("Machines", columns, (p) => p.key, "There are no machines in it.");
}

/** In words, of all that wait for a human. */
function attentions(parts) {
  const waiting = parts.filter((part) => part.attention);
  const more = waiting.length - MOST_ATTENTIONS;
  return [...waiting.slice(0, MOST_ATTENTIONS).map((part) => `${part.machine}: ${part.attention}`), more > 0 ? `and ${more} more` : ""].filter(Boolean).join("; ");
}

const MOVED = new Set(["completed", "gone"]);
const OVER = new Set([...MOVED, "failed", "refused", "cancelled", "stays"]);

/** How each wave of a plan stands. */
function waves(parts) {
  const found = new Map();
  for (const part of parts) {
    if (part.destination === "") continue; // it can't move: it is in none
    const wave = found.get(part.wave) ?? { wave: part.wave, machines: 0, moved: 0, moving: 0, waiting: 0, left: 0 };
    wave.machines += 1;
    if (MOVED.has(part.state)) wave.moved += 1;
    else if (OVER.has(part.state)) wave.left += 1;
    else if (part.live || part.state === "running" || part.state === "starting") wave.moving += 1;
    else wave.waiting += 1;
    found.set(part.wave, wave);
  }
  return [...found.values()].sort((a, b) => a.wave - b.wave);
}

function waveTable() {
  return new Table("Waves", [
    { title: "Wave", show: (w) => number(w.wave + 1) },
    { title: "Machines", show: (w) => number(w.machines) },
    { title: "Moved", show: (w) => number(w.moved) },
    { title: "Under way", show: (w) => number(w.moving) },
    { title: "Waiting", show: (w) => number(w.waiting) },
    { title: "Not moved", show: (w) => number(w.left) },
  ], (w) => w.wave, "Nothing can move.");
}

/**
 * How many machines are how: of those that have a migration the controller counts them, of the others the rows tell. Where more
 * are in it than are shown, of the latter there may be more (those that can't move are the last of a plan).
 */
function countOf(group, parts) {
  const { queued, backoff, starting, running, completed, failed, refused, cancelled } = group.migrations;
  const without = (state) => parts.filter((part) => !part.migration && part.state === state).length;
  const count = { completed, moved: completed + without("gone"), underWay: starting + running, waiting: queued + backoff + without("queued"), left: failed + refused + cancelled + without("stays") };
  return { ...count, all: count.moved + count.underWay + count.waiting + count.left, toMove: completed + count.underWay + count.waiting + failed + refused + cancelled };
}

function ends(sample) {
  if (typeof sample?.eta_ms !== "number") return UNKNOWN;
  return `${duration(sample.eta_ms)} (${sample.eta_basis === "plan" ? "by the plan" : "at its pace so far"})`;
}

/** Of an evacuation the database says it; a batch is what its migrations are. */
function outcomeOf(group) {
  if (group.state) return group.is_finished ? group.state : null;
  const { queued, backoff, starting, running } = group.migrations;
  return queued + backoff + starting + running > 0 ? null : "completed";
}

export class GroupPage {
  constructor(context, kind, id) {
    this.context = context;
    this.kind = kind;
    this.id = id;
    this.title = kind === "evacuation" ? "Evacuation" : "Batch";
    this.missing = h("p", { class: "empty" }, "Asking…");
    this.heading = h("h1", { tabindex: "-1" }, this.title);
    this.badge = h("span");
    this.bar = h("progress", { max: "100", "aria-label": "Progress of all machines" });
    this.share = h("span", { class: "share" });
    this.live = h("span", { class: "live" });
    this.complaint = h("p", { class: "complaint" });
    this.figures = h("dl", { class: "figures" });
    this.facts = h("p", { class: "summary" });
    this.cancelButton = h("button", { type: "button", onclick: () => cancelGroup(kind, this.group, context) }, kind === "evacuation" ? "Stop…" : "Cancel…");
    this.wave = waveTable();
    this.parts = partTable(context, kind === "evacuation");
    this.card = h("article", { class: "card big", hidden: true },
      h("div", { class: "headline" }, this.heading, this.badge, h("div", { class: "buttons" }, this.cancelButton)),
      h("div", { class: "progress" }, this.bar, this.share, this.live), this.complaint, this.figures);
    this.waves = h("section", { "aria-label": "Waves" }, h("h2", {}, "Waves"), this.wave.element);
    this.rest = h("div", { hidden: true }, this.facts, kind === "evacuation" ? this.waves : null,
      h("section", { "aria-label": "Machines" }, h("h2", {}, "Machines"), this.parts.element));
    this.element = h("div", {}, h("p", {}, h("a", { href: "#/" }, "← Overview")), this.missing, this.card, this.rest);
    this.values = new Map();
    this.turn = 0;
    this.sample = null;
    this.attention = new Map(); // of migrations that wait for a human, by the events: what the last one says
    this.told = new Set();
    this.polls = [[5000, () => this.ask()]];
  }

  async ask() {
    this.turn += 1;
    if (this.outcome && this.turn % TURNS_AFTER_THE_END !== 0) return;
    const { path, parts } = GROUPS[this.kind];
    try {
      const [group, rows] = await Promise.all([get(`${path}/${this.id}`), list(parts(this.id), MOST)]);
      this.take(group, rows);
    } catch (error) {
      if (error.code !== "not_found") throw error;
      setText(this.missing, `The fleet's controller knows no ${this.kind} ${this.id}.`);
    }
  }

  take(group, rows) {
    if (this.isClosed) return; // somebody has gone elsewhere meanwhile
    const isFirst = !this.group;
    this.group = group;
    this.rows = this.kind === "batch" ? [...rows.slice().reverse(), ...notSubmitted(group)] : rows; // migrations come newest first
    const outcome = outcomeOf(group);
    if (outcome && this.outcome === null) this.announce(outcome);
    this.outcome = outcome;
    setHidden(this.missing, true);
    setHidden(this.card, false);
    setHidden(this.rest, false);
    this.show();
    this.sayAttention();
    if (isFirst) this.context.focusHeading();
    if (isFirst && !outcome) this.follow();
    if (outcome) this.end();
  }

  follow() {
    this.watch = new Watch(`${GROUPS[this.kind].path}/${this.id}`, {
      onMessage: (message) => this.hear(message),
      onLink: (isUp) => this.link(isUp),
    });
  }

  /** What was true a moment ago is not told any more when nobody says it: asking brings records, and no samples. */
  link(isUp) {
    setText(this.live, isUp ? "live" : "not live: asking every few seconds");
    if (isUp || !this.sample) return;
    this.sample = { progress: this.sample.progress, done: this.sample.done };
    this.show();
  }

  end() {
    this.watch?.close();
    this.sample = null;
    setText(this.live, "");
    this.show();
  }

  /** A sample tells how far it is; what has happened is asked for: the records tell more than the messages. */
  hear(message) {
    if (message.type !== "progress") {
      this.noteAttention(message);
      clearTimeout(this.soon);
      this.soon = setTimeout(() => this.ask().catch(() => {}), SOON_MS);
      return;
    }
    this.sample = { ...message.data, progress: this.progressOf(message.data) };
    this.show();
  }

  /** A leader that has just begun does not know yet how far those under way are: as long as no more are done, it does not go back. */
  progressOf({ progress, done }) {
    const before = this.sample?.progress ?? null;
    if (progress === null || before === null) return progress ?? before;
    return this.sample.done === done ? Math.max(before, progress) : progress;
  }

  /** It waits until it says something else: all that has happened is told from the beginning. */
  noteAttention({ type, data }) {
    if (type === "alert") this.attention.set(data.migration, data.detail);
    else if (data.event === "migration.phase" || data.event === "migration.state") this.attention.delete(data.migration);
  }

  /** Once, and not of what was decided long ago. */
  sayAttention() {
    for (const { machine, attention } of this.partsNow().filter((part) => part.attention && !this.told.has(part.attention))) {
      this.told.add(attention);
      this.context.say(`${machine}: ${attention}`);
    }
  }

  announce(outcome) {
    const what = this.kind === "evacuation" ? `Emptying ${this.group.nodes.join(", ")}` : "The batch";
    this.context.say(`${what}: ${outcome === "completed" && this.kind === "batch" ? "all has ended" : outcome}.`);
  }

  figure(title, text) {
    if (!this.values.has(title)) {
      const value = h("dd");
      this.values.set(title, value);
      this.figures.append(h("div", {}, h("dt", {}, title), value));
    }
    setText(this.values.get(title), text);
    setHidden(this.values.get(title).parentElement, text === "");
  }

  /** Those under way as the sample has them. */
  partsNow() {
    const live = new Map((this.sample?.running ?? []).map((one) => [one.migration, one]));
    return this.rows.map((row) => {
      const part = partOf(row, this.group);
      if (OVER.has(part.state)) return part;
      const one = live.get(part.migration);
      return { ...part, live: one, attention: one ? (one.phase === "needs_attention" ? attentionOf(one) : "") : this.attention.get(part.migration) };
    });
  }

  show() {
    const { group, sample } = this;
    const parts = this.partsNow();
    const count = countOf(group, parts);
    const isCut = this.kind === "evacuation" && this.rows.length >= MOST;
    const atLeast = isCut ? "at least " : "";
    const running = this.outcome === null;
    setText(this.heading, GROUPS[this.kind].title(group));
    const word = group.state ?? (running ? "running" : count.left > 0 ? "ended" : "completed");
    showBadge(this.badge, word, word === "completed" ? "good" : word === "failed" ? "bad" : running ? "busy" : "plain");
    this.showProgress(count, running);
    this.figure("Moved", `${count.moved} of ${atLeast}${count.all}`);
    this.figure("Under way", running ? number(count.underWay) : "");
    this.figure("Waiting", running ? `${atLeast}${count.waiting}` : "");
    this.figure("Not moved", `${atLeast}${count.left}`);
    this.figure("Ends in", running ? ends(sample) : "");
    this.figure("Sent now", running ? rate(sample?.transfer_rate) : "");
    const endedUs = running ? 0 : group.changed_us ?? Math.max(0, ...this.rows.map((row) => row.finished_us));
    this.figure("Elapsed", running ? duration(nodeNow() - group.created_us / 1000) : duration((endedUs - group.created_us) / 1000));
    this.figure("Planned", group.detail.planned_seconds > 0 ? duration(group.detail.planned_seconds * 1000) : "");
    const complaints = [group.reason, attentions(parts)].filter(Boolean).join("; ");
    setText(this.complaint, complaints);
    setHidden(this.complaint, complaints === "");
    setText(this.facts, `${group.id}: asked for ${when(group.created_us)} by ${group.actor}${endedUs > 0 ? `, ended ${when(endedUs)}` : ""}.${isCut ? ` The first ${MOST} of its machines are shown, and counted in waves.` : ""}`);
    setHidden(this.cancelButton, !this.context.mayOperate || !running);
    this.wave.update(waves(parts));
    this.parts.update(parts);
  }

  /** As samples count it (GroupProgress in openapi.json): those that have moved, of those that have a migration or will get one. */
  showProgress({ completed, toMove }, running) {
    const share = this.sample?.progress ?? (toMove > 0 ? (100 * completed) / toMove : running ? 0 : 100);
    this.bar.value = share;
    setText(this.share, percent(share));
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.soon);
    this.watch?.close();
  }
}
