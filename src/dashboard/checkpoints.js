// SPDX-License-Identifier: Apache-2.0
// The page of this node's checkpoints: what there is, whether it was verified, and what may be done with it.
import { ask, choice } from "./actions.js";
import { list, post, remove } from "./api.js";
import { h, newId, setHidden, setText, showBadge, Table } from "./dom.js";
import { bytes, milliseconds, percent, time, UNKNOWN } from "./format.js";

const STATE_KINDS = { ready: "good", making: "busy", failed: "bad", damaged: "bad", cancelled: "plain" };
const DOING = { verify: "being verified", restore: "being restored", copy: "being copied" };
const NAME = "[A-Za-z0-9][A-Za-z0-9._\\-]{0,62}";

function state(c) {
  return c.state === "making" ? `making, ${percent(c.progress)}` : c.state;
}

/** What was done with it last, and how that ended. */
function activity(c) {
  const a = c.activity;
  if (!a) return "not since novacrond started";
  if (a.state === "running") return `${DOING[a.what] ?? a.what}, ${percent(a.progress)}`;
  if (a.error) return `${a.what} failed: ${a.error.message ?? a.error.code}`;
  if (a.what === "verify") return a.lost?.length ? `verified: ${a.lost.length} blocks are lost` : "verified: all of it is there";
  if (a.what === "restore") return `restored as ${a.machine ?? c.machine}${a.warnings?.length ? `: ${a.warnings.join("; ")}` : ""}`;
  return `copied to ${a.node ?? UNKNOWN}`;
}

function kind(c) {
  if (c.scheduled) return "by the clock";
  return c.migration ? `before ${c.migration}` : c.copied ? `from ${c.copied.from}` : "";
}

// --- what changes something ---

function verify(c, context) {
  ask(`Verify the checkpoint of ${c.machine}?`, [
    h("p", {}, `Every block of it is read and compared with its SHA-256: up to ${bytes(c.data_bytes)}. Nothing is changed; migrations that run meanwhile may be slowed down by the reading.`),
  ], "Verify it", async () => {
    await post(`checkpoints/${encodeURIComponent(c.id)}/verify`);
    context.say(`The checkpoint of ${c.machine} is being verified.`);
  });
}

function restore(c, context) {
  const group = newId();
  const name = h("input", { type: "text", value: `${c.machine}-copy`, required: true, pattern: NAME, maxlength: "63", autocomplete: "off", spellcheck: "false" });
  const paused = h("input", { type: "checkbox" });
  const field = h("label", { class: "field" }, h("span", {}, "Its name"), name);
  const ways = h("fieldset", {
    onchange: () => {
      const isCopy = ways.querySelector("input:checked").value === "as";
      setHidden(field, !isCopy);
      name.disabled = !isCopy;
    },
  }, h("legend", {}, "What becomes of it?"),
    choice(group, "as", `A new machine beside ${c.machine}, with disks and MAC addresses of its own. Its guest still believes in the original's addresses.`, true),
    choice(group, "force", `${c.machine} itself, as it was at ${time(c.created)}. If it runs, it is stopped; what it has done since, in memory and on its disks, is lost.`, false));
  ask(`Restore the checkpoint of ${c.machine}?`, [
    h("p", {}, "All of it is verified first: of a damaged one nothing is restored."), ways, field,
    h("label", { class: "choice" }, paused, h("span", {}, "Do not let the guest run yet")),
  ], "Restore it", async () => {
    const way = ways.querySelector("input:checked").value;
    await post(`checkpoints/${encodeURIComponent(c.id)}/restore`, { ...(way === "as" ? { as: name.value } : { force: true }), ...(paused.checked ? { paused: true } : {}) });
    context.say(`The checkpoint of ${c.machine} is being restored${way === "as" ? ` as ${name.value}` : ""}.`);
  });
}

function drop(c, context) {
  const isMaking = c.state === "making";
  ask(`Delete the checkpoint of ${c.machine}?`, [
    h("p", {}, isMaking ? "It is being made: that is given up. The machine runs on." : `${c.machine} can't be set back to ${time(c.created)} any more. The machine and other checkpoints stay as they are; room that nothing else needs is freed when the store is collected.`),
  ], "Delete it", async () => {
    await remove(`checkpoints/${encodeURIComponent(c.id)}`);
    context.say(`The checkpoint of ${c.machine} is deleted.`);
  });
}

const ACTIONS = [["Verify", verify, (c) => c.state === "ready" || c.state === "damaged"], ["Restore", restore, (c, context) => context.mayAdminister && c.state === "ready"],
  ["Delete", drop, (c, context) => context.mayAdminister]]; // what may be done, by whom: src/gate/routes.c

function showActions(c, cell, context) {
  cell.item = c; // the buttons stay, what they are about is renewed
  if (!cell.firstElementChild) {
    cell.append(h("div", { class: "buttons" }, ...ACTIONS.map(([word, act]) => h("button", {
      type: "button",
      "aria-label": `${word} the checkpoint of ${c.machine} of ${time(c.created)}`,
      onclick: () => act(cell.item, context),
    }, `${word}…`))));
  }
  ACTIONS.forEach(([, , isPossible], i) => setHidden(cell.firstElementChild.children[i], !isPossible(c, context) || (c.activity?.state === "running" && c.state !== "making")));
}

// --- the page ---

export class CheckpointsPage {
  constructor(context) {
    this.title = "Checkpoints";
    const columns = [
      { title: "Machine", show: (c) => c.machine },
      { title: "Made", show: (c) => time(c.created) },
      { title: "State", show: (c, cell) => showBadge(cell, state(c), STATE_KINDS[c.state] ?? "plain") },
      { title: "Label", show: (c) => c.label || kind(c) },
      { title: "Memory and disks", show: (c) => bytes(c.bytes) },
      { title: "Of that new", show: (c) => bytes(c.new_bytes) },
      { title: "In the store", show: (c) => bytes(c.stored_bytes) },
      { title: "Pause", show: (c) => milliseconds(c.pause_ms) },
      { title: "Since then", show: (c) => [activity(c), c.warning, c.error?.message].filter(Boolean).join(". ") },
    ];
    if (context.mayOperate) columns.push({ title: "Action", show: (c, cell) => showActions(c, cell, context) });
    this.table = new Table("Checkpoints", columns, (c) => c.id, "There are no checkpoints on this node.");
    this.summary = h("p", { class: "summary" });
    this.element = h("div", {}, h("h1", { tabindex: "-1" }, "Checkpoints"), this.summary, h("section", { "aria-label": "Checkpoints" }, this.table.element));
    this.polls = [[3000, () => this.ask()]];
  }

  /** A node without a page store says so, and that is no trouble. */
  async ask() {
    let items = [];
    let text;
    try {
      items = (await list("checkpoints", 10000)).reverse();
      text = `${items.length} on this node, newest first.`;
    } catch (error) {
      if (error.code !== "not_found") {
        this.table.fail(error);
        throw error;
      }
      text = error.message;
    }
    this.table.update(items);
    setText(this.summary, text);
  }

  close() {}
}
