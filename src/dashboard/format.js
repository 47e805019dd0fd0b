// SPDX-License-Identifier: Apache-2.0
// Numbers for people, with their units on the same line. What is not known is a dash, never a zero.

export const UNKNOWN = "–";

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function scaled(value, step, units) {
  let i = 0;
  while (Math.abs(value) >= step && i < units.length - 1) {
    value /= step;
    i += 1;
  }
  return `${value.toFixed(i === 0 || value >= 100 ? 0 : 1)}\u00a0${units[i]}`;
}

/** Sizes of memory and disks. */
export function bytes(value) {
  return isNumber(value) ? scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]) : UNKNOWN;
}

/** Bytes per second, as links are counted. */
export function rate(value) {
  return isNumber(value) ? scaled(value, 1000, ["B/s", "kB/s", "MB/s", "GB/s"]) : UNKNOWN;
}

export function milliseconds(value) {
  if (!isNumber(value)) return UNKNOWN;
  if (value < 10) return `${value.toFixed(1)}\u00a0ms`;
  if (value < 1000) return `${Math.round(value)}\u00a0ms`;
  return duration(value);
}

/** From a second up. */
export function duration(ms) {
  if (!isNumber(ms)) return UNKNOWN;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(s < 10 ? 1 : 0)}\u00a0s`;
  if (s < 3600) return `${Math.floor(s / 60)}\u00a0min ${Math.floor(s % 60)}\u00a0s`;
  return `${Math.floor(s / 3600)}\u00a0h ${Math.floor((s % 3600) / 60)}\u00a0min`;
}

/** 12 s ± 3 s */
export function withError(ms, error) {
  if (!isNumber(ms)) return UNKNOWN;
  return isNumber(error) && error > 0 ? `${duration(ms)} ± ${duration(error)}` : duration(ms);
}

/** To the hundredth: of what happens at almost the same time. */
export function seconds(ms) {
  return ms < 3600000 ? `${(ms / 1000).toFixed(2)}\u00a0s` : duration(ms);
}

export function percent(value) {
  return isNumber(value) ? `${Math.floor(value)}\u00a0%` : UNKNOWN;
}

export function number(value, digits = 0) {
  return isNumber(value) ? value.toFixed(digits) : UNKNOWN;
}

/** Local time; with the day where it isn't today. */
export function time(text) {
  const at = text ? new Date(text) : null;
  if (!at || Number.isNaN(at.getTime())) return UNKNOWN;
  const clock = at.toLocaleTimeString().replace(/\s/g, "\u00a0");
  return at.toDateString() === new Date().toDateString() ? clock : `${at.toLocaleDateString()} ${clock}`;
}

const PHASES = {
  queued: "queued", checkpoint: "taking a checkpoint", prepare: "preparing", disk_copy: "copying disks", memory_copy: "copying memory",
  switchover: "switching over", handoff: "handing off", postcopy: "fetching the rest", verify: "verifying", rollback: "rolling back",
  completed: "completed", failed: "failed", cancelled: "cancelled", needs_attention: "needs attention",
};

export function phase(name) {
  return PHASES[name] ?? String(name ?? UNKNOWN);
}

export function phaseKind(name) {
  if (name === "completed") return "good";
  if (name === "failed" || name === "needs_attention") return "bad";
  return name === "cancelled" || name === "queued" ? "plain" : "busy";
}
