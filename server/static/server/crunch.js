// Keeps an open page fresh: times in words, and the parts marked data-part fetched again every data-live seconds; what is
// costly to find (data-part=costly), such as a storage's files, only after data-version changed. A form has its preview.
"use strict";

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];
const ANSWER_MS = 30000;
const WHOLE_MS = 30000;
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

// Its HTML, by which it is told whether there is news; the token of a form is another each time.
function htmlOf(part) { return part.innerHTML.replace(/(name="csrfmiddlewaretoken" value=")\w+/g, "$1"); }

// Whether somebody typed or chose something that is not sent yet.
function isChanged(field) {
  if (field.type === "checkbox") return field.checked !== field.defaultChecked;
  if (field.options) return [...field.options].some((option) => option.selected !== option.defaultSelected);
  return field.value !== field.defaultValue;
}

// What the focused link, or summary that stays open or closed, of the part is in `next`; undefined when it is not there.
// Those of one address are told apart by their place among these.
function focusIn(next, part) {
  const focused = document.activeElement, nameOf = (one) => one.getAttribute("href") ?? one.parentElement.dataset.kept;
  const alike = (root) => [...root.querySelectorAll("a[href], details[data-kept] > summary")].filter((one) => nameOf(one) === nameOf(focused));
  return alike(next)[alike(part).indexOf(focused)];
}

// A part that somebody is using stays as it is. A focus that can go on in `next` hinders nothing, nor does what has a
// name in data-kept, which stays open or closed.
function inUse(part, next = part) {
  const selection = document.getSelection();
  return part.matches(":active") || (part.contains(document.activeElement) && focusIn(next, part) === undefined)
    || part.querySelector("details[open]:not([data-kept])") !== null
    || [...part.querySelectorAll("input, select")].some(isChanged)
    || (selection !== null && !selection.isCollapsed && selection.containsNode(part, true));
}

// Put what came into the part; what was opened, closed or scrolled sideways stays so.
function renew(part, next) {
  const focused = part.contains(document.activeElement) ? focusIn(next, part) : undefined;
  const opened = new Map([...part.querySelectorAll("details[data-kept]")].map((box) => [box.dataset.kept, box.open]));
  const scrolled = [...part.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
  for (const box of next.querySelectorAll("details[data-kept]")) box.open = opened.get(box.dataset.kept) ?? box.open;
  part.replaceChildren(...next.childNodes);
  focused?.focus({ preventScroll: true });
  part.querySelectorAll(".scroll").forEach((box, index) => { box.scrollLeft = scrolled[index] || 0; });
  tellTimes(part);
  part.dispatchEvent(new Event("renewed"));
}

// The page as it is now, `whole` or without what is costly to find, or why it cannot be had.
async function fetchPage(whole) {
  let answer, text;
  try {
    const headers = whole ? {} : { "X-Requested-With": "crunch-live" };
    answer = await fetch(location.href, { headers, signal: AbortSignal.timeout(ANSWER_MS) });
    text = await answer.text();
  } catch {
    return { problem: `${notUpToDate()}: the server does not answer.` };
  }
  const fresh = new DOMParser().parseFromString(text, "text/html");
  // The page of a failure knows nobody.
  if (answer.status < 500 && document.body.dataset.user && fresh.body.dataset.user === "") {
    return { problem: "You were signed out: sign in again." };
  }
  if (answer.status === 404) return { problem: "What this page shows was deleted, or is not open to you any more." };
  if (!answer.ok || answer.redirected || fresh.querySelector("main") === null) {
    return { problem: `${notUpToDate()}: the server answers ${answer.redirected ? "with another page" : answer.status}.` };
  }
  return { fresh, problem: "" };
}

const WAITS = "The part that you are using (a choice, a selection, what you opened) is not up to date: it waits until you are done.";
let freshAt = new Date(), times = 0;
function notUpToDate() {
  return `Not up to date since ${freshAt.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })}`;
}

// Once is not worth a word: the next time all may be well.
function tellStale(problem) {
  times = problem ? times + 1 : 0;
  let line = main.querySelector(".stale");
  if (times < 2) { line?.remove(); return; }
  if (line === null) {
    line = document.createElement("p");
    line.className = "stale";
    line.setAttribute("role", "status");
    main.prepend(line);
  }
  if (line.textContent !== problem) line.textContent = problem;
}

// Bring the page up to date with what came of it; the parts that wait, as somebody is using them.
function take(fresh) {
  const waiting = [];
  setClock(fresh);
  document.title = fresh.title;
  for (const part of main.querySelectorAll("[data-part]")) {
    const came = fresh.getElementById(part.id);
    // Most answers are without what is costly.
    if (came === null && isCostly(part)) continue;
    const next = came ?? fresh.createElement("div");
    // What came is compared with what came before, since the times on the page were put into words here.
    if (shown.get(part.id) === htmlOf(next)) continue;
    if (inUse(part, next)) { waiting.push(part); continue; }
    shown.set(part.id, htmlOf(next));
    renew(part, next);
  }
  // Of these only whether they are there changes: they have a state of their own.
  for (const box of main.querySelectorAll("[data-there]")) {
    if (!main.dataset.busy) box.hidden = fresh.getElementById(box.id)?.hidden ?? true;
  }
  return waiting;
}

// What is costly to find is fetched only when data-version says that it may be another, and not while it is in use.
let wholeAt = -Infinity;
function isCostly(part) { return part.dataset.part === "costly"; }

async function refresh(whole = false) {
  const { fresh, problem } = await fetchPage(whole);
  if (problem) { tellStale(problem); return; }
  freshAt = new Date();
  const { version } = fresh.querySelector("main").dataset, waiting = take(fresh);
  if (whole && !waiting.some(isCostly)) main.dataset.version = version;
  const isOld = version !== main.dataset.version && !main.dataset.busy;
  const passesOver = isOld && [...main.querySelectorAll("[data-part=costly]")].some((part) => inUse(part));
  tellStale(waiting.length > 0 || passesOver ? WAITS : "");
  if (!whole && isOld && !passesOver && Date.now() - wholeAt >= WHOLE_MS) {
    wholeAt = Date.now();
    await refresh(true);
  }
}

const main = document.querySelector("main");
const shown = new Map([...main.querySelectorAll("[data-part]")].map((part) => [part.id, htmlOf(part)]));
setClock(document);
tellTimes(document);
setInterval(() => tellTimes(document), 20000);
if (main.dataset.live) setInterval(() => { if (!document.hidden) refresh(); }, Number(main.dataset.live) * 1000);

// An image that was cut short, or is none after all, says so: the browser's own sign has no words.
const BROKEN = " (the browser cannot show it)";
function tellBroken(image) { if (!image.alt.endsWith(BROKEN)) image.alt += BROKEN; }

document.addEventListener("error", ({ target }) => { if (target.matches?.(".picture img")) tellBroken(target); }, true);
for (const image of main.querySelectorAll(".picture img")) if (image.complete && image.naturalWidth === 0) tellBroken(image);

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
