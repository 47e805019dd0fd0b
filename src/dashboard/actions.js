// SPDX-License-Identifier: Apache-2.0
// What changes something, each behind a dialog that says what will happen.
import { list, post } from "./api.js";
import { h, newId, setHidden, setText } from "./dom.js";
import { bytes, milliseconds, withError } from "./format.js";

/**
 * Asks; `act()` does it, and what it throws is shown while the dialog stays open. `parts`: what stands between title and
 * buttons. Where the focus came from it goes back to, as <dialog> has it.
 */
export function ask(title, parts, verb, act) {
  const id = newId();
  const wrong = h("p", { class: "complaint", role: "alert", hidden: true });
  const yes = h("button", { type: "submit", class: "main" }, verb);
  const no = h("button", { type: "button", onclick: () => dialog.close() }, "Leave it as it is");
  const form = h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      yes.disabled = true;
      setHidden(wrong, true);
      try {
        await act();
        dialog.close();
      } catch (error) {
        setText(wrong, error.message);
        setHidden(wrong, false);
      }
      yes.disabled = false;
    },
  }, h("h2", { id }, title), ...parts.filter(Boolean), wrong, h("div", { class: "buttons" }, no, yes));
  const dialog = h("dialog", { "aria-labelledby": id, onclose: () => dialog.remove() }, form);
  document.body.append(dialog);
  dialog.showModal();
}

export function cancel(migration, context) {
  const { id, vm, source, destination } = migration;
  ask(`Cancel the migration of ${vm}?`, [
    h("p", {}, `${vm} goes on running on ${source}. What has been sent to ${destination} is thrown away there, and the eight steps of a rollback are recorded.`),
    h("p", {}, "If it has been handed over already, the node refuses, and says so here."),
  ], "Cancel it", async () => {
    await post(`migrations/${encodeURIComponent(id)}/cancel`);
    context.say(`The migration of ${vm} is being cancelled.`);
  });
}

/** Of an evacuation or a batch: what waits, and, if that is wanted, what is under way. Of one that is being stopped only the latter is left to choose. */
export function cancelGroup(kind, group, context) {
  const name = newId();
  const isEvacuation = kind === "evacuation";
  const nodes = isEvacuation ? group.nodes.join(", ") : "";
  const under = group.migrations.running + group.migrations.starting;
  const isStopping = group.state === "cancelling";
  const choices = h("fieldset", {}, h("legend", {}, "What becomes of those under way?"),
    isStopping ? null : choice(name, "end", "They come to their end, and move. One that fails is not tried again, and goes on running where it is.", true),
    choice(name, "cancel", "They are cancelled, too: they go on running where they are, and what was sent is thrown away. One that has been handed over already moves all the same.", isStopping));
  ask(isStopping ? `Cancel what is still leaving ${nodes}, too?` : isEvacuation ? `Stop emptying ${nodes}?` : "Cancel this batch?", [
    h("p", {}, `What has moved stays where it is now. What waits does not begin, and goes on running where it is.${isEvacuation ? ` ${nodes} stays cordoned: nothing comes to it until somebody lets machines come again (novacron fleet uncordon). It can be emptied again later.` : ""}`),
    h("p", {}, `${under} machine${under === 1 ? " is" : "s are"} under way now.`),
    choices,
  ], isStopping ? "Cancel them" : isEvacuation ? "Stop it" : "Cancel it", async () => {
    const alsoRunning = choices.querySelector("input:checked").value === "cancel";
    const answer = await post(`fleet/${isEvacuation ? "evacuations" : "batches"}/${group.id}/cancel`, { also_running: alsoRunning, reason: "cancelled on the dashboard" });
    context.say(`It is being cancelled. Waiting, and staying now: ${answer.cancelled}; under way: ${answer.under_way}${answer.under_way > 0 ? (alsoRunning ? ", told to end" : ", coming to their end") : ""}.`);
  });
}

export function choice(name, value, label, checked) {
  return h("label", { class: "choice" }, h("input", { type: "radio", name, value, checked }), h("span", {}, label));
}

export function rollback(migration, context) {
  const { id, vm, source, checkpoint } = migration;
  const name = newId();
  const choices = h("fieldset", {}, h("legend", {}, "Which way?"),
    choice(name, "back", `Move ${vm}, as it is now, back to ${source}. It loses nothing, and stands still once more for a moment.`, true),
    checkpoint && context.mayAdminister ? choice(name, "to_checkpoint", `Set ${vm} back to the checkpoint taken before the migration. What it has done since is lost.`, false) : null);
  ask(`Undo the migration of ${vm}?`, [choices], "Undo it", async () => {
    const way = choices.querySelector("input:checked").value;
    await post(`migrations/${encodeURIComponent(id)}/rollback`, { [way]: true });
    context.say(`The migration of ${vm} is being undone.`);
  });
}

function planInWords(plan) {
  if (!plan.converges) return `Would not come to its end by itself: ${plan.reason}`;
  const disks = plan.disks?.length ? `, ${plan.disks.length} of its disks go with it` : "";
  return `About ${withError(plan.eta_ms, plan.eta_error_ms)}, standing still for ${milliseconds(plan.pause_ms)}, ${bytes(plan.wire_bytes)} on the wire${disks}. ${plan.reason}`;
}

export async function migrate(machine, context) {
  const others = (await list("nodes")).filter((node) => !node.local && node.state === "joined");
  if (others.length === 0) {
    context.say("There is no other node that it could go to.");
    return;
  }
  const to = h("select", {}, ...others.map((node) => h("option", { value: node.name }, node.name)));
  const plan = h("p", { class: "plan", role: "status" });
  const look = h("button", {
    type: "button",
    onclick: async () => {
      look.disabled = true;
      setText(plan, "Looking at the machine and the way there…");
      try {
        setText(plan, planInWords(await post("plans", { vm: machine.name, to: to.value })));
      } catch (error) {
        setText(plan, error.message);
      }
      look.disabled = false;
    },
  }, "What would it cost?");
  ask(`Migrate ${machine.name}?`, [
    h("label", { class: "field" }, h("span", {}, "To node"), to),
    h("p", {}, `${machine.name} moves with its memory, its devices and its local disks. It runs on meanwhile, stands still for a moment at the end, and leaves this node. If something breaks, it goes on in exactly one place.`),
    h("div", {}, look), plan,
  ], "Migrate", async () => {
    const migration = await post("migrations", { vm: machine.name, to: to.value });
    context.say(`${machine.name} is on its way to ${to.value}.`);
    location.hash = `#/migrations/${migration.id}`;
  });
}
