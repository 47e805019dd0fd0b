// SPDX-License-Identifier: Apache-2.0
// Making and renewing parts of the page. Text only ever becomes text: nothing here reads markup.

/** An element. `properties`: attributes, or listeners ("onclick": function); children: elements, texts, or null. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Only what differs is touched: a reader's place, a selection and a live region stay as they are. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

/**
 * Children of `parent`, one per item, kept from one update to the next: `make(item)` gives {element, update(item)}.
 * Of new ones `atOnce` are made in one piece, and as many in each frame after it: who types meanwhile does not wait for all of them.
 */
export class List {
  constructor(parent, keyOf, make, atOnce = Infinity) {
    this.parent = parent;
    this.keyOf = keyOf;
    this.make = make;
    this.atOnce = atOnce;
    this.parts = new Map();
  }

  update(items) {
    if (this.isClosed) return; // the answer came after its page had been left
    this.items = new Map();
    for (const item of items) if (!this.items.has(this.keyOf(item))) this.items.set(this.keyOf(item), item);
    // What goes, goes first, so that what stays need not be moved: a moved element loses the focus.
    for (const [key, part] of this.parts) {
      if (this.items.has(key)) continue;
      part.close?.();
      part.element.remove();
      this.parts.delete(key);
    }
    this.place(true);
  }

  /** `all`: with those that are there, too; else new ones only. */
  place(all) {
    let made = 0;
    let isWhole = true;
    let place = this.parent.firstElementChild;
    for (const [key, item] of this.items) {
      const isNew = !this.parts.has(key);
      if (isNew && made === this.atOnce) {
        isWhole = false;
        continue;
      }
      if (isNew) {
        this.parts.set(key, this.make(item));
        made += 1;
      }
      const part = this.parts.get(key);
      if (isNew || all) part.update(item);
      if (part.element === place) place = place.nextElementSibling;
      else this.parent.insertBefore(part.element, place);
    }
    cancelAnimationFrame(this.frame);
    if (!isWhole) this.frame = requestAnimationFrame(() => this.place(false));
  }

  close() {
    this.update([]);
    this.isClosed = true;
  }
}

/** What stands where there is nothing to show: that there is nothing, but only when somebody has said so, and as long as they say so. */
export class Absence {
  /** `unknown`: what is not known while nobody answers. */
  constructor(nothing, unknown = "What there is now") {
    this.nothing = nothing;
    this.unknown = unknown;
    this.element = h("p", { class: "empty" }, "Asking…");
  }

  update(isEmpty) {
    setText(this.element, this.nothing);
    setHidden(this.element, !isEmpty);
  }

  fail(error) {
    setText(this.element, `${this.unknown} is not known: ${error.message}.`);
  }
}

/** The answer to `ask`, for those `parts` (tables, absences) that show it: they are told where there is none. */
export async function answerFor(parts, ask) {
  try {
    return await ask();
  } catch (error) {
    for (const part of parts) part.fail(error);
    throw error;
  }
}

/**
 * A table that becomes a list of cards where it is narrow (its roles are named, since display takes them away there).
 * `columns`: [{title, show(item, cell)}]; show fills the cell, with a text as its result or by itself. `nothing`: what stands there
 * without rows, a text or an Absence. `atOnce`: of rows, as in List.
 */
export class Table {
  constructor(caption, columns, keyOf, nothing, atOnce) {
    this.columns = columns;
    this.body = h("tbody", { role: "rowgroup" });
    this.absence = nothing instanceof Absence ? nothing : new Absence(nothing);
    const titles = columns.map((column) => h("th", { role: "columnheader", scope: "col" }, column.title));
    this.table = h("table", { role: "table", "aria-label": caption },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...titles)), this.body);
    this.element = h("div", {}, this.table, this.absence.element);
    this.list = new List(this.body, keyOf, () => this.makeRow(), atOnce);
    setHidden(this.table, true);
  }

  makeRow() {
    const cells = this.columns.map((column, i) => h(i === 0 ? "th" : "td",
      i === 0 ? { role: "rowheader", scope: "row" } : { role: "cell", "data-title": column.title }));
    return {
      element: h("tr", { role: "row" }, ...cells),
      update: (item) => {
        this.columns.forEach((column, i) => {
          const text = column.show(item, cells[i]);
          if (text !== undefined) setText(cells[i], text);
        });
      },
    };
  }

  update(items) {
    this.list.update(items);
    setHidden(this.table, items.length === 0);
    this.absence.update(items.length === 0);
  }

  /** What it should show was asked for in vain; rows that are there stay. */
  fail(error) {
    this.absence.fail(error);
  }

  close() {
    this.list.close();
  }
}

/** A link in a cell, made once. */
export function showLink(cell, text, href) {
  const link = cell.querySelector("a") ?? cell.appendChild(h("a"));
  setText(link, text);
  if (link.getAttribute("href") !== href) link.setAttribute("href", href);
}

/** A word with a colour of its own: `kind` is good, bad, warn, busy or plain. */
export function showBadge(parent, text, kind) {
  const badge = parent.querySelector(".badge") ?? parent.appendChild(h("span", { class: "badge" }));
  setText(badge, text);
  badge.dataset.kind = kind;
}

let names = 0;

/** An id that nothing else has. */
export function newId() {
  names += 1;
  return `id-${names}`;
}
