// Sends a file straight into the storage, at an address that the server signs for these bytes. Where that fails, whatever
// the reason, nothing of it counts, and `upload.js` sends the file through the server.
"use strict";

// Kept for the tab: a storage that refuses one file refuses them all.
const detour = `crunch-detour ${document.querySelector("form[data-direct]").dataset.direct}`;

function madeDetour() { return sessionStorage.getItem(detour) !== null; }

// As `send` in `upload.js`, but null where the file has to go through the server.
async function sendDirect(path, file, replace, moved) {
  if (madeDetour()) return null;
  moved(0, `reading ${path}`);
  let sum;
  // A file that cannot be read: the other way says so.
  try { sum = await md5(file); } catch { return null; }
  const asks = (act, values) => ask(act, path, "", "application/x-www-form-urlencoded", new URLSearchParams(values), () => {});
  const begun = await asks("begin-upload", { size: file.size, md5: sum, ...(replace && { replace: "" }) });
  if (begun.problem) return begun.code === "through_server" ? null : begun.problem;
  const put = await transfer("PUT", begun.address, begun.headers, file, moved, true);
  if (put.status < 200 || put.status >= 300) {
    sessionStorage.setItem(detour, "1");
    document.querySelector("[data-detour]").hidden = false;
    moved(0);
    return null;
  }
  const ended = await asks("end-upload", { ticket: begun.ticket });
  if (ended.code !== "not_as_sent") return ended.problem;
  moved(0);
  return null;
}
