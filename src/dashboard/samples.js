// SPDX-License-Identifier: Apache-2.0
// How fast a guest dirtied its memory and how fast that was sent, over the time of its migration: what the record's forecasts
// say of the ends of rounds, and what this page saw in between.

import { nodeNow } from "./api.js";

const MOST = 2000;
const seen = new Map(); // id of a migration: [{at, dirty, effective}]

/** When memory began to flow in this attempt, as milliseconds since 1970; null: not yet. */
export function memoryBegan(migration) {
  const first = (migration.events ?? []).findLast((event) => event.event === "round" && event.detail === "1");
  return first ? Date.parse(first.at) : null;
}

/** Takes a record in as it is now. */
export function addSample(migration, now = nodeNow()) {
  if (migration.outcome !== null || !migration.effective_rate_bps) return;
  if (!seen.has(migration.id)) seen.set(migration.id, []);
  const samples = seen.get(migration.id);
  const last = samples.at(-1);
  if (last && last.dirty === migration.dirty_rate_bps && last.effective === migration.effective_rate_bps && now - last.at < 5000) return;
  samples.push({ at: now, dirty: migration.dirty_rate_bps ?? null, effective: migration.effective_rate_bps });
  if (samples.length > MOST) samples.shift();
}

/** [[seconds since the start], [dirty], [effective]], by time. */
export function rates(migration) {
  const start = Date.parse(migration.started ?? migration.created);
  const began = memoryBegan(migration);
  const points = [...(seen.get(migration.id) ?? [])];
  if (began !== null) {
    for (const forecast of migration.forecasts ?? []) {
      points.push({ at: began + forecast.at_ms, dirty: forecast.dirty_rate_bps, effective: forecast.effective_rate_bps });
    }
  }
  points.sort((a, b) => a.at - b.at);
  return [points.map((p) => (p.at - start) / 1000), points.map((p) => p.dirty), points.map((p) => p.effective)];
}
