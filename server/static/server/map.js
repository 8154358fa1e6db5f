// The map of a project's datasets: the places are those of the table beside it. Without tiles: a grid of degrees.
/* global L */
"use strict";

const EVERY = 15;

function gridLine(places, map) {
  L.polyline(places, { className: "graticule", weight: 1, interactive: false }).addTo(map);
}

function popup(row) {
  const link = row.querySelector("a").cloneNode(true);
  const box = document.createElement("div");
  const rest = [...row.querySelectorAll("td")].map((cell) => cell.textContent.trim()).join(" · ");
  box.append(link, document.createElement("br"), rest);
  return box;
}

const rows = [...document.querySelectorAll("#places tbody tr")];
const map = L.map("map", { attributionControl: false, minZoom: 1, maxZoom: 16, worldCopyJump: true });
for (let degrees = -180; degrees <= 180; degrees += EVERY) gridLine([[-85, degrees], [85, degrees]], map);
for (let degrees = -75; degrees <= 75; degrees += EVERY) gridLine([[degrees, -180], [degrees, 180]], map);
const markers = rows.map((row) => {
  const place = [Number(row.dataset.latitude), Number(row.dataset.longitude)];
  const marker = L.circleMarker(place, { radius: 7, weight: 2, className: `place ${row.dataset.state}` });
  marker.bindPopup(() => popup(row));
  return marker.addTo(map);
});
map.fitBounds(L.featureGroup(markers).getBounds().pad(0.2), { maxZoom: 4 });
