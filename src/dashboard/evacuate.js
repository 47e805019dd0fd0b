// SPDX-License-Identifier: Apache-2.0
// Emptying a node: its plan first, and then, if somebody wants that, the evacuation.
import { ask } from "./actions.js";
import { post } from "./api.js";
import { h } from "./dom.js";
import { bytes, duration, milliseconds } from "./format.js";

const MOST = 50; // lines of each list

function summary(plan) {
  if (plan.moves.length === 0) return "There is nothing that it could move.";
  const wire = plan.moves.reduce((sum, move) => sum + move.wire_bytes, 0);
  const waves = plan.waves.length === 1 ? "one wave" : `${plan.waves.length} waves`;
  return `${plan.moves.length} machine${plan.moves.length === 1 ? " moves" : "s move"} in ${waves}: ${plan.is_at_least ? "at least" : "about"} ${duration(plan.seconds * 1000)} and ${bytes(wire)} on the wire.`;
}

function move(m) {
  return `${m.machine} → ${m.destination}: wave ${m.wave + 1}, about ${duration(m.seconds * 1000)}, stands still for ${milliseconds(m.pause_s * 1000)}${m.postcopy ? ", ends by post-copy" : ""}`;
}

function lines(title, items, line) {
  if (items.length === 0) return null;
  const rest = items.length > MOST ? [h("li", {}, `and ${items.length - MOST} more`)] : [];
  return h("div", {}, h("h3", {}, title), h("ul", { class: "lines", tabindex: "0", "aria-label": title }, ...items.slice(0, MOST).map((item) => h("li", {}, line(item))), ...rest));
}

export async function evacuate(node, context) {
  context.say(`How ${node.name} would be emptied is being planned.`);
  const plan = await post("fleet/evacuations/plan", { nodes: [node.name] });
  context.say("");
  const isPartial = plan.cannot_move.length > 0;
  const partial = h("input", { type: "checkbox", required: true });
  ask(`Empty ${node.name}?`, [
    h("p", {}, summary(plan)),
    lines("What moves", plan.moves, move),
    lines("What can't move, and stays", plan.cannot_move, (m) => `${m.machine}: ${m.reason}`),
    h("p", {}, `${node.name} is cordoned: nothing more comes to it, also afterwards, until somebody lets machines come again (novacron fleet uncordon ${node.name}). The plan is made anew when it begins, since things may have changed.`),
    isPartial ? h("label", { class: "choice" }, partial, h("span", {}, "Begin although some machines stay")) : null,
  ], "Empty it", async () => {
    const { id, state } = await post("migrations/evacuate", { nodes: [node.name], ...(isPartial ? { allow_partial: true } : {}) });
    if (state === "failed") throw new Error(`Things have changed: some machine can't move any more, and nothing was moved (${id}). Look at the plan again.`);
    context.say(`${node.name} is being emptied: ${id}.`);
    location.hash = `#/evacuations/${id}`;
  });
}
