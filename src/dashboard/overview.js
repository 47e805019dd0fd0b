// SPDX-License-Identifier: Apache-2.0
// The first page: this node, the fleet where there is a controller, what moves now and what has moved.
import { Alerts } from "./alerts.js";
import { get, list } from "./api.js";
import { Card } from "./card.js";
import { Absence, answerFor, h, List, setHidden, setText, showBadge, showLink, Table } from "./dom.js";
import { evacuate } from "./evacuate.js";
import { bytes, duration, milliseconds, number, percent, phase, phaseKind, rate, time, UNKNOWN } from "./format.js";
import { Machines } from "./machines.js";

const LIVE_CARDS = 8; // a WebSocket and a canvas each; a gate lets one address have 24 WebSockets, and there may be more windows
const CARDS_AT_ONCE = 4;
const EARLIER = 50;
const ROWS_AT_ONCE = 25;

function showEvacuate(node, cell, context) {
  const button = cell.querySelector("button") ?? cell.appendChild(h("button", {
    type: "button",
    "aria-label": `Empty ${node.name}`,
    onclick: () => evacuate(node, context).catch((error) => context.say(error.message)),
  }, "Empty…"));
  setHidden(button, Boolean(node.evacuation));
}

/** One that is being emptied leads to how that gets on. */
function showOpenness(node, cell) {
  const link = cell.querySelector("a");
  if (node.evacuation) {
    cell.querySelector(".badge")?.remove();
    showLink(cell, "is being emptied", `#/evacuations/${node.evacuation}`);
    return;
  }
  link?.remove();
  showBadge(cell, node.is_cordoned ? "no (cordoned)" : "yes", node.is_cordoned ? "plain" : "good");
}

/** What a migration of the queue is part of. */
function showGroup(m, cell) {
  if (m.evacuation) showLink(cell, "an evacuation", `#/evacuations/${m.evacuation}`);
  else if (m.batch) showLink(cell, "a batch", `#/batches/${m.batch}`);
}

function nodeTable(context) {
  const columns = [
    { title: "Node", show: (n) => n.name },
    { title: "Takes machines", show: showOpenness },
    { title: "Memory for machines", show: (n) => bytes(n.memory_bytes) },
    { title: "In use", show: (n) => (n.memory_bytes > 0 ? `${bytes(n.used_bytes)} (${percent((100 * n.used_bytes) / n.memory_bytes)})` : bytes(n.used_bytes)) },
    { title: "Machines", show: (n) => number(n.machines) },
    { title: "CPUs", show: (n) => number(n.cpus) },
    { title: "Rate limit", show: (n) => (n.rate_bps > 0 ? rate(n.rate_bps) : "none") },
    { title: "Last heard of", show: (n) => (typeof n.heard_s === "number" ? `${duration(n.heard_s * 1000)} ago${n.is_silent ? ": silent" : ""}` : UNKNOWN) },
  ];
  if (context.mayOperate) columns.push({ title: "Action", show: (n, cell) => showEvacuate(n, cell, context) });
  return new Table("Nodes of the fleet", columns, (n) => n.name, "The controller knows no nodes.");
}

const QUEUE_KINDS = { running: "busy", starting: "busy", backoff: "bad" };

/** What the controller has not ended: it waits in the queue, or runs on one of the nodes. */
function queueTable() {
  return new Table("Queue of the fleet", [
    { title: "Machine", show: (m) => m.machine },
    { title: "From and to", show: (m) => `${m.source} → ${m.destination || "not chosen yet"}` },
    { title: "State", show: (m, cell) => showBadge(cell, m.state, QUEUE_KINDS[m.state] ?? "plain") },
    { title: "Priority", show: (m) => m.priority },
    { title: "Attempts", show: (m) => number(m.attempts) },
    { title: "Part of", show: showGroup },
    { title: "Asked for", show: (m) => `${time(new Date(m.submitted_us / 1000).toISOString())} by ${m.actor}` },
    { title: "Why", show: (m) => m.cancel_reason || m.reason },
  ], (m) => m.id, "The controller has nothing to move.");
}

function earlierTable() {
  return new Table("Earlier migrations", [
    { title: "Machine", show: (m, cell) => showLink(cell, m.vm, `#/migrations/${m.id}`) },
    { title: "From and to", show: (m) => `${m.source} → ${m.destination}` },
    { title: "Outcome", show: (m, cell) => showBadge(cell, phase(m.phase), phaseKind(m.phase)) },
    { title: "Pause", show: (m) => milliseconds(m.pause_ms) },
    { title: "Duration", show: (m) => duration(m.total_ms) },
    { title: "On the wire", show: (m) => bytes(m.wire_bytes) },
    { title: "Ended", show: (m) => time(m.finished) },
    { title: "Error", show: (m) => m.error?.message ?? "" },
  ], (m) => m.id, "None has ended yet.", ROWS_AT_ONCE);
}

function section(title, ...parts) {
  return h("section", { "aria-label": title }, h("h2", {}, title), ...parts);
}

export class Overview {
  constructor(context) {
    this.context = context;
    this.summary = h("p", { class: "summary" });
    this.store = h("p", { class: "summary" });
    this.alerts = new Alerts(context, () => true, "Nothing is wrong.");
    this.machines = new Machines(context);
    this.nodes = nodeTable(context);
    this.leader = h("p", { class: "summary" });
    this.cards = h("div", { class: "cards" });
    this.idle = new Absence("Nothing moves at the moment.", "What moves");
    this.running = new List(this.cards, (m) => m.id, (m) => this.makeCard(m), CARDS_AT_ONCE);
    this.earlier = earlierTable();
    this.figures = h("p", { class: "summary" });
    this.queue = queueTable();
    this.more = h("p", { class: "empty", hidden: true }, "There are more: novacron fleet list shows all.");
    this.fleet = section("Fleet", this.leader, this.nodes.element, h("h3", {}, "Queue"), this.queue.element, this.more);
    this.fleet.hidden = true;
    this.heading = h("h1", { tabindex: "-1" }, "This node");
    this.element = h("div", {}, this.heading, this.summary, this.store, this.alerts.element,
      section("Running migrations", this.idle.element, this.cards), this.machines.element, this.fleet,
      section("Earlier migrations", this.figures, this.earlier.element));
    this.title = "Overview";
    // every so many milliseconds
    this.polls = [[2000, () => this.askMigrations()], [2000, () => this.alerts.ask()], [5000, () => this.askMachines()], [10000, () => this.askNode()]];
  }

  makeCard(migration) {
    return new Card(migration, this.context, { isLive: this.running.parts.size < LIVE_CARDS });
  }

  async askMigrations() {
    const [active, ended, totals] = await answerFor([this.idle, this.earlier], () => Promise.all([get("migrations?state=active&limit=100"), get(`migrations?state=ended&limit=${EARLIER}`), get("migrations/dashboard")]));
    this.running.update(active.items);
    this.idle.update(active.items.length === 0);
    this.earlier.update(ended.items);
    const success = totals.success_rate === null ? "" : `, ${percent(totals.success_rate * 100)} of those that were not cancelled completed`;
    const pause = totals.pause_ms.count > 0 ? `, median pause ${milliseconds(totals.pause_ms.median)}, 95 % within ${milliseconds(totals.pause_ms.p95)}` : "";
    setText(this.figures, totals.migrations > 0 ? `${totals.migrations} in this node's records${success}${pause}.` : "");
  }

  async askMachines() {
    this.machines.update(await answerFor([this.machines], () => list("machines", 10000)));
  }

  async askNode() {
    const node = await get("node");
    setText(this.heading, `Node ${node.name}`);
    this.context.setNode(node.name);
    const expires = node.certificate_expires ? `, certificate until ${new Date(node.certificate_expires).toLocaleDateString()}` : "";
    setText(this.summary, `novacrond ${node.version}, QEMU ${node.qemu_version ?? UNKNOWN}, ${number(node.cpus)} CPUs, ${bytes(node.memory_available_bytes)} of ${bytes(node.memory_bytes)} memory free${expires}.`);
    await Promise.all([this.askStore(), node.controller ? this.askFleet() : null]);
  }

  /** Not every node has a page store, and what says so is no trouble. */
  async askStore() {
    const store = await get("store").catch((error) => (error.code ? null : Promise.reject(error)));
    setHidden(this.store, store === null);
    if (!store) return;
    const budget = store.budget_bytes > 0 ? ` of ${bytes(store.budget_bytes)}` : "";
    const state = store.failed ? " Writing to it failed." : store.read_only ? " It can only be read." : "";
    setText(this.store, `Page store: ${bytes(store.used_bytes)}${budget} used, ${bytes(store.free_bytes)} free, ${store.manifests} checkpoints, ${store.encrypted ? "encrypted" : "not encrypted"}.${state}`);
  }

  async askFleet() {
    const tables = [this.nodes, this.queue];
    const fleet = await answerFor(tables, () => get("fleet"));
    setHidden(this.fleet, false);
    setText(this.leader, fleet.leads ? "This node's controller leads." : `Leads: ${fleet.holder || "nobody"}${fleet.address ? ` (${fleet.address})` : ""}.`);
    const [nodes, machines, queue] = await answerFor(tables, () => Promise.all([list("fleet/nodes"), list("fleet/machines", 10000), get("fleet/migrations?unfinished=true")]));
    this.queue.update(queue.items);
    setHidden(this.more, queue.next === null);
    this.nodes.update(nodes.map((node) => {
      const there = machines.filter((machine) => machine.node === node.name);
      return { ...node, machines: there.length, used_bytes: there.reduce((sum, machine) => sum + machine.memory_bytes, 0) };
    }));
  }

  close() {
    this.running.close();
    this.machines.close();
  }
}
