// The map of a project's datasets, also when they come anew or a thousand at a time (`places.js`). Those that lie on each
// other share a mark. Without tiles: a grid of degrees.
/* global L, followPlaces, grouped */
"use strict";

// Degrees between two lines of the grid: the widest of which the view has a few.
const STEPS = [30, 15, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002];
const LINES = 3;

// Pixels that the name of a line takes at most: of whole degrees, and for each digit after the point.
const NAME = 52, DIGIT = 8;

// Pixels that marks are apart, to the side or up and down: about what one with a number takes.
const WIDE = 54, HIGH = 24;

// The most places that a popup lists.
const LISTED = 100;

// Digits after the point of a place's degrees.
const PLACE_DIGITS = 5;

function gridLine(grid, places, label, at, side) {
  grid.addLayer(L.polyline(places, { className: "graticule", weight: 1, interactive: false }));
  if (label === "") return;
  const icon = L.divIcon({ className: `degrees ${side}`, html: label, iconSize: null });
  grid.addLayer(L.marker(at, { icon, interactive: false, keyboard: false }));
}

function digitsOf(step) { return (String(step).split(".")[1] || "").length; }

function degrees(value, digits, positive, negative) {
  return `${Math.abs(value).toFixed(digits)}°${value === 0 ? "" : ` ${value > 0 ? positive : negative}`}`;
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
    const label = degrees(latitude, digitsOf(step), "N", "S");
    gridLine(grid, [[latitude, west], [latitude, east]], label, [latitude, east], "right");
  }
  // In a wide view the lines are closer to one another than their names are long.
  const pixels = (step * map.getSize().x) / (view.getEast() - view.getWest());
  const named = Math.ceil((NAME + DIGIT * digitsOf(step)) / pixels);
  for (const longitude of between(west, east, step)) {
    const label = Math.round(longitude / step) % named === 0 ? degrees(longitude, digitsOf(step), "E", "W") : "";
    gridLine(grid, [[south, longitude], [north, longitude]], label, [north, longitude], "upper");
  }
}

// The places of each mark at this zoom, by where it stands: at its first place, and the others go to one within reach.
function gathered(places, project) {
  const marks = new Map(), cells = new Map();
  for (const place of places) {
    const { x, y } = project(place.at), column = Math.floor(x / WIDE), row = Math.floor(y / HIGH);
    // No cell has two marks: they would be within reach of each other.
    const near = [-1, 0, 1].flatMap((right) => [-1, 0, 1].map((down) => cells.get(`${column + right} ${row + down}`)));
    const found = near.find((mark) => mark && Math.abs(mark.x - x) < WIDE && Math.abs(mark.y - y) < HIGH);
    if (found) { found.here.push(place); continue; }
    const here = [place];
    cells.set(`${column} ${row}`, { x, y, here });
    marks.set(place.at.join(" "), here);
  }
  return marks;
}

function popupLine(place) {
  const line = document.createElement("p"), link = document.createElement("a");
  Object.assign(link, { className: "name", href: place.href, textContent: place.name });
  const [latitude, longitude] = place.at;
  const where = `${degrees(latitude, PLACE_DIGITS, "N", "S")}, ${degrees(longitude, PLACE_DIGITS, "E", "W")}`;
  line.append(link, document.createElement("br"), `${place.key} · ${where} · ${place.state}`);
  return line;
}

function popup(here) {
  const box = document.createElement("div");
  box.className = "here";
  box.append(...here.slice(0, LISTED).map(popupLine));
  if (here.length > LISTED) {
    const rest = document.createElement("p");
    rest.textContent = `And ${grouped(here.length - LISTED)} more, which the table has.`;
    box.append(rest);
  }
  return box;
}

// The sign of their state, or that of several states, and how many they are.
function look(here) {
  const states = [...new Set(here.map((place) => place.state))];
  const sign = document.querySelector(`#signs .sign.${states.length === 1 ? states[0] : "several"}`);
  const number = here.length === 1 ? "" : grouped(here.length);
  const title = `${number ? `${number} places` : here[0].name}: ${states.join(", ")}`;
  const html = document.createElement("span");
  html.className = number ? "pill several" : "pill";
  html.append(sign.cloneNode(true), number);
  return { title, html };
}

// The popup of these places. The one that there is keeps its links: one that is replaced while it is pressed does nothing.
function renewedPopup(box, here) {
  const fresh = popup(here), links = (of) => [...of.children].map((line) => line.querySelector("a")?.href).join(" ");
  if (links(fresh) !== links(box)) return fresh;
  [...box.children].forEach((line, number) => {
    for (const end of ["firstChild", "lastChild"]) line[end].textContent = fresh.children[number][end].textContent;
  });
  return box;
}

let map = null, places = [];
// The places of each mark, also of those out of sight; what is drawn of them; and the popup, with the mark that it is of.
let marks = new Map(), opened = null;
const drawn = new Map();
// Whether the view goes with the places: until all were read once, or somebody chose another view.
let viewFollows = true;

function viewAll() {
  map.fitBounds(L.latLngBounds(places.map((place) => place.at)).pad(0.2), { maxZoom: 4, animate: false });
}

function begin() {
  map = L.map("map", { attributionControl: false, minZoom: 1, maxZoom: 16, worldCopyJump: true });
  L.control.scale({ imperial: false, maxWidth: 120 }).addTo(map);
  viewAll();
  // Not before the map has a view, in which lines could be drawn.
  const grid = L.layerGroup().addTo(map);
  drawGrid(map, grid);
  map.on("moveend", () => { drawGrid(map, grid); drawMarks(); });
  map.on("popupclose", () => { opened = null; });
  for (const use of ["pointerdown", "wheel", "keydown"]) {
    map.getContainer().addEventListener(use, () => { viewFollows = false; }, { capture: true, passive: true });
  }
}

// Whether a closer look shows them apart.
function canPart(here) {
  return map.getZoom() < map.getMaxZoom() && here.some((place) => String(place.at) !== String(here[0].at));
}

function press(where) {
  const here = marks.get(where);
  if (canPart(here)) { map.fitBounds(L.latLngBounds(here.map((place) => place.at)).pad(0.2)); return; }
  const box = popup(here), shown = L.popup().setLatLng(here[0].at).setContent(box).openOn(map);
  opened = { where, box, shown };
}

// An open popup tells what is so now; it closes when its mark is gone, or can be parted, since one looks from further away.
function renewOpened() {
  if (opened === null) return;
  const here = marks.get(opened.where);
  if (!here || canPart(here)) { opened.shown.close(); return; }
  const box = renewedPopup(opened.box, here);
  if (box !== opened.box) opened.shown.setContent(box);
  opened.box = box;
}

function drawMark(where, here) {
  const { title, html } = look(here), told = `${title} ${html.outerHTML}`;
  const known = drawn.get(where);
  if (known?.told === told) return;
  const icon = L.divIcon({ className: "place", html, iconSize: null });
  if (known) {
    known.told = told;
    known.marker.options.title = title;
    known.marker.setIcon(icon);
    return;
  }
  // Hundreds of marks would be as many stops for the key Tab; the table leads to the same datasets.
  const marker = L.marker(here[0].at, { icon, title, keyboard: false }).on("click", () => press(where)).addTo(map);
  drawn.set(where, { marker, told });
}

// Bring the marks up to date with places and view. Those that stay are kept, and those out of sight are not drawn.
function drawMarks() {
  const view = map.getBounds().pad(0.5);
  marks = gathered(places, (at) => map.project(at));
  const seen = new Map([...marks].filter(([, here]) => view.contains(here[0].at)));
  for (const [where, { marker }] of drawn) {
    if (!seen.has(where)) { marker.remove(); drawn.delete(where); }
  }
  for (const [where, here] of seen) drawMark(where, here);
  renewOpened();
}

// These places are shown, and maybe more to come; once all were, the view stays as it is.
function showPlaces(found, moreToCome) {
  places = found;
  for (const id of ["map", "signs"]) document.getElementById(id).hidden = map === null && places.length === 0;
  if (map === null && places.length > 0) begin();
  else if (map !== null && viewFollows) viewAll();
  if (!moreToCome) viewFollows = false;
  if (map !== null) drawMarks();
}

followPlaces(showPlaces);
document.getElementById("live-places").addEventListener("renewed", () => followPlaces(showPlaces));
