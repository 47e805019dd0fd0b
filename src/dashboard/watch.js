// SPDX-License-Identifier: Apache-2.0
// Watching over a WebSocket a migration, or what the fleet's controllers manage: taken up again behind the last message that is known, until it has ended.

const ENDS = new Set(["completed", "failed", "cancelled"]);
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;
const OVER = 1000; // how the gate closes when nothing more will come

export class Watch {
  /** `path`: of what is watched, behind /api/v2/. `onMessage(message)` as WatchMessage in openapi.json; `onLink(isUp)`. `since`: as there; undefined: everything. */
  constructor(path, { since, onMessage, onLink }) {
    this.path = path;
    this.since = since;
    this.onMessage = onMessage;
    this.onLink = onLink;
    this.wait = FIRST_WAIT_MS;
    this.over = false;
    this.open();
  }

  open() {
    const url = new URL(`/api/v2/${this.path}/ws`, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    if (this.since !== undefined) url.searchParams.set("since", this.since);
    this.socket = new WebSocket(url);
    this.socket.addEventListener("open", () => {
      if (this.over) return;
      this.wait = FIRST_WAIT_MS;
      this.onLink(true);
    });
    this.socket.addEventListener("message", (event) => this.take(JSON.parse(event.data)));
    this.socket.addEventListener("close", (event) => this.closed(event.code));
  }

  take(message) {
    if (this.over) return;
    this.since = message.id;
    if (ENDS.has(message.type)) this.over = true;
    this.onMessage(message);
  }

  /** Refused (all places may be taken), or lost. Polling goes on meanwhile: nothing is missed but the smoothness. */
  closed(code) {
    if (this.over) return;
    this.onLink(false);
    if (code === OVER) {
      this.over = true;
      return;
    }
    this.timer = setTimeout(() => this.open(), this.wait);
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
  }

  close() {
    this.over = true;
    clearTimeout(this.timer);
    const { socket } = this;
    if (socket.readyState === WebSocket.CONNECTING) socket.addEventListener("open", () => socket.close()); // closed before, it would be told as a failure
    else socket.close();
  }
}
