// Keeps the dashboard current: parts come rendered from the server, times and durations are shown as this browser likes.
"use strict";

const live = document.getElementById("live");
const history = document.getElementById("history");
const link = document.getElementById("link");
let ahead = 0;                         // milliseconds that this browser's clock is ahead of the server's

function showTimes(part) {
  const today = new Date().toDateString();
  for (const time of part.querySelectorAll("time:not([title])")) {
    const moment = new Date(time.dateTime);
    const clock = { hour: "2-digit", minute: "2-digit" };
    const day = moment.toDateString() === today ? {} : { day: "numeric", month: "short" };
    time.textContent = moment.toLocaleString([], { ...day, ...clock });
    time.title = moment.toLocaleString();
  }
}

function tick() {
  for (const counter of live.querySelectorAll("[data-since]")) {
    const seconds = Math.max(0, Math.floor((Date.now() - ahead - Date.parse(counter.dataset.since)) / 1000));
    const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
    const two = (number) => String(number).padStart(2, "0");
    counter.textContent = h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
  }
}

// Rows that are there already stay as they are: somebody may be listening, or reading.
function mergeRows(list, html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  const rows = [...template.content.children];
  const keys = new Set(rows.map((row) => row.dataset.key));
  const kept = new Map();
  for (const row of [...list.children]) {
    if (keys.has(row.dataset.key)) kept.set(row.dataset.key, row);
    else row.remove();
  }
  let place = list.firstElementChild;
  for (const row of rows) {
    if (place !== null && kept.get(row.dataset.key) === place) place = place.nextElementSibling;
    else list.insertBefore(kept.get(row.dataset.key) ?? row, place);
  }
}

function take(parts) {
  if ("now" in parts) ahead = Date.now() - Date.parse(parts.now);
  if ("title" in parts) document.title = `${parts.title} · Smartswitch`;
  if ("live" in parts) live.innerHTML = parts.live;
  if ("history" in parts) mergeRows(history, parts.history);
  showTimes(document);
  tick();
}

function say(word, isWell) {
  link.textContent = word;
  link.classList.toggle("lost", !isWell);
}

function follow() {
  const events = new EventSource("/live");
  events.onopen = () => say("live", true);
  events.onmessage = (event) => take(JSON.parse(event.data));
  events.onerror = () => {
    say("connecting…", false);
    // Closed for good: signed out, or too many pages are open. A reload shows which.
    if (events.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 10000);
  };
}

take({});
setInterval(tick, 1000);
follow();
