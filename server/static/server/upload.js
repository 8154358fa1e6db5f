// Sends files that are dropped or chosen to the dataset, a request for each, and tells how far it is.
"use strict";

const AT_ONCE = 3;
const STUCK_MS = 60000;

const form = document.querySelector("form[data-dataset]");

function inWords(bytes) {
  const units = ["bytes", "KB", "MB", "GB"];
  let size = bytes, unit = 0;
  while (size >= 1024 && unit < units.length - 1) { size /= 1024; unit += 1; }
  return `${unit ? size.toFixed(1) : size} ${units[unit]}`;
}

// All that was dropped, folders with what is in them: pairs of a path and a file, and of a path and why it is not sent.
async function dropped(transfer) {
  // Asked for at once: after the event is handled, the items are gone.
  const files = [...transfer.files];
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  // What comes from another program than a file manager has no entries.
  if (entries.length === 0) return { found: files.map((file) => [file.name, file]), problems: [] };
  const found = [], problems = [];
  async function take(entry) {
    try {
      if (entry.isFile) found.push([pathOf(entry), await new Promise((done, failed) => entry.file(done, failed))]);
      else for (const inside of await inFolder(entry)) await take(inside);
    } catch {
      problems.push([pathOf(entry), "It cannot be read. See whether you may read it, and drop it again."]);
    }
  }
  for (const entry of entries) {
    const before = found.length + problems.length;
    await take(entry);
    if (found.length + problems.length === before) problems.push([pathOf(entry), "There are no files in it."]);
  }
  return { found, problems };
}

function pathOf(entry) { return entry.fullPath.replace(/^\//, ""); }

async function inFolder(entry) {
  const reader = entry.createReader(), all = [];
  for (;;) {
    // It tells some at a time.
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (some.length === 0) return all;
    all.push(...some);
  }
}

// A request with progress, which a fetch has not: its status (0: no answer came) and its text. It is given up when no
// byte moves for STUCK_MS. The answer may take longer, as the server stores the file first; `prompt`: it may not.
function transfer(method, address, headers, body, moved, prompt = false) {
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    let timer, stuck = false;
    function watch() {
      clearTimeout(timer);
      timer = setTimeout(() => { stuck = true; request.abort(); }, STUCK_MS);
    }
    request.open(method, address);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => { watch(); moved(event.loaded); };
    request.upload.onload = () => { if (!prompt) clearTimeout(timer); };
    request.onloadend = () => {
      clearTimeout(timer);
      done({ status: request.status, text: request.responseText, stuck });
    };
    watch();
    request.send(body);
  });
}

// Asks this server; what it told, and as `problem` what to tell the person when it refused.
async function ask(act, path, query, type, body, moved) {
  const address = `${form.dataset.dataset}/${act}/${path.split("/").map(encodeURIComponent).join("/")}${query}`;
  const headers = { "X-CSRFToken": form.elements.csrfmiddlewaretoken.value, "Content-Type": type };
  const { status, text, stuck } = await transfer("POST", address, headers, body, moved);
  let told = {};
  try { told = JSON.parse(text); } catch { /* An answer of something between. */ }
  if (stuck) return { problem: `Nothing of it went through for ${STUCK_MS / 1000} seconds. Try again.` };
  if (status === 0) return { problem: "The server was not reached. Try again." };
  if (status < 300) return { ...told, problem: "" };
  return { ...told, problem: told.detail || `The server answered ${status}. Reload the page and try again.` };
}

// What to tell the person of a file that was not sent, else nothing.
async function send(path, file, moved) {
  const most = Number(form.dataset.most), replace = form.elements.replace.checked;
  // No address can have it.
  if (path.includes("\n")) return "Names of files cannot hold a line break. Rename the file.";
  if (file.size > most) return `It is larger than ${inWords(most)}. Send it with: crunch push`;
  const problem = form.dataset.direct ? await sendDirect(path, file, replace, moved) : null;
  if (problem !== null) return problem;
  return (await ask("upload", path, replace ? "?replace" : "", "application/octet-stream", file, moved)).problem;
}

// What is on its way, and what was dropped meanwhile, which joins it; null while there is nothing.
let batch = null;

function begin() {
  batch = { queue: [], files: 0, bytes: 0, done: 0, refused: 0, problems: 0, readers: 0, workers: 0, moved: new Map() };
  document.querySelector("main").dataset.busy = "sending";
  form.querySelector("progress").hidden = false;
  form.querySelector(".failed-files").replaceChildren();
}

function tell(doing) {
  const { files, done, bytes, moved } = batch;
  const now = [...moved.values()].reduce((sum, size) => sum + size, 0);
  form.querySelector("progress").value = bytes ? now / bytes : done / (files || 1);
  form.querySelector("[role=status]").textContent =
    `${done} of ${files} files, ${inWords(Math.min(now, bytes))} of ${inWords(bytes)}${doing ? `; ${doing}` : ""}`;
}

function tellNotSent(path, problem) {
  const line = document.createElement("li");
  line.textContent = `${path}: ${problem}`;
  form.querySelector(".failed-files").append(line);
  batch.problems += 1;
}

function endIfDone() {
  if (batch.readers > 0 || batch.workers > 0) return;
  const sent = batch.done - batch.refused, complete = batch.problems === 0;
  batch = null;
  delete document.querySelector("main").dataset.busy;
  form.querySelector("progress").hidden = true;
  form.querySelector("[role=status]").textContent = complete && sent === 0
    ? "There are no files in what was dropped."
    : `${sent} ${sent === 1 ? "file was" : "files were"} sent.${complete ? "" : " Not sent:"}`;
  if (sent === 0) return;
  // For these files only was it wanted.
  form.elements.replace.checked = false;
  form.querySelector("[data-detour]").hidden = !form.dataset.direct || !madeDetour();
  // Of `crunch.js`: with the files as they are now.
  refresh(true);
}

async function work() {
  batch.workers += 1;
  while (batch.queue.length > 0) {
    const next = batch.queue.shift(), [path, file] = next;
    const problem = await send(path, file, (bytes, doing) => { batch.moved.set(next, bytes); tell(doing); });
    batch.done += 1;
    batch.moved.set(next, file.size);
    if (problem) { batch.refused += 1; tellNotSent(path, problem); }
    tell();
  }
  batch.workers -= 1;
  endIfDone();
}

// Sends what `reading` finds, with what is on its way already.
async function sendAll(reading) {
  if (batch === null) begin();
  batch.readers += 1;
  const { found, problems } = await reading;
  batch.readers -= 1;
  for (const [path, problem] of problems) tellNotSent(path, problem);
  batch.queue = batch.queue.concat(found);
  batch.files += found.length;
  batch.bytes += found.reduce((sum, [, file]) => sum + file.size, 0);
  tell();
  while (batch.workers < AT_ONCE && batch.queue.length > 0) work();
  endIfDone();
}

if (form !== null) {
  const chooser = form.querySelector("input[type=file]");
  chooser.addEventListener("change", () => {
    const found = [...chooser.files].map((file) => [file.name, file]);
    if (found.length > 0) sendAll(Promise.resolve({ found, problems: [] }));
    chooser.value = "";
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("[data-detour]").hidden = !form.dataset.direct || !madeDetour();
  for (const kind of ["dragenter", "dragover"]) {
    form.addEventListener(kind, (event) => { event.preventDefault(); form.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) form.addEventListener(kind, () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    sendAll(dropped(event.dataTransfer));
  });
  addEventListener("beforeunload", (event) => {
    if (document.querySelector("main").dataset.busy) event.preventDefault();
  });
}
