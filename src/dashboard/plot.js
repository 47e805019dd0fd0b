// SPDX-License-Identifier: Apache-2.0
// The picture of converging or not: the rate of dirtying against the rate of sending. Below it stands the same in words.
import uPlot from "uplot";
import { nodeNow } from "./api.js";
import { h, setHidden, setText } from "./dom.js";
import { rate } from "./format.js";
import { rates } from "./samples.js";

const HEIGHT = 190;
const scheme = matchMedia("(prefers-color-scheme: dark)");

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function axis(more) {
  return { stroke: () => colour("muted"), grid: { stroke: () => colour("line"), width: 1 }, ticks: { stroke: () => colour("line"), width: 1 }, ...more };
}

/** Vertical lines where rounds began and the guest stood still: [{x, kind}] in `marks()`. */
function drawMarks(marks) {
  return (u) => {
    for (const mark of marks()) {
      const x = Math.round(u.valToPos(mark.x, "x", true));
      if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
      u.ctx.save();
      u.ctx.strokeStyle = colour(mark.kind === "pause" ? "bad" : "line-strong");
      u.ctx.lineWidth = mark.kind === "pause" ? 2 : 1;
      u.ctx.beginPath();
      u.ctx.moveTo(x, u.bbox.top);
      u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
      u.ctx.stroke();
      u.ctx.restore();
    }
  };
}

function marksOf(migration) {
  const start = Date.parse(migration.started ?? migration.created);
  return (migration.events ?? []).filter((e) => e.event === "round" || e.event === "guest-stopped")
    .map((e) => ({ x: (Date.parse(e.at) - start) / 1000, kind: e.event === "round" ? "round" : "pause" }));
}

function secondsOf(migration) {
  const start = Date.parse(migration.started ?? migration.created);
  const end = migration.finished ? Date.parse(migration.finished) : nodeNow();
  return Math.max((end - start) / 1000, 1);
}

function inWords(migration) {
  const last = migration.forecasts?.at(-1);
  const dirty = migration.outcome === null ? migration.dirty_rate_bps : last?.dirty_rate_bps;
  const effective = migration.outcome === null ? migration.effective_rate_bps : last?.effective_rate_bps;
  const unsaid = migration.outcome === null && !migration.postcopy && typeof migration.converges !== "boolean";
  if (!effective || unsaid) return "How fast the guest writes against how fast that can be sent is known after the first round.";
  const verdict = migration.postcopy && migration.outcome === null ? "Has switched to post-copy" : (migration.outcome === null ? migration.converges : last?.converges) === false ? "Does not converge" : "Converges";
  return `${verdict}: the guest dirties ${rate(dirty)}, and ${rate(effective)} of its memory leave${migration.outcome === null ? "" : " (at the last forecast)"}.`;
}

export class RatePlot {
  constructor() {
    this.holder = h("div", { class: "plot", "aria-hidden": "true" });
    this.words = h("figcaption");
    this.key = h("p", { class: "key", "aria-hidden": "true" }, h("span", { class: "key-dirty" }, "dirty rate"), h("span", { class: "key-effective" }, "effective rate"),
      h("span", { class: "key-round" }, "round begins"), h("span", { class: "key-pause" }, "guest stands still"));
    this.element = h("figure", {}, this.holder, this.key, this.words);
    this.marks = [];
    this.end = 1;
    this.redraw = () => this.plot?.redraw();
    scheme.addEventListener("change", this.redraw);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.holder);
  }

  make(width) {
    const line = (label, name, dash) => ({ label, stroke: () => colour(name), width: 2, dash, spanGaps: true, points: { show: true, size: 6 } });
    this.plot = new uPlot({
      width, height: HEIGHT, legend: { show: false }, cursor: { show: false },
      scales: { x: { time: false, range: () => [0, this.end] }, y: { range: (u, low, high) => [0, Math.max(high ?? 0, 1e6) * 1.1] } },
      axes: [axis({ size: 32, values: (u, values) => values.map((v) => `${v} s`) }), axis({ size: 76, values: (u, values) => values.map((v) => rate(v)) })],
      series: [{}, line("dirty rate", "dirty", [6, 4]), line("effective rate", "effective")],
      hooks: { drawAxes: [drawMarks(() => this.marks)] },
    }, this.data ?? [[], [], []], this.holder);
  }

  resize() {
    const width = Math.floor(this.holder.clientWidth);
    if (width < 50) return;
    if (!this.plot) this.make(width);
    else if (this.plot.width !== width) this.plot.setSize({ width, height: HEIGHT });
  }

  update(migration) {
    this.data = rates(migration);
    this.marks = marksOf(migration);
    this.end = secondsOf(migration);
    this.plot?.setData(this.data);
    const drawn = this.data[0].length > 0;
    setHidden(this.holder, !drawn);
    setHidden(this.key, !drawn);
    setText(this.words, inWords(migration));
  }

  close() {
    scheme.removeEventListener("change", this.redraw);
    this.observer.disconnect();
    this.plot?.destroy();
  }
}
