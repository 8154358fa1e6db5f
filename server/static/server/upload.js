// Sends files that are dropped or chosen to the dataset, a request for each, and tells how far it is.
"use strict";

const AT_ONCE = 3;

const form = document.querySelector("form[data-dataset]");

function inWords(bytes) {
  const units = ["bytes", "KB", "MB", "GB"];
  let size = bytes, unit = 0;
  while (size >= 1024 && unit < units.length - 1) { size /= 1024; unit += 1; }
  return `${unit ? size.toFixed(1) : size} ${units[unit]}`;
}

// All that was dropped, folders with what is in them: pairs of a path and a file.
async function dropped(transfer) {
  // Asked for at once: after the event is handled, the items are gone.
  const files = [...transfer.files];
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  // What comes from another program than a file manager has no entries.
  if (entries.length === 0) return files.map((file) => [file.name, file]);
  const found = [];
  async function take(entry) {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      found.push([entry.fullPath.replace(/^\//, ""), file]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      // It tells some at a time.
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (some.length === 0) return;
      for (const inside of some) await take(inside);
    }
  }
  for (const entry of entries) await take(entry);
  return found;
}

// A request with progress, which a fetch has not: its status (0: no answer came) and its text.
function transfer(method, address, headers, body, moved) {
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    request.open(method, address);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => moved(event.loaded);
    request.onload = () => done({ status: request.status, text: request.responseText });
    request.onerror = () => done({ status: 0, text: "" });
    request.send(body);
  });
}

// Asks this server; what it told, and as `problem` what to tell the person when it refused.
async function ask(act, path, query, type, body, moved) {
  const address = `${form.dataset.dataset}/${act}/${path.split("/").map(encodeURIComponent).join("/")}${query}`;
  const headers = { "X-CSRFToken": form.elements.csrfmiddlewaretoken.value, "Content-Type": type };
  const { status, text } = await transfer("POST", address, headers, body, moved);
  let told = {};
  try { told = JSON.parse(text); } catch { /* An answer of something between. */ }
  if (status === 0) return { problem: "The server was not reached. Try again." };
  if (status < 300) return { ...told, problem: "" };
  return { ...told, problem: told.detail || `The server answered ${status}. Reload the page and try again.` };
}

// What to tell the person of a file that was not sent, else nothing.
async function send(path, file, moved) {
  const most = Number(form.dataset.most), replace = form.elements.replace.checked;
  if (file.size > most) return `It is larger than ${inWords(most)}. Send it with: crunch push`;
  const problem = form.dataset.direct ? await sendDirect(path, file, replace, moved) : null;
  if (problem !== null) return problem;
  return (await ask("upload", path, replace ? "?replace" : "", "application/octet-stream", file, moved)).problem;
}

async function sendAll(found) {
  const main = document.querySelector("main");
  if (found.length === 0 || main.dataset.busy) return;
  const bar = form.querySelector("progress"), told = form.querySelector("[role=status]");
  const failed = form.querySelector(".failed-files"), total = found.reduce((sum, [, file]) => sum + file.size, 0);
  const moved = new Map();
  let done = 0, refused = 0;
  function tell(doing) {
    const bytes = [...moved.values()].reduce((sum, size) => sum + size, 0);
    bar.value = total ? bytes / total : done / found.length;
    told.textContent = `${done} of ${found.length} files, ${inWords(Math.min(bytes, total))} of ${inWords(total)}${doing ? `; ${doing}` : ""}`;
  }
  async function worker(queue) {
    for (;;) {
      const next = queue.shift();
      if (next === undefined) return;
      const [path, file] = next;
      const problem = await send(path, file, (bytes, doing) => { moved.set(path, bytes); tell(doing); });
      done += 1;
      moved.set(path, file.size);
      if (problem) {
        refused += 1;
        const line = document.createElement("li");
        line.textContent = `${path}: ${problem}`;
        failed.append(line);
      }
      tell();
    }
  }
  main.dataset.busy = "sending";
  bar.hidden = false;
  failed.replaceChildren();
  tell();
  const queue = [...found];
  await Promise.all(Array.from({ length: AT_ONCE }, () => worker(queue)));
  delete main.dataset.busy;
  if (refused === 0) { location.reload(); return; }
  told.textContent = `${found.length - refused} of ${found.length} files were sent. These were not:`;
}

if (form !== null) {
  const chooser = form.querySelector("input[type=file]");
  chooser.addEventListener("change", async () => {
    await sendAll([...chooser.files].map((file) => [file.name, file]));
    chooser.value = "";
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("[data-detour]").hidden = !form.dataset.direct || !madeDetour();
  for (const kind of ["dragenter", "dragover"]) {
    form.addEventListener(kind, (event) => { event.preventDefault(); form.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) form.addEventListener(kind, () => form.classList.remove("over"));
  form.addEventListener("drop", async (event) => {
    event.preventDefault();
    sendAll(await dropped(event.dataTransfer));
  });
  addEventListener("beforeunload", (event) => {
    if (document.querySelector("main").dataset.busy) event.preventDefault();
  });
}
