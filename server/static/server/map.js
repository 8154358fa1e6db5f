// The map of a project's datasets: the places are those of the table beside it. Without tiles: a grid of degrees.
/* global L */
"use strict";

const EVERY = 15;

function gridLine(places, map) {
  L.polyline(places, { className: "graticule", weight: 1, interactive: false }).addTo(map);
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

const rows = [...document.querySelectorAll("#places tbody tr")];
const map = L.map("map", { attributionControl: false, minZoom: 1, maxZoom: 16, worldCopyJump: true });
for (let degrees = -180; degrees <= 180; degrees += EVERY) gridLine([[-85, degrees], [85, degrees]], map);
for (let degrees = -75; degrees <= 75; degrees += EVERY) gridLine([[degrees, -180], [degrees, 180]], map);
// Datasets of one place share a mark, or all but the last would be out of reach.
const places = new Map();
for (const row of rows) {
  const place = `${row.dataset.latitude} ${row.dataset.longitude}`;
  places.set(place, [...(places.get(place) || []), row]);
}
const markers = [...places].map(([place, here]) => {
  const states = new Set(here.map((row) => row.dataset.state));
  const state = states.size === 1 ? here[0].dataset.state : "";
  const marker = L.circleMarker(place.split(" ").map(Number), { radius: 7, weight: 2, className: `place ${state}` });
  marker.bindPopup(() => popup(here));
  return marker.addTo(map);
});
L.control.scale({ imperial: false }).addTo(map);
map.fitBounds(L.featureGroup(markers).getBounds().pad(0.2), { maxZoom: 4 });
