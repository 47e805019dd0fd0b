// SPDX-License-Identifier: Apache-2.0
// The page of this node's transaction log: who asked for what and what came of it, newest first, a page at a time.
import { get } from "./api.js";
import { answerFor, h, setHidden, setText, Table } from "./dom.js";
import { time } from "./format.js";

const ENTRIES = 50;

/** {"op": "machine.start", "args": {"name": "web1"}} is "op machine.start, args.name web1". */
function words(value, name = "") {
  if (value === null || value === undefined || value === "") return [];
  if (Array.isArray(value) || typeof value !== "object") return [`${name} ${Array.isArray(value) ? JSON.stringify(value) : value}`.trim()];
  return Object.entries(value).flatMap(([key, inner]) => words(inner, name ? `${name}.${key}` : key));
}

export class LogPage {
  constructor() {
    this.title = "Transaction log";
    this.before = null; // null: the newest
    this.table = new Table("Transaction log", [
      { title: "Number", show: (e) => `${e.seq}` },
      { title: "When", show: (e) => time(e.at) },
      { title: "Kind", show: (e) => e.kind },
      { title: "About", show: (e) => [e.subject, e.vm].filter(Boolean).join(", ") },
      { title: "Who", show: (e) => e.actor },
      { title: "What", show: (e) => words(e.detail).join(", ") },
    ], (e) => e.seq, "There is nothing in it.");
    this.where = h("p", { class: "summary", role: "status" });
    this.newest = h("button", { type: "button", onclick: () => this.go(null) }, "Newest");
    this.older = h("button", { type: "button", onclick: () => this.go(this.last) }, "Older");
    this.element = h("div", {}, h("h1", { tabindex: "-1" }, "Transaction log"),
      h("p", { class: "summary" }, "That nobody has altered it, novacron audit verify proves."), this.where,
      h("section", { "aria-label": "Entries" }, this.table.element, h("div", { class: "buttons" }, this.newest, this.older)));
    this.polls = [[5000, () => this.ask()]];
  }

  /** Older entries stay as they are: only the newest page is asked for again. */
  async ask() {
    if (this.before !== null && this.shown === this.before) return;
    const { before } = this;
    const { items } = await answerFor([this.table], () => get(`audit?limit=${ENTRIES}${before === null ? "" : `&before=${before}`}`));
    if (before !== this.before) return; // somebody has turned the page meanwhile
    this.shown = before;
    this.last = items.at(-1)?.seq ?? null;
    this.table.update(items);
    setText(this.where, items.length > 0 ? `Entries ${items[0].seq} to ${this.last}${before === null ? ", the newest" : ""}.` : "There are no older ones.");
    setHidden(this.newest, before === null);
    setHidden(this.older, this.last === null || this.last <= 1);
  }

  go(before) {
    this.before = before;
    this.ask().catch((error) => setText(this.where, error.message)); // polling shows it as trouble, too
  }

  close() {}
}
