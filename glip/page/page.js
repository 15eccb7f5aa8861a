// The page: photos and words go to whatever finds boxes (`backend.js`: the server of glip serve, or a
// model in this browser), boxes come back; all else happens here.

import { find, readModel } from "./backend.js";

const $ = (id) => document.getElementById(id);
const state = {
  photos: [], // {name, blob, url, asked, answer, error}
  current: null,
  lit: null, // {phrase: row} or {box: place}
  model: null,
  request: null, // AbortController of the one that runs
};

async function begin() {
  try {
    state.model = await readModel();
  } catch (error) {
    $("error").hidden = false;
    $("error").textContent = error.message;
    throw error;
  }
  $("model").textContent = `${state.model.model} on ${state.model.device}`;
  $("threshold").value = state.model.threshold;
  const tasks = Object.keys(state.model.tasks);
  $("task-line").hidden = tasks.length === 0;
  $("task").replaceChildren(new Option("none", ""), ...tasks.map((name) => new Option(name)));
  showThreshold();
  say("Choose a photo, or try an example.");
}

// Photos.

function addPhotos(blobs, words) {
  const added = [...blobs].map((blob) => ({
    name: blob.name || "photo.png", blob, url: URL.createObjectURL(blob),
    asked: null, answer: null, error: null,
  }));
  if (!added.length) return;
  state.photos.push(...added);
  if (words !== undefined && !$("words").readOnly) $("words").value = words;
  showThumbnails();
  select(added[0]);
}

function showThumbnails() {
  $("thumbnails").replaceChildren(...state.photos.map((photo, number) => {
    const button = element("button", { type: "button" });
    button.append(element("img", { src: photo.url, alt: `Photo ${number + 1}: ${photo.name}` }));
    button.setAttribute("aria-current", String(photo === state.current));
    button.addEventListener("click", () => select(photo));
    const item = element("li");
    item.append(button);
    return item;
  }));
}

function select(photo) {
  state.current = photo;
  state.lit = null;
  for (const [number, item] of [...$("thumbnails").children].entries()) {
    item.firstChild.setAttribute("aria-current", String(state.photos[number] === photo));
  }
  $("photo").src = photo.url;
  if (question() && photo.asked !== question()) ask();
  else show();
}

// Asking.

function question() {
  return $("task").value ? `task ${$("task").value}` : $("words").value.trim();
}

async function ask() {
  const photo = state.current;
  if (!photo) return say("Choose a photo first.");
  if (!question()) {
    $("words").focus();
    return say("Say what to look for.");
  }
  state.request?.abort();
  const request = state.request = new AbortController();
  const asked = question();
  const task = $("task").value;
  say(`Looking for ${asked} in ${photo.name} …`);
  document.body.setAttribute("aria-busy", "true");
  photo.error = null;
  try {
    const answer = await find(photo, { text: asked, task, signal: request.signal });
    answer.phrases ??= byName(answer, state.model.tasks[task]);
    Object.assign(photo, { asked, answer });
  } catch (error) {
    if (error.name === "AbortError") return;
    Object.assign(photo, { asked: null, answer: null, error: error.message });
  } finally {
    if (state.request === request) document.body.removeAttribute("aria-busy");
  }
  if (photo === state.current) {
    state.lit = null;
    show();
  }
}

function byName(answer, names) {
  return names.map((phrase) => ({
    phrase, spans: [],
    detections: answer.detections.flatMap((one, place) => (one.phrase === phrase ? [place] : [])),
  }));
}

// Showing.

function element(tag, attributes = {}, text = "") {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

function say(text) {
  $("status").textContent = text;
}

function colour(row) {
  const colours = state.model.colours;
  return colours[row % colours.length];
}

function paint(node, row) {
  node.style.setProperty("--colour", colour(row).fill);
  node.style.setProperty("--ink", colour(row).ink);
}

/** The detections above the threshold: {place, row, box, score, phrase}, best first. */
function visible() {
  const { answer } = state.current;
  const limit = Number($("threshold").value);
  const rows = new Map(answer.phrases.flatMap((one, row) => one.detections.map((p) => [p, row])));
  return answer.detections
    .map((one, place) => ({ ...one, place, row: rows.get(place) }))
    .filter((one) => one.score > limit);
}

function isLit(one) {
  return state.lit !== null && (state.lit.box === one.place || state.lit.phrase === one.row);
}

function show() {
  const photo = state.current;
  $("error").hidden = !photo?.error;
  $("error").textContent = photo?.error ? `${photo.name}: ${photo.error}` : "";
  $("result").hidden = !photo || Boolean(photo.error);
  $("panel").hidden = !photo?.answer;
  if (!photo?.answer) {
    $("boxes").replaceChildren();
    return say(photo?.error ? "" : "Say what to look for.");
  }
  showPhrases(photo.answer);
  showFound();
}

function showThreshold() {
  $("shown-threshold").textContent = Number($("threshold").value).toFixed(2);
}

function showFound() {
  const found = visible();
  $("boxes").classList.toggle("dimmed", found.some(isLit));
  const boxes = found.map(boxOf);
  $("boxes").replaceChildren(...boxes.toReversed()); // the best lies on top
  separateLabels(boxes);
  $("list").replaceChildren(...found.map(rowOf));
  for (const button of $("phrases").querySelectorAll("button")) {
    const row = Number(button.dataset.row);
    button.setAttribute("aria-pressed", String(state.lit?.phrase === row));
    const count = found.filter((one) => one.row === row).length;
    button.title = `${count} ${count === 1 ? "box" : "boxes"}`;
    button.setAttribute("aria-label", `${button.textContent}: ${button.title}`);
  }
  const limit = Number($("threshold").value).toFixed(2);
  const what = found.slice(0, 5).map((one) => `${one.phrase} ${one.score.toFixed(2)}`).join(", ");
  const count = found.length === 1 ? "1 box" : `${found.length} boxes`;
  say(found.length ? `${count} above ${limit}: ${what}${found.length > 5 ? " …" : ""}`
    : `Nothing above ${limit}; move the threshold down to see weaker guesses.`);
  $("photo").alt = `${state.current.name}, with ${count}`;
}

function boxOf(one) {
  const { width, height } = state.current.answer;
  const [x1, y1, x2, y2] = one.box;
  const box = element("div", { class: "box", "data-place": one.place });
  box.style.left = `${(100 * x1) / width}%`;
  box.style.top = `${(100 * y1) / height}%`;
  box.style.width = `${(100 * (x2 - x1)) / width}%`;
  box.style.height = `${(100 * (y2 - y1)) / height}%`;
  box.classList.toggle("inside", y1 < 0.08 * height);
  box.classList.toggle("right", x1 > 0.6 * width);
  box.classList.toggle("lit", isLit(one));
  box.append(element("span", {}, `${one.phrase} ${one.score.toFixed(2)}`));
  paint(box, one.row);
  return box;
}

/** Labels that would lie on a better one's go to the lower edge of their box. */
function separateLabels(boxes) {
  const taken = [];
  for (const box of boxes) {
    const { left, right, top, bottom } = box.firstChild.getBoundingClientRect();
    const meets = (one) => left < one.right && one.left < right && top < one.bottom && one.top < bottom;
    box.classList.toggle("low", taken.some(meets));
    taken.push(box.firstChild.getBoundingClientRect());
  }
}

function rowOf(one) {
  const button = element("button", { type: "button" });
  button.append(element("b", {}, one.phrase), element("span", {}, one.score.toFixed(2)));
  button.setAttribute("aria-pressed", String(state.lit?.box === one.place));
  button.addEventListener("click", () => light({ box: one.place }));
  paint(button, one.row);
  const item = element("li");
  item.append(button);
  return item;
}

function light(what) {
  const same = JSON.stringify(what) === JSON.stringify(state.lit);
  const place = [...$("list").querySelectorAll("button")].indexOf(document.activeElement);
  state.lit = same ? null : what;
  showFound();
  if (place >= 0) $("list").querySelectorAll("button")[place]?.focus();
}

/** The prompt with its phrases as buttons where they stand in it. */
function showPhrases(answer) {
  const text = [...answer.prompt]; // spans count characters as Python does
  const marks = answer.phrases
    .flatMap((one, row) => one.spans.map(([start, end]) => ({ start, end, row })))
    .sort((a, b) => a.start - b.start);
  const nodes = [];
  let end = 0;
  for (const mark of marks) {
    if (mark.start < end) continue; // within another
    nodes.push(text.slice(end, mark.start).join(""));
    nodes.push(phraseButton(text.slice(mark.start, mark.end).join(""), mark.row));
    end = mark.end;
  }
  if (marks.length) nodes.push(text.slice(end).join(""));
  else answer.phrases.forEach((one, row) => nodes.push(phraseButton(one.phrase, row), " "));
  $("phrases").replaceChildren(...nodes);
}

function phraseButton(text, row) {
  const button = element("button", { type: "button", "data-row": row }, text);
  button.addEventListener("click", () => light({ phrase: row }));
  paint(button, row);
  return button;
}

// Files.

function stem() {
  return state.current.name.replace(/\.\w+$/, "");
}

function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = element("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function saveJson() {
  const { image, width, height, prompt } = state.current.answer;
  const detections = visible().map(({ place, row, ...one }) => one);
  const content = JSON.stringify({ image, width, height, prompt, detections }, null, 1);
  download(new Blob([content], { type: "application/json" }), `${stem()}.json`);
}

function savePng() {
  const { width, height } = state.current.answer;
  const canvas = element("canvas");
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  pen.drawImage($("photo"), 0, 0, width, height);
  const size = Math.max(12, Math.round(Math.sqrt(width * height) / 36));
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  for (const one of visible().toReversed()) {
    const [x1, y1, x2, y2] = one.box;
    const label = `${one.phrase} ${one.score.toFixed(2)}`;
    const wide = pen.measureText(label).width + size / 2;
    const left = Math.max(0, Math.min(x1, width - wide));
    const top = y1 < 1.4 * size ? y1 : y1 - 1.4 * size;
    pen.strokeStyle = pen.fillStyle = colour(one.row).fill;
    pen.lineWidth = Math.max(2, size / 7);
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    pen.fillRect(left, top, wide, 1.4 * size);
    pen.fillStyle = colour(one.row).ink;
    pen.fillText(label, left + size / 4, top + 0.7 * size);
  }
  canvas.toBlob((blob) => download(blob, `${stem()}.png`), "image/png");
}

// The camera.

async function openCamera() {
  if (!navigator.mediaDevices?.getUserMedia) return $("capture").click(); // no https: a phone's own
  try {
    const stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 1280 } },
    });
    $("video").srcObject = stream;
    $("camera-dialog").showModal();
  } catch {
    say("The browser gives no camera to this page; choose a photo instead.");
  }
}

function closeCamera() {
  for (const track of $("video").srcObject?.getTracks() ?? []) track.stop();
  $("video").srcObject = null;
}

function takePhoto() {
  const video = $("video");
  const canvas = element("canvas");
  Object.assign(canvas, { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => {
    $("camera-dialog").close();
    addPhotos([new File([blob], `camera-${state.photos.length + 1}.jpg`, { type: blob.type })]);
  }, "image/jpeg", 0.92);
}

// What people do.

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.model) ask();
  else begin().then(ask);
});
$("words").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
$("words").addEventListener("input", () => { $("task").value = ""; });
$("task").addEventListener("change", () => { if (state.current) ask(); });
$("threshold").addEventListener("input", () => {
  showThreshold();
  if (state.current?.answer) showFound();
});
$("choose").addEventListener("click", () => $("files").click());
for (const id of ["files", "capture"]) {
  $(id).addEventListener("change", (event) => {
    addPhotos(event.target.files);
    event.target.value = "";
  });
}
$("camera").addEventListener("click", openCamera);
$("take").addEventListener("click", takePhoto);
$("cancel").addEventListener("click", () => $("camera-dialog").close());
$("camera-dialog").addEventListener("close", closeCamera);
$("save-json").addEventListener("click", saveJson);
$("save-png").addEventListener("click", savePng);
for (const button of $("examples").querySelectorAll("button")) {
  button.addEventListener("click", async () => {
    const { file, words } = button.dataset;
    const blob = await (await fetch(`page/${file}`)).blob();
    addPhotos([new File([blob], file, { type: blob.type })], words);
  });
}
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
  if (files.length) addPhotos(files);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  addPhotos(event.dataTransfer.files);
});

begin().catch(() => {}); // told on the page
