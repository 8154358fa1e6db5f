// Keeps an open page fresh: times in words, and the parts marked data-part fetched again every data-live seconds.
// On a form it shows the preview.
"use strict";

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];
const ANSWER_MS = 30000;
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

// Milliseconds that the server's clock, by which all times are, is ahead of this machine's.
let ahead = 0;
function setClock(page) {
  ahead = new Date(page.body.dataset.now) - Date.now() || 0;
}

function tellTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const seconds = (new Date(time.dateTime) - Date.now() - ahead) / 1000;
    if (Math.abs(seconds) > 30 * 86400) continue;
    const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) || ["second", 1];
    time.textContent = Math.abs(seconds) < 5 ? "just now" : words.format(Math.trunc(seconds / size), unit);
  }
}

// A part that somebody is using stays as it is.
function inUse(part) {
  const selection = document.getSelection();
  return part.matches(":focus-within") || part.querySelector("details[open]") !== null
    || (selection !== null && !selection.isCollapsed && part.contains(selection.anchorNode));
}

// The page as it is now, or why it cannot be had.
async function fetchPage() {
  let answer, text;
  try {
    const signal = AbortSignal.timeout(ANSWER_MS);
    answer = await fetch(location.href, { headers: { "X-Requested-With": "crunch-live" }, signal });
    text = await answer.text();
  } catch {
    return { problem: `${notUpToDate()}: the server does not answer.` };
  }
  const fresh = new DOMParser().parseFromString(text, "text/html");
  // The page of a failure knows nobody.
  if (answer.status < 500 && document.body.dataset.user && fresh.body.dataset.user === "") {
    return { problem: "You were signed out: sign in again." };
  }
  if (!answer.ok || answer.redirected || fresh.querySelector("main") === null) {
    return { problem: `${notUpToDate()}: the server answers ${answer.redirected ? "with another page" : answer.status}.` };
  }
  return { fresh, problem: "" };
}

let freshAt = new Date(), failures = 0;
function notUpToDate() {
  return `Not up to date since ${freshAt.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })}`;
}

// A single failure is not worth a word: the next try may succeed.
function tellStale(main, problem) {
  failures = problem ? failures + 1 : 0;
  let line = main.querySelector(".stale");
  if (failures < 2) { line?.remove(); return; }
  if (line === null) {
    line = document.createElement("p");
    line.className = "stale";
    line.setAttribute("role", "status");
    main.prepend(line);
  }
  if (line.textContent !== problem) line.textContent = problem;
}

async function refresh(main, shown) {
  const { fresh, problem } = await fetchPage();
  tellStale(main, problem);
  if (problem) return;
  freshAt = new Date();
  setClock(fresh);
  if (fresh.querySelector("main").dataset.version !== main.dataset.version && !main.dataset.busy
    && document.querySelector("details[open]:not(.folder)") === null) {
    location.reload();
    return;
  }
  for (const part of main.querySelectorAll("[data-part]")) {
    const next = fresh.getElementById(part.id);
    // What came is compared with what came before, since the times on the page were put into words here.
    if (next === null || shown.get(part.id) === next.innerHTML || inUse(part)) continue;
    shown.set(part.id, next.innerHTML);
    part.replaceChildren(...next.childNodes);
    tellTimes(part);
  }
}

const main = document.querySelector("main[data-live]");
setClock(document);
tellTimes(document);
setInterval(() => tellTimes(document), 20000);
if (main !== null) {
  const shown = new Map();
  setInterval(() => { if (!document.hidden) refresh(main, shown); }, Number(main.dataset.live) * 1000);
}

// The preview, without leaving the form; where this cannot be done, the button sends the form, which comes back with it.
async function preview(button) {
  const body = new FormData(button.form);
  body.append(button.name, button.value);
  try {
    const answer = await fetch(location.href, { method: "POST", body });
    if (!answer.ok || answer.redirected) throw new Error("refused");
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.getElementById("preview").replaceChildren(...fresh.getElementById("preview").childNodes);
  } catch {
    button.form.requestSubmit(button);
  }
}

for (const button of document.querySelectorAll("button[name=preview]")) {
  button.addEventListener("click", (event) => { event.preventDefault(); preview(button); });
}
