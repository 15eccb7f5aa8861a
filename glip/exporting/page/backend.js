// Boxes from the model in this browser: the worker has it, and nothing leaves the machine.

import { namesOf, sentenceOf } from "./tokens.js";

const $ = (id) => document.getElementById(id);
const waiting = new Map(); // number of a question -> {resolve, reject}
let worker;
let page;
let asked = 0;

function start() {
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    worker.onerror = (event) => reject(new Error(event.message || "The model cannot be started."));
    worker.onmessage = ({ data }) => {
      if (data.ready) return resolve(data);
      const { resolve: answer, reject: refuse } = waiting.get(data.number) ?? { reject };
      waiting.delete(data.number);
      if (data.failed) refuse(new Error(data.failed));
      else answer(data.answer);
    };
  });
}

/** The model: its name, threshold and the colours of phrases, once it is ready. */
export async function readModel() {
  page = await (await fetch(new URL("model.json", import.meta.url))).json();
  $("words-label").textContent = "What to look for: names, with commas between them";
  $("words").placeholder = "cat, ear";
  if (page.baked) {
    $("words-label").textContent = "What it looks for";
    $("words").value = page.baked.names.join(", ");
    $("words").readOnly = true;
  }
  $("status").textContent = `Loading the model (${Math.round(page.bytes / 1e6)} MB) …`;
  const { threads } = await start();
  const device = threads > 1 ? `your processor, ${threads} threads` : "your processor";
  return { ...page, device, tasks: {} };
}

/** All boxes of a photo, those that hardly score too: the slider hides them without asking again. */
export async function find(photo, { text, signal }) {
  const names = page.baked?.names ?? namesOf(text);
  if (!names.length) throw new Error("Name something to look for.");
  const number = asked++;
  const { width, height, found } = await new Promise((resolve, reject) => {
    waiting.set(number, { resolve, reject });
    worker.postMessage({ number, blob: photo.blob, names });
  });
  signal.throwIfAborted(); // somebody has asked something else meanwhile
  const { text: prompt, spans } = sentenceOf(names);
  const detections = found.map(({ box, score, label }) => (
    { box, score, phrase: names[label], span: spans[label][0] }));
  const phrases = names.map((phrase, row) => ({
    phrase, spans: spans[row],
    detections: found.flatMap((one, place) => (one.label === row ? [place] : [])),
  }));
  return { image: photo.name, width, height, prompt, detections, phrases };
}
