// Keeps the live page current: pieces come rendered from the server, and what somebody is filling in stays as it is.
import { showTimes } from "./times.js";

const SAID_EVERY = 5000;               // milliseconds between two announcements
const link = document.getElementById("link");
const said = document.getElementById("said");
let ahead = 0;                         // milliseconds that this browser's clock is ahead of the server's
let known = null;                      // keys of the calls that were there at the last look
let unsaid = [];                       // new calls that nobody has been told of
let saidAt = -SAID_EVERY;

const place = (kind, name) => document.querySelector(`[data-${kind}="${CSS.escape(name)}"]`);
const isBusy = (row) => row.contains(document.activeElement) || row.querySelector("details[open]") !== null;

function tick() {
  for (const counter of document.querySelectorAll("[data-since]")) {
    const seconds = Math.max(0, Math.floor((Date.now() - ahead - Date.parse(counter.dataset.since)) / 1000));
    const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
    const two = (number) => String(number).padStart(2, "0");
    counter.textContent = h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
  }
  announce();
}

function elementOf(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.firstElementChild;
}

// The row as it is now. One with an open form keeps that, and takes the rest; what it could not take waits in `later`.
const later = new WeakMap();

function update(row, fresh) {
  if (!isBusy(row)) {
    row.replaceWith(fresh);
    return fresh;
  }
  row.querySelector(".facts")?.replaceWith(fresh.querySelector(".facts"));
  later.set(row, fresh.querySelector(".acts"));
  return row;
}

// Its call is over: a form that is open there goes only when its reader has closed it.
function leave(row) {
  if (!isBusy(row)) return row.remove();
  row.classList.add("over");
  for (const button of row.querySelectorAll("button")) button.disabled = true;
}

function settle(row) {
  if (isBusy(row)) return;
  if (row.classList.contains("over")) row.remove();
  else if (later.get(row)) {
    row.querySelector(".acts").replaceWith(later.get(row));
    later.delete(row);
  }
}

function takeList(list, { order, rows }) {
  const here = new Map([...list.children].map((row) => [row.dataset.key, row]));
  const wanted = new Set(order);
  for (const [key, row] of here) if (!wanted.has(key)) leave(row);
  let next = list.firstElementChild;
  for (const key of order) {
    let row = here.get(key);
    if (key in rows) {
      const fresh = elementOf(rows[key]);
      if (row === undefined) row = fresh;
      else {
        const wasNext = row === next;
        row = update(row, fresh);
        if (wasNext) next = row;
      }
    }
    while (next?.classList.contains("over")) next = next.nextElementSibling;
    if (row === next) next = next.nextElementSibling;
    else list.insertBefore(row, next);
  }
}

function take({ now, title, parts = {}, lists = {} }) {
  ahead = Date.now() - Date.parse(now);
  if (title !== undefined) document.title = `${title} · Smartswitch`;
  for (const [name, html] of Object.entries(parts)) {
    const part = place("part", name);
    if (part !== null) part.innerHTML = html;
  }
  for (const [name, change] of Object.entries(lists)) {
    const list = place("list", name);
    if (list !== null) takeList(list, change);
  }
  noteCalls();
  showTimes(document);
  tick();
}

// One sentence for a new call; of many at once only their number, so that a reader of the screen hears no flood.
function noteCalls() {
  const calls = [...document.querySelectorAll("[data-list=calls] > [data-said]")];
  if (known !== null) unsaid.push(...calls.filter((row) => !known.has(row.dataset.key)).map((row) => row.dataset.said));
  known = new Set(calls.map((row) => row.dataset.key));
}

function announce() {
  if (unsaid.length === 0 || Date.now() - saidAt < SAID_EVERY) return;
  said.textContent = unsaid.length === 1 ? unsaid[0] : said.dataset.many.replace("{n}", unsaid.length);
  [unsaid, saidAt] = [[], Date.now()];
}

function say(isWell) {
  link.textContent = isWell ? link.dataset.live : link.dataset.lost;
  link.classList.toggle("lost", !isWell);
}

function follow() {
  const events = new EventSource("/live");
  events.onopen = () => say(true);
  events.onmessage = (event) => take(JSON.parse(event.data));
  events.onerror = () => {
    say(false);
    // Closed for good: signed out, or too many pages are open. A reload shows which.
    if (events.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 10000);
  };
}

const rowOf = (element) => element.closest?.("[data-list] > *");
addEventListener("toggle", (event) => {
  const row = rowOf(event.target);
  if (event.target.open) event.target.querySelector("input:not([type=hidden])")?.focus();
  else if (row) settle(row);
}, true);
addEventListener("focusout", ({ target }) => {
  const row = rowOf(target);
  if (row) setTimeout(() => settle(row));        // by then the focus is where it goes to
});
addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && event.target.closest?.(".acts details[open]");
  if (open) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});

showTimes(document);
setInterval(tick, 1000);
follow();
