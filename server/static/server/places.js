// A project's places for its map: the first are the JSON beside the map, the further ones are fetched in turn. How many
// there are is told at the page's head. What is shown stays until as much was read anew. A server that fails is asked again.
"use strict";

// The most places that are read.
const MOST = 20000;

const FURTHER_MS = 30000;

// Seconds until one asks again: at first, and twice as long each time, up to the longest. What the server asks for
// (Retry-After) may be longer, but a timer takes no number of any size.
const PAUSE_S = 5, LONGEST_S = 60, ASKED_FOR_S = 3600;

// Answers that stay the same when one asks again.
const FINAL = [401, 403, 404];

// The places as objects, as `page` has them.
function placesOf(page) {
  const folder = document.getElementById("map").dataset.datasets;
  return page.places.map(([slug, name, key, latitude, longitude, state]) => (
    { href: folder + encodeURIComponent(slug), name, key, at: [latitude, longitude], state: page.states[state] }
  ));
}

// The places after the cursor, or in `problem` why they cannot be had.
async function fetchFurther(cursor) {
  const address = `${document.getElementById("map").dataset.further}?after=${encodeURIComponent(cursor)}`;
  try {
    const answer = await fetch(address, { signal: AbortSignal.timeout(FURTHER_MS) });
    if (answer.ok) return await answer.json();
    const asksFor = Math.min(Number(answer.headers.get("Retry-After")) || 0, ASKED_FOR_S);
    return { problem: `the server answers ${answer.status}`, isFinal: FINAL.includes(answer.status), asksFor };
  } catch {
    return { problem: "the server does not answer", isFinal: false, asksFor: 0 };
  }
}

// So many seconds pass, and somebody looks at the page.
async function pass(seconds) {
  await new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
  while (document.hidden) {
    await new Promise((resolve) => { document.addEventListener("visibilitychange", resolve, { once: true }); });
  }
}

// The same, asked for until it comes; with a `problem` only when asking again is of no use.
async function fetchPatiently(cursor) {
  for (let pause = PAUSE_S; ; pause = Math.min(2 * pause, LONGEST_S)) {
    const answer = await fetchFurther(cursor);
    if (!answer.problem || answer.isFinal) return answer;
    tellTrouble(`${answer.problem}, and is asked again by itself. The table below leads to all.`);
    await pass(Math.max(pause, answer.asksFor));
  }
}

// A screen reader says it unless more `isToCome`: it would speak with each thousand.
function tellPlaces(isToCome, ...parts) {
  const line = document.querySelector("#live-lead .lead"), next = document.createElement("p");
  if (line === null) return;
  next.append(...parts);
  // Before the words, as what changes in a line that is busy is never said.
  line.setAttribute("aria-busy", isToCome);
  if (line.innerHTML !== next.innerHTML) line.replaceChildren(...next.childNodes);
}

function grouped(number) { return number.toLocaleString("en"); }

function told(count) { return `${grouped(count)} places of this project's datasets`; }

function tellTrouble(why) {
  tellPlaces(false, `${told(shownPlaces.length)} are shown. They may not be all, or not as they are now: ${why}`);
}

function tellEnd(count, more) {
  if (!more) { tellPlaces(false, `${told(count)}.`); return; }
  const command = document.createElement("code");
  command.textContent = `crunch export --project ${document.getElementById("map").dataset.project}`;
  tellPlaces(false, `The first ${told(count)}. There are more: the table below leads to them, and `, command, " has all.");
}

// Reads all places once, and calls `show` with what is to be shown, and whether more is to come.
let shownPlaces = [];
async function readPlaces(show) {
  let page = JSON.parse(document.getElementById("places-as-json").textContent), found = placesOf(page);
  const isLong = page.next !== "";
  for (;;) {
    const goesOn = page.next !== "" && found.length < MOST;
    if (!goesOn || found.length >= shownPlaces.length) {
      shownPlaces = found;
      show(found, goesOn);
      if (goesOn) tellPlaces(true, `${told(found.length)} are shown, and more are being read.`);
    }
    if (!goesOn) break;
    const next = await fetchPatiently(page.next);
    if (next.problem) { tellTrouble(`${next.problem}. Load this page again.`); return; }
    page = next;
    found = [...found, ...placesOf(page)];
  }
  if (isLong) tellEnd(found.length, page.next !== "");
}

// Reads the places now, or once more when they are being read: somebody whose line is slow gets to the last of them too.
let isReading = false, again = false;
async function followPlaces(show) {
  again = true;
  if (isReading) return;
  isReading = true;
  try {
    while (again) { again = false; await readPlaces(show); }
  } finally {
    isReading = false;
  }
}
