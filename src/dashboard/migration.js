// SPDX-License-Identifier: Apache-2.0
// The page of one migration.
import { Alerts } from "./alerts.js";
import { get } from "./api.js";
import { Card } from "./card.js";
import { h, setHidden, setText } from "./dom.js";
import { rate, time } from "./format.js";
import { Story, rollbackTable } from "./story.js";

const TURNS_AFTER_THE_END = 5; // somebody may still undo it

export class MigrationPage {
  constructor(context, id) {
    this.context = context;
    this.id = id;
    this.title = `Migration ${id}`;
    this.missing = h("p", { class: "empty" }, "Asking…");
    this.place = h("div");
    this.facts = h("p", { class: "summary" });
    this.alerts = new Alerts(context, (a) => a.migration === id, "None of this migration.");
    this.story = new Story();
    this.rollbacks = rollbackTable();
    this.back = h("section", { "aria-label": "Ways back", hidden: true }, h("h2", {}, "Ways back"), this.rollbacks.element);
    this.rest = h("div", { hidden: true }, this.facts, this.alerts.element, this.back, h("section", { "aria-label": "Story" }, h("h2", {}, "Story"), this.story.element));
    this.element = h("div", {}, h("p", {}, h("a", { href: "#/" }, "← Overview")), this.missing, this.place, this.rest);
    this.turn = 0;
    this.polls = [[2000, () => this.ask()], [2000, () => this.alerts.ask()]];
  }

  async ask() {
    this.turn += 1;
    if (this.ended && this.turn % TURNS_AFTER_THE_END !== 0) return;
    let migration;
    try {
      migration = await get(`migrations/${encodeURIComponent(this.id)}`);
    } catch (error) {
      if (error.code !== "not_found") throw error;
      setText(this.missing, `This node knows no migration ${this.id}.`);
      return;
    }
    if (this.isClosed) return; // left meanwhile: a card would watch on
    setHidden(this.missing, true);
    setHidden(this.rest, false);
    this.show(migration);
  }

  show(m) {
    if (!this.card) {
      this.card = new Card(m, this.context, { big: true, onEvent: () => this.askSoon() });
      this.place.append(this.card.element);
      this.context.focusHeading();
    } else {
      this.card.update(m);
    }
    const limit = m.bandwidth_limit_bps > 0 ? `, limited to ${rate(m.bandwidth_limit_bps)}` : "";
    const sha = m.sha256_equal === true ? "; both ends computed the same SHA-256" : m.sha256_equal === false ? "; the two ends computed DIFFERENT SHA-256" : "";
    setText(this.facts, `${m.id}: asked for ${time(m.created)}${m.finished ? `, ended ${time(m.finished)}` : ""}, algorithm ${m.algorithm ?? "auto"}, class ${m.qos ?? "normal"}${limit}${sha}.`);
    this.story.update(m);
    const steps = (m.rollbacks ?? []).flatMap((r) => r.steps.map((step) => ({ ...step, key: `${r.id}/${step.step}` })));
    setHidden(this.back, steps.length === 0);
    this.rollbacks.update(steps);
    // A rollback of an ended migration is still to be followed.
    this.ended = m.outcome !== null && !(m.rollbacks ?? []).some((r) => r.state === "running");
  }

  /** Its history has grown: the record tells more than the message. */
  askSoon() {
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.ask().catch(() => {}), 200);
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.soon);
    this.card?.close();
  }
}
