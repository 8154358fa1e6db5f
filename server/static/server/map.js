// The map of a project's datasets: the places are those of the table beside it, also when that comes anew. Without tiles:
// a grid of degrees.
/* global L */
"use strict";

// Degrees between two lines of the grid: the widest of which the view has a few.
const STEPS = [30, 15, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002];
const LINES = 3;

// Pixels that the name of a line takes at most: of whole degrees, and for each digit after the point.
const NAME = 52, DIGIT = 8;

function gridLine(grid, places, label, at, side) {
  grid.addLayer(L.polyline(places, { className: "graticule", weight: 1, interactive: false }));
  if (label === "") return;
  const icon = L.divIcon({ className: `degrees ${side}`, html: label, iconSize: null });
  grid.addLayer(L.marker(at, { icon, interactive: false, keyboard: false }));
}

function digitsOf(step) { return (String(step).split(".")[1] || "").length; }

function degrees(value, step, positive, negative) {
  return `${Math.abs(value).toFixed(digitsOf(step))}°${value === 0 ? "" : ` ${value > 0 ? positive : negative}`}`;
}

// The whole multiples of the step between two numbers.
function between(low, high, step) {
  const found = [];
  for (let number = Math.ceil(low / step); number * step <= high; number += 1) found.push(number * step || 0);
  return found;
}

// Lines of degrees in what is seen of the map, named at its upper and right edge.
function drawGrid(map, grid) {
  grid.clearLayers();
  const view = map.getBounds();
  const [south, north] = [Math.max(view.getSouth(), -85), Math.min(view.getNorth(), 85)];
  const [west, east] = [Math.max(view.getWest(), -180), Math.min(view.getEast(), 180)];
  const step = STEPS.find((size) => Math.min(north - south, east - west) >= LINES * size) || STEPS.at(-1);
  for (const latitude of between(south, north, step)) {
    const label = degrees(latitude, step, "N", "S");
    gridLine(grid, [[latitude, west], [latitude, east]], label, [latitude, east], "right");
  }
  // In a wide view the lines are closer to one another than their names are long.
  const pixels = (step * map.getSize().x) / (view.getEast() - view.getWest());
  const named = Math.ceil((NAME + DIGIT * digitsOf(step)) / pixels);
  for (const longitude of between(west, east, step)) {
    const label = Math.round(longitude / step) % named === 0 ? degrees(longitude, step, "E", "W") : "";
    gridLine(grid, [[south, longitude], [north, longitude]], label, [north, longitude], "upper");
  }
}

function popup(rows) {
  const box = document.createElement("div");
  box.className = "here";
  for (const row of rows) {
    const link = row.querySelector("a").cloneNode(true);
    const rest = [...row.querySelectorAll("td")].map((cell) => cell.textContent.trim()).join(" · ");
    const line = document.createElement("p");
    line.append(link, document.createElement("br"), rest);
    box.append(line);
  }
  return box;
}

// The sign of their state, or how many they are when they are in several.
function mark(here) {
  const states = new Set(here.map((row) => row.dataset.state));
  const html = states.size === 1 ? here[0].querySelector(".sign").cloneNode(true) : String(here.length);
  const first = `${here[0].querySelector("a").textContent}, ${[...states].join(", ")}`;
  const title = here.length === 1 ? first : `${here.length} datasets: ${[...states].join(", ")}`;
  // Marks lie too close to one another for keys and thumbs; the table leads to the same datasets.
  return { title, keyboard: false, icon: L.divIcon({ className: "place", html, iconSize: [16, 16] }) };
}

// The rows of each place: datasets of one place share a mark, or all but the last would be out of reach.
function byPlace() {
  const places = new Map();
  for (const row of document.querySelectorAll("#places tbody tr")) {
    const place = `${row.dataset.latitude} ${row.dataset.longitude}`;
    places.set(place, [...(places.get(place) || []), row]);
  }
  return places;
}

function latLng(place) { return place.split(" ").map(Number); }

// The popup of these rows. The one that there is keeps its links: one that is replaced while it is pressed does nothing.
function renewedPopup(box, here) {
  const fresh = popup(here), links = (of) => [...of.querySelectorAll("a")].map((link) => link.href).join(" ");
  if (links(fresh) !== links(box)) return fresh;
  [...box.children].forEach((line, number) => {
    for (const end of ["firstChild", "lastChild"]) line[end].textContent = fresh.children[number][end].textContent;
  });
  return box;
}

let map = null;
const shownPlaces = new Map();

function begin() {
  const made = L.map("map", { attributionControl: false, minZoom: 1, maxZoom: 16, worldCopyJump: true });
  L.control.scale({ imperial: false, maxWidth: 120 }).addTo(made);
  made.fitBounds(L.latLngBounds([...byPlace().keys()].map(latLng)).pad(0.2), { maxZoom: 4 });
  // Not before the map has a view, in which lines could be drawn.
  const grid = L.layerGroup().addTo(made);
  drawGrid(made, grid);
  made.on("moveend", () => drawGrid(made, grid));
  return made;
}

// Bring the marks up to date with the table; the view and an open popup stay as they are.
function drawMarks() {
  const places = byPlace();
  for (const id of ["map", "signs"]) document.getElementById(id).hidden = map === null && places.size === 0;
  if (places.size > 0) map ??= begin();
  for (const [place, { marker }] of shownPlaces) {
    if (!places.has(place)) { marker.remove(); shownPlaces.delete(place); }
  }
  for (const [place, here] of places) {
    const told = here.map((row) => row.textContent).join();
    const known = shownPlaces.get(place) || {}, look = mark(here);
    if (known.told === told) continue;
    Object.assign(known, { here, told });
    shownPlaces.set(place, known);
    if (known.box) known.box = renewedPopup(known.box, here);
    if (known.marker) {
      known.marker.options.title = look.title;
      known.marker.setIcon(look.icon);
    } else {
      // A popup is made when it is first opened: there may be thousands.
      known.marker = L.marker(latLng(place), look).bindPopup(() => (known.box ??= popup(known.here))).addTo(map);
    }
  }
}

drawMarks();
document.getElementById("live-places").addEventListener("renewed", drawMarks);
