// SPDX-License-Identifier: Apache-2.0
// Everything that happened to a migration, on one axis of time: its history, and what was expected at the end of each round.
import { Table, showBadge } from "./dom.js";
import { milliseconds, rate, seconds, time, withError } from "./format.js";
import { memoryBegan } from "./samples.js";

const WARNINGS = new Set(["warning", "error", "corrupt", "needs_attention", "connection-lost", "session-lost", "flow-broken", "cut-off", "source-lost"]);
const STEPS = new Set(["guest-stopped", "released", "started", "finished", "grant", "loaded", "done", "phase"]);
const DECISIONS = new Set(["go-on", "throttle", "post-copy", "wait", "stop"]);

function kindOf(event, detail) {
  if (event === "alert") return / resolved: /.test(detail) ? "good" : "bad";
  if (WARNINGS.has(event) || event.startsWith("attempt ")) return "bad";
  if (DECISIONS.has(event) || event === "forecast") return "busy";
  return STEPS.has(event) ? "good" : "plain";
}

function forecastInWords(f) {
  const end = f.converges ? `ends in ${withError(f.eta_ms, f.eta_error_ms)}, pause ${milliseconds(f.pause_ms)} ± ${milliseconds(f.pause_error_ms)}` : "does not converge";
  const throttle = f.throttle ? `, guest slowed by ${f.throttle} %` : "";
  return `after round ${f.round}: ${end}; dirties ${rate(f.dirty_rate_bps)}, ${rate(f.effective_rate_bps)} leave. Decision: ${f.decision}${throttle}`;
}

function linesOf(m) {
  const began = memoryBegan(m);
  const lines = (m.events ?? []).map((e, i) => ({ key: `e${i}`, at: Date.parse(e.at), event: e.event, detail: e.detail ?? "" }));
  if (began !== null) (m.forecasts ?? []).forEach((f, i) => lines.push({ key: `f${i}`, at: began + f.at_ms, event: "forecast", detail: forecastInWords(f) }));
  for (const attempt of m.attempts ?? []) {
    lines.push({ key: `a${attempt.attempt}`, at: Date.parse(attempt.ended), event: `attempt ${attempt.attempt} failed`, detail: attempt.error?.message ?? "" });
  }
  return lines.sort((a, b) => a.at - b.at);
}

export class Story {
  constructor() {
    this.start = 0;
    this.table = new Table("Story", [
      { title: "After", show: (line) => seconds(Math.max(0, line.at - this.start)) },
      { title: "At", show: (line) => time(new Date(line.at).toISOString()) },
      { title: "What", show: (line, cell) => showBadge(cell, line.event, kindOf(line.event, line.detail)) },
      { title: "More", show: (line) => line.detail },
    ], (line) => line.key, "Nothing has happened yet.");
    this.element = this.table.element;
  }

  update(m) {
    this.start = Date.parse(m.started ?? m.created);
    this.table.update(linesOf(m).filter((line) => !Number.isNaN(line.at)));
  }
}

/** The eight steps of each way back that was begun. */
export function rollbackTable() {
  return new Table("Ways back", [
    { title: "Step", show: (step) => `${step.step} ${step.name}` },
    { title: "State", show: (step) => step.state },
    { title: "Detail", show: (step) => step.detail },
  ], (step) => step.key, "There was no way back.");
}
