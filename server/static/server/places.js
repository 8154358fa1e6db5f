// A project's places for its map: the first are the JSON beside the map, the further ones are fetched in turn. How many
// there are is told at the page's head. What is shown stays until as much was read anew.
"use strict";

// The most places that are read.
const MOST = 20000;

const FURTHER_MS = 30000;

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
    return answer.ok ? await answer.json() : { problem: `the server answers ${answer.status}` };
  } catch {
    return { problem: "the server does not answer" };
  }
}

function tellPlaces(...parts) { document.querySelector("#live-lead .lead")?.replaceChildren(...parts); }

function told(count) { return `${count.toLocaleString("en")} places of this project's datasets`; }

function tellEnd(count, problem, more) {
  if (problem) {
    tellPlaces(`The first ${told(count)}. The others could not be read, as ${problem}: load this page again. The table below leads to them too.`);
  } else if (more) {
    const command = document.createElement("code");
    command.textContent = `crunch export ${document.getElementById("map").dataset.project}`;
    tellPlaces(`The first ${told(count)}. There are more: the table below leads to them, and `, command, " has all.");
  } else {
    tellPlaces(`${told(count)}.`);
  }
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
      if (goesOn) tellPlaces(`${told(found.length)} are shown, and more are being read.`);
    }
    if (!goesOn) break;
    const next = await fetchFurther(page.next);
    if (next.problem) { tellEnd(found.length, next.problem); return; }
    page = next;
    found = [...found, ...placesOf(page)];
  }
  if (isLong) tellEnd(found.length, "", page.next !== "");
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
