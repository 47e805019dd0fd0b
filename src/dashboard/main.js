// SPDX-License-Identifier: Apache-2.0
// Which page is shown, who looks at it, and asking the node again and again while somebody does.
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { get } from "./api.js";
import { CheckpointsPage } from "./checkpoints.js";
import { setHidden, setText } from "./dom.js";
import { GroupPage } from "./group.js";
import { LogPage } from "./log.js";
import { MigrationPage } from "./migration.js";
import { Overview } from "./overview.js";

const RETRY_MS = 3000;
const NEWS_MS = 20000;
const element = (id) => document.getElementById(id);

let page = null;
let node = "";

const context = {
  mayOperate: false,
  mayAdminister: false,
  nodeName: "",
  say: (text) => {
    setText(element("news"), text);
    clearTimeout(context.newsOver);
    context.newsOver = setTimeout(() => setText(element("news"), ""), NEWS_MS);
  },
  setNode: (name) => {
    node = name;
    context.nodeName = name;
    setText(element("where"), name);
    showTitle();
  },
  focusHeading: () => element("main").querySelector("h1")?.focus(),
};

function showTitle() {
  document.title = `${page?.title ?? "NovaCron"}${node ? ` · ${node}` : ""} · NovaCron`;
}

/** Which of the links at the top leads to what is shown. */
function showWhere() {
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === (location.hash || "#/")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function showTrouble(error) {
  setText(element("trouble"), error ? `Trouble: ${error.message}. What is shown may be old; trying again.` : "");
  setHidden(element("trouble"), !error);
}

/** Asks at once and then every so often, one question at a time, and not while nobody looks. */
function poll(owner, [pause, ask]) {
  let failed = false;
  const once = async () => {
    if (page !== owner) return;
    if (!document.hidden) {
      try {
        await ask();
        if (failed) owner.troubles -= 1;
        failed = false;
        if (page === owner && owner.troubles === 0) showTrouble(null);
      } catch (error) {
        if (!failed) owner.troubles += 1;
        failed = true;
        if (page === owner) showTrouble(error);
      }
    }
    setTimeout(once, failed ? Math.max(pause, RETRY_MS) : pause);
  };
  once();
}

const PAGES = { "#/checkpoints": CheckpointsPage, "#/log": LogPage };

function makePage() {
  if (PAGES[location.hash]) return new PAGES[location.hash](context);
  const [, what, id] = /^#\/(migrations|evacuations|batches)\/([A-Za-z0-9][A-Za-z0-9._-]{0,62})$/.exec(location.hash) ?? [];
  if (what === "migrations") return new MigrationPage(context, id);
  return what ? new GroupPage(context, what === "batches" ? "batch" : "evacuation", id) : new Overview(context);
}

function show(isFirst) {
  page?.close();
  page = makePage();
  page.troubles = 0;
  element("main").replaceChildren(page.element);
  showTitle();
  showWhere();
  if (!isFirst) context.focusHeading();
  page.polls.forEach((one) => poll(page, one));
}

async function begin() {
  try {
    const who = await get("whoami");
    context.mayOperate = who.role !== "viewer";
    context.mayAdminister = who.role === "admin";
    setText(element("who"), `${who.kind === "uid" ? "user " : ""}${who.name} (${who.role})`);
    context.setNode((await get("node")).name);
    showTrouble(null);
  } catch (error) {
    showTrouble(error);
    if (error.code !== "unauthenticated" && error.code !== "forbidden") setTimeout(begin, RETRY_MS);
    return;
  }
  addEventListener("hashchange", () => show(false));
  show(true);
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // its fragment would be a route
  element("main").focus();
});
begin();
