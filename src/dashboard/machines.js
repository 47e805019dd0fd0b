// SPDX-License-Identifier: Apache-2.0
// The machines of this node: each can be found among many, and no more of them are drawn than are looked at.
import { migrate } from "./actions.js";
import { h, setHidden, setText, showBadge, Table } from "./dom.js";
import { bytes, number, UNKNOWN } from "./format.js";

const FEW = 20; // among so many one sees what one looks for
const SHOWN = 100; // rows at first, and more of them each time that somebody asks: a table's layout looks at all of its rows
const ROWS_AT_ONCE = 25;

const KINDS = { running: "good", paused: "plain", stopped: "plain", migrating: "busy", incoming: "busy", moved: "plain" };

const { compare } = new Intl.Collator(undefined, { numeric: true });
const ORDERS = {
  name: (a, b) => compare(a.name, b.name),
  state: (a, b) => compare(a.state, b.state) || compare(a.name, b.name),
  memory: (a, b) => (b.memory_mib ?? 0) - (a.memory_mib ?? 0) || compare(a.name, b.name),
};

function state(machine) {
  return machine.moved_to ? `${machine.state} to ${machine.moved_to}` : machine.state;
}

function showMigrate(machine, cell, context) {
  const button = cell.querySelector("button") ?? cell.appendChild(h("button", {
    type: "button",
    "aria-label": `Migrate ${machine.name}`,
    onclick: () => migrate(machine, context).catch((error) => context.say(error.message)),
  }, "Migrate…"));
  setHidden(button, machine.state !== "running" || Boolean(machine.migration));
}

function machineTable(context) {
  const columns = [
    { title: "Machine", show: (m) => m.name },
    { title: "State", show: (m, cell) => showBadge(cell, state(m), KINDS[m.state] ?? "plain") },
    { title: "Memory", show: (m) => (m.memory_mib ? bytes(m.memory_mib * 1024 * 1024) : UNKNOWN) },
    { title: "CPUs", show: (m) => number(m.vcpus) },
    { title: "Run right", show: (m) => `${m.right ?? UNKNOWN}, epoch ${number(m.epoch)}` },
  ];
  if (context.mayOperate) columns.push({ title: "Action", show: (m, cell) => showMigrate(m, cell, context) });
  return new Table("Machines", columns, (m) => m.name, "", ROWS_AT_ONCE);
}

export class Machines {
  constructor(context) {
    this.all = []; // none is known yet
    this.trouble = null; // why they are not known at the moment
    this.most = SHOWN;
    this.words = h("input", { type: "search", autocomplete: "off", oninput: () => this.begin() });
    this.order = h("select", { onchange: () => this.begin() }, ...Object.keys(ORDERS).map((name) => h("option", { value: name }, name)));
    this.bar = h("div", { class: "filter", hidden: true }, h("label", { class: "field" }, "Find a machine", this.words), h("label", { class: "field" }, "Sort by", this.order));
    this.table = machineTable(context);
    this.count = h("p", { class: "summary", role: "status" });
    this.more = h("button", { type: "button", class: "more", hidden: true, onclick: () => this.showMore() }, "Show more");
    this.element = h("section", { "aria-label": "Machines" }, h("h2", {}, "Machines"), this.bar, this.count, this.table.element, this.more);
  }

  update(machines) {
    this.all = machines;
    this.trouble = null;
    this.show();
  }

  fail(error) {
    this.trouble = error;
    this.table.fail(error);
  }

  /** Looked for anew: from the first ones on. */
  begin() {
    this.most = SHOWN;
    this.show();
  }

  showMore() {
    this.most += SHOWN;
    this.show();
  }

  show() {
    const words = this.words.value.trim().toLowerCase();
    const found = this.all.filter((m) => `${m.name} ${state(m)}`.toLowerCase().includes(words)).sort(ORDERS[this.order.value]);
    const shown = found.slice(0, this.most);
    const fit = words ? `${found.length} of ${this.all.length} fit` : `${this.all.length} machines`;
    setHidden(this.bar, this.all.length <= FEW && !words);
    setText(this.count, this.bar.hidden ? "" : `${fit}${shown.length < found.length ? `; the first ${shown.length} are shown` : ""}.`);
    this.table.absence.nothing = words ? "No machine fits." : "There are no machines on this node.";
    this.table.update(shown);
    if (this.trouble && !words) this.table.fail(this.trouble);
    setHidden(this.more, shown.length === found.length);
  }

  close() {
    this.table.close();
  }
}
