// Keeps a page up to date by server-sent events. The server's page is the one truth: when something has changed, the
// page is read anew, and its parts that differ are put in place. Without this script a reload does the same.
import { refreshTimes } from "./page.js";
import { appendLines } from "./log.js";

const root = document.querySelector("[data-live]");
const OFTEN = 400; // milliseconds between two readings, at least
const AGAIN = 15000; // after which a refused stream is tried again
const PATIENCE = 20000; // after which a page that nobody sees gives its stream back: there are few of them

let reading = false;
let stale = false;

function openKeys(part) {
  return [...part.querySelectorAll("details[open][data-key]")].map((each) => each.dataset.key);
}

function replace(part, fresh) {
  if (part.innerHTML === fresh.innerHTML) return;
  const open = openKeys(part);
  const focused = document.activeElement && part.contains(document.activeElement) ? document.activeElement : null;
  const address = focused ? focused.getAttribute("href") : null;
  for (const each of fresh.querySelectorAll("details[data-key]")) each.open = open.includes(each.dataset.key);
  part.replaceWith(fresh);
  refreshTimes(fresh);
  if (address) [...fresh.querySelectorAll("a[href]")].find((each) => each.getAttribute("href") === address)?.focus();
}

async function refresh() {
  if (reading) { stale = true; return; }
  reading = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-part]")) {
      const other = fresh.querySelector(`[data-part="${CSS.escape(part.dataset.part)}"]`);
      if (other) replace(part, document.importNode(other, true));
    }
  } catch { /* the next event reads again */ } finally {
    setTimeout(() => { reading = false; if (stale) { stale = false; refresh(); } }, OFTEN);
  }
}

function tell(text) {
  const status = document.querySelector("[data-status]");
  if (status && status.textContent !== text) status.textContent = text;
}

let source = null;
let seen = "";
let leaving = 0;

function listen(last) {
  source = new EventSource(`${root.dataset.live}${location.search ? location.search + "&" : "?"}last=${encodeURIComponent(last)}`);
  seen = last;
  const note = (event) => { seen = event.lastEventId || seen; };
  source.addEventListener("builds", (event) => { note(event); refresh(); });
  source.addEventListener("build", (event) => {
    note(event);
    const { state, outcome } = JSON.parse(event.data);
    tell(`The build is ${(outcome ?? state).replace("_", " ")}.`);
    refresh();
  });
  source.addEventListener("log", (event) => { note(event); appendLines(JSON.parse(event.data)); });
  source.addEventListener("end", () => { source.close(); root.dataset.ended = "true"; refresh(); });
  source.addEventListener("error", (event) => {
    if (event.target.readyState !== EventSource.CLOSED) return; // it connects again by itself
    setTimeout(() => { if (source === event.target) { refresh(); listen(seen); } }, AGAIN);
  });
}

function leave() {
  source?.close();
  source = null;
}

function look() {
  clearTimeout(leaving);
  if (document.hidden) leaving = setTimeout(leave, PATIENCE);
  else if (!source && !root.dataset.ended) { refresh(); listen(seen); }
}

if (root) {
  listen(root.dataset.last ?? "");
  document.addEventListener("visibilitychange", look);
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => { if (event.persisted) look(); });
}
