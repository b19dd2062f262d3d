// The script of `misaki ui`: it replaces the changing part of a screen when something came, and knows some keys.
// Everything works without it, and it remembers nothing.

const LOST = "✗ The connection is lost. Trying again…";
const ANEW = "✗ The page was started anew: open the address that it printed";
/** The pause before the first of several tries, and the longest. */
const RETRY = 1000;
const RETRY_MOST = 60_000;
const part = document.getElementById("part");
const header = document.querySelector("header");

/** Makes an element. */
const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};

// Live updates

const live = {
  isPaused: false,
  isFetching: false,
  isPressed: false,
  /** Why nothing comes; empty if it does. */
  trouble: "",
  retry: RETRY,
  /** Something came that is not shown yet. */
  isStale: false,
  /** When the part may be asked for again: a screen that takes long is asked for less often. */
  notBefore: 0,
  timer: 0,
  /** The text of the part that is shown. */
  shown: null,
};
const pause = make("button", { type: "button", id: "pause", title: "p" });
const note = make("p", { className: "connection" });
note.setAttribute("role", "status");
header.append(make("div", { className: "controls" }, note, pause));

const tell = () => {
  const isHeld = isBusy();
  pause.textContent = live.isPaused ? "Live" : "Pause";
  note.textContent =
    live.trouble ||
    (live.isPaused
      ? "Paused"
      : isHeld && live.isStale
        ? "Waiting for your selection"
        : (part.querySelector("[data-state]")?.dataset.state ?? "● Live"));
  note.classList.toggle("bad", live.trouble !== "");
};

/** Whether a replacement would disturb: text is selected, a field is in use or the mouse is pressed. */
const isBusy = () => {
  const selection = getSelection();
  const isSelected = !selection.isCollapsed && selection.containsNode(part, true);
  return isSelected || live.isPressed || (document.activeElement?.matches("#part :is(input, select, textarea)") ?? false);
};

const refresh = async () => {
  if (live.isFetching || live.isPaused || document.hidden || isBusy()) {
    live.isStale = true;
    return tell();
  }
  const begun = performance.now();
  if (begun < live.notBefore) {
    live.isStale = true;
    return catchUpLater();
  }
  live.isFetching = true;
  live.isStale = false;
  try {
    const url = new URL(location.href);
    url.searchParams.set("part", "1");
    const text = await ask(url);
    troubled("");
    if (live.isPaused || isBusy()) live.isStale = true;
    else if (text !== live.shown) show(text);
  } catch (error) {
    troubled(error);
  } finally {
    live.isFetching = false;
    live.notBefore = performance.now() + 4 * (performance.now() - begun);
    if (live.isStale) catchUpLater();
    tell();
  }
};

/** Catches up with what came meanwhile. */
const catchUp = () => (live.isStale ? refresh() : tell());

/** The same as soon as the part may be asked for again. Timers may fire a moment early. */
const catchUpLater = () => {
  clearTimeout(live.timer);
  live.timer = setTimeout(catchUp, Math.max(0, live.notBefore - performance.now()) + 5);
};

/** Gets a text of this server. It refuses whoever has the cookie of an earlier one at this port. */
const ask = async (url) => {
  const response = await fetch(url);
  if (response.status === 403) throw ANEW;
  // Also one that is not here may come.
  if (!response.ok && response.status !== 404) throw LOST;
  return response.text();
};

const troubled = (why) => {
  live.trouble = why && why !== ANEW ? LOST : why;
  tell();
};

/** What a row or link is called, so that it is found again after a replacement. */
const called = (element) => {
  if (element.id) return `#${CSS.escape(element.id)}`;
  const address = element.getAttribute("href");
  // A picture may have the same link as a row.
  const place = element.closest("[data-row]") ? "[data-row] " : "";
  return address === null ? null : `${place}[href="${CSS.escape(address)}"]`;
};

/** Replaces the part; the focus, open details and scroll positions stay. */
const show = (text) => {
  const focused = document.activeElement?.closest("#part *");
  const row = focused?.closest("[data-row]");
  const place = focused && { name: called(focused), row: row && rows().indexOf(row), isRow: focused === row };
  const details = [...part.querySelectorAll("details[id]")].map(({ id, open }) => ({ id, open }));
  const scrolled = [...part.querySelectorAll("[id]")]
    .filter(({ scrollTop, scrollLeft }) => scrollTop || scrollLeft)
    .map(({ id, scrollTop, scrollLeft }) => ({ id, scrollTop, scrollLeft }));
  const anchor = anchored();
  part.innerHTML = text;
  live.shown = text;
  decorate();
  for (const { id, open } of details) {
    const again = document.getElementById(id);
    if (again) again.open = open;
  }
  for (const { id, ...position } of scrolled) Object.assign(document.getElementById(id) ?? {}, position);
  const found = anchor && part.querySelector(anchor.name);
  if (found) scrollBy({ top: found.getBoundingClientRect().top - anchor.top, behavior: "instant" });
  if (place) {
    const again = (place.name && part.querySelector(place.name)) ?? focusable(rows()[place.row]);
    again?.focus({ preventScroll: true });
  }
};

/** The first visible row, if one has scrolled down to it: what comes above must not move it. */
const anchored = () => {
  if (scrollY === 0) return null;
  for (const row of rows()) {
    const { top } = row.getBoundingClientRect();
    const link = row.querySelector("a[href]");
    if (top >= 0 && link) return { name: called(link), top: link.getBoundingClientRect().top };
  }
  return null;
};

const toggle = () => {
  live.isPaused = !live.isPaused;
  catchUp();
};

/** Browsers open few connections to one server, so a hidden page has none. */
let events = null;

const listen = () => {
  if (document.hidden || (events && events.readyState !== EventSource.CLOSED)) return;
  events = new EventSource("/live");
  events.addEventListener("version", refresh);
  events.addEventListener("open", () => {
    live.retry = RETRY;
    troubled("");
  });
  events.addEventListener("error", async () => {
    if (live.isUnloading) return;
    // The browser would try again at the same pace, and does not tell why it failed.
    events.close();
    try {
      await ask("/icon.svg");
      troubled(LOST);
    } catch (error) {
      troubled(error);
    }
    if (live.trouble === ANEW) return;
    setTimeout(listen, live.retry);
    live.retry = Math.min(2 * live.retry, RETRY_MOST);
  });
};

pause.addEventListener("click", toggle);
addEventListener("pagehide", () => (live.isUnloading = true));
addEventListener("pageshow", () => (live.isUnloading = false));
document.addEventListener("visibilitychange", () => {
  if (document.hidden) events?.close();
  listen();
  catchUp();
});
document.addEventListener("selectionchange", catchUp);
part.addEventListener("focusout", () => setTimeout(catchUp));
part.addEventListener("pointerdown", () => (live.isPressed = true));
for (const end of ["pointerup", "pointercancel"]) {
  addEventListener(end, () => {
    live.isPressed = false;
    // After the click.
    setTimeout(catchUp);
  });
}

// Copying

/** Gives each element with `data-copy` a button that copies that text, or the element's own. */
const decorate = () => {
  for (const element of document.querySelectorAll("[data-copy]:not([data-copyable])")) {
    element.dataset.copyable = "";
    const button = make("button", { type: "button", className: "copy", textContent: "Copy" });
    button.addEventListener("click", () => copy(element, button));
    element.after(button);
  }
};

const copy = async (element, button) => {
  try {
    await navigator.clipboard.writeText(element.dataset.copy || (element.value ?? element.textContent));
    button.textContent = "Copied";
  } catch {
    // It is selected instead.
    getSelection().selectAllChildren(element);
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
};

// Keys

const KEYS = [
  ["/", "search"],
  ["j k", "next and previous row"],
  ["Enter", "open the row"],
  ["Esc", "leave the field, the row, the filter, the screen"],
  ["p", "pause, or go on"],
  ["?", "these keys"],
];

const help = make(
  "dialog",
  { id: "keys" },
  make("h2", { id: "keys-title", textContent: "Keys" }),
  make("dl", {}, ...KEYS.flatMap(([key, what]) => [make("dt", {}, make("kbd", { textContent: key })), make("dd", { textContent: what })])),
  make("form", { method: "dialog" }, make("button", { textContent: "Close" })),
);
help.setAttribute("aria-labelledby", "keys-title");
document.body.append(help);
const keys = make("button", { type: "button", textContent: "?", title: "Keys" });
keys.setAttribute("aria-label", "Keys");
keys.addEventListener("click", () => help.showModal());
pause.after(keys);

const rows = () => [...document.querySelectorAll("main [data-row]")];

/** The element of a row that takes the focus: its first link, else itself. */
const focusable = (row) => {
  const inside = row?.querySelector("a[href], summary, button");
  if (inside || !row) return inside;
  row.tabIndex = -1;
  return row;
};

const move = (step) => {
  const all = rows();
  const here = all.indexOf(document.activeElement?.closest("[data-row]"));
  const next = here < 0 ? all.find((row) => row.getBoundingClientRect().top >= 0) : all[here + step];
  const row = next ?? all[here];
  focusable(row)?.focus({ preventScroll: true });
  row?.scrollIntoView({ block: "nearest" });
};

const back = (event) => {
  const focused = document.activeElement;
  if (focused?.matches("input, select, textarea")) {
    if (focused.type === "search" && focused.value) focused.value = "";
    else focused.blur();
  } else if (focused?.closest("[data-row]")) focused.blur();
  else if (document.querySelector("header nav [aria-current]") && location.search) location.assign(location.pathname);
  else if (!document.querySelector("header nav [aria-current]") && history.length > 1) history.back();
  else return;
  event.preventDefault();
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || help.open) return;
  const isTyping = event.target.matches?.("input, select, textarea, [contenteditable]");
  if (event.key === "Escape") return back(event);
  if (isTyping) return;
  const actions = {
    "/": () => document.querySelector("main input[type=search]")?.select(),
    j: () => move(1),
    k: () => move(-1),
    p: toggle,
    "?": () => help.showModal(),
    Enter: () => event.target.matches("[data-row]") && event.target.querySelector("a[href]")?.click(),
  };
  const action = Object.hasOwn(actions, event.key) ? actions[event.key] : null;
  if (!action) return;
  if (event.key !== "Enter") event.preventDefault();
  action();
});

decorate();
tell();
listen();
