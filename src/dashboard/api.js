// SPDX-License-Identifier: Apache-2.0
// Asking the gate that this page came from.

/** What an answer other than success says (RFC 9457). */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || body?.title || `the node answered with status ${status}`);
    this.status = status;
    this.code = body?.code ?? "";
  }
}

const PATIENCE_MS = 40000; // the gate gives novacrond 30 s
const SLOW_PATIENCE_MS = 190000; // and 180 s for what is slow

let offsetMs = 0;

/** Milliseconds since 1970 by the node's clock, as far as it says: times of migrations are that one's, and a browser's may be minutes off. */
export const nodeNow = () => Date.now() + offsetMs;

function hearClock(answer) {
  const said = Date.parse(answer.headers.get("Date") ?? "");
  if (Number.isNaN(said)) return;
  const off = said + 500 - Date.now(); // it says whole seconds
  offsetMs = Math.abs(off) > 3000 ? off : 0;
}

async function ask(method, path, body, patience) {
  const options = { method, signal: AbortSignal.timeout(patience), headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(`/api/v2/${path}`, options);
  } catch (error) {
    throw new Error(error.name === "TimeoutError" ? "the node took too long to answer" : "the node can't be reached");
  }
  hearClock(answer);
  const json = await answer.json().catch(() => null);
  if (!answer.ok) throw new Problem(answer.status, json);
  return json;
}

export const get = (path) => ask("GET", path, undefined, PATIENCE_MS);
export const post = (path, body) => ask("POST", path, body, SLOW_PATIENCE_MS);

export const remove = (path) => ask("DELETE", path, undefined, SLOW_PATIENCE_MS);

/** All pages of a list, up to `most` items. */
export async function list(path, most = 1000) {
  const items = [];
  let cursor = null;
  do {
    const separator = path.includes("?") ? "&" : "?";
    // As it is: the gate takes no %-escapes, and its cursors need none.
    const page = await get(cursor === null ? path : `${path}${separator}cursor=${cursor}`);
    items.push(...page.items);
    if (page.next === cursor) break;
    cursor = page.next;
  } while (cursor !== null && items.length < most);
  return items;
}
