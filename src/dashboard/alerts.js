// SPDX-License-Identifier: Apache-2.0
// What the node complains of: a table, and a word to those who only listen when something begins or ends.
import { get } from "./api.js";
import { Absence, answerFor, h, setText, showBadge, showLink, Table } from "./dom.js";
import { time } from "./format.js";

function showSubject(alert, cell) {
  if (alert.migration) showLink(cell, `${alert.vm}, migration`, `#/migrations/${alert.migration}`);
  else setText(cell, alert.node);
}

function showState(alert, cell) {
  if (alert.state === "firing") showBadge(cell, alert.severity, alert.severity === "critical" ? "bad" : "warn");
  else showBadge(cell, "resolved", "good");
}

function period(alert) {
  return alert.resolved ? `${time(alert.fired)} to ${time(alert.resolved)}` : `since ${time(alert.fired)}`;
}

function explanation(alert) {
  if (alert.state !== "firing") return alert.summary;
  return `${alert.summary}. ${alert.remedy}${alert.inhibited_by ? ` (Nobody was told, because of ${alert.inhibited_by}.)` : ""}`;
}

export class Alerts {
  /** `fits(alert)`: which ones; `nothing`: what stands there when the node has said that there are none. */
  constructor(context, fits, nothing) {
    this.context = context;
    this.fits = fits;
    this.told = null; // ids of those that fired at the last look; none yet
    this.table = new Table("Alerts", [
      { title: "Alert", show: (a) => a.alert },
      { title: "State", show: showState },
      { title: "About", show: showSubject },
      { title: "When", show: period },
      { title: "What", show: explanation },
    ], (a) => a.id, new Absence(nothing, "Whether something is wrong"));
    this.element = h("section", { "aria-label": "Alerts" }, h("h2", {}, "Alerts"), this.table.element);
  }

  async ask() {
    const alerts = (await answerFor([this.table], () => get("alerts"))).items.filter(this.fits);
    this.table.update(alerts);
    this.announce(alerts.filter((a) => a.state === "firing" && !a.inhibited_by), alerts);
  }

  /** Only what is news since the last look: a page that is opened says nothing. */
  announce(firing, alerts) {
    const now = new Set(firing.map((a) => a.id));
    if (this.told) {
      for (const alert of firing) if (!this.told.has(alert.id)) this.context.say(`${alert.severity}: ${alert.summary}`);
      for (const alert of alerts) if (alert.state === "resolved" && this.told.has(alert.id)) this.context.say(`resolved: ${alert.summary}`);
    }
    this.told = now;
  }
}
