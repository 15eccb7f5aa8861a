// The model, away from the page's own thread: {number, blob, names} in, {number, answer} out.

import * as ort from "./ort/ort.wasm.min.mjs";
import { cap, rescaled, select, suppress, withoutNegatives } from "./boxes.js";
import { prepare } from "./pixels.js";
import { passesOf, Tokenizer } from "./tokens.js";

const own = (name) => new URL(name, import.meta.url).href;
const exported = (name) => new URL(`../${name}`, import.meta.url).href;
const REMEMBERED = 64; // texts

ort.env.wasm.wasmPaths = {
  mjs: own("ort/ort-wasm-simd-threaded.mjs"), wasm: own("ort/ort-wasm-simd-threaded.wasm"),
};

async function read(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} cannot be read (${response.status}).`);
  return response;
}

async function graph(name) {
  return ort.InferenceSession.create(exported(`${name}.onnx`), { executionProviders: ["wasm"] });
}

async function open() {
  const [manifest, page] = await Promise.all(
    [exported("glip.json"), own("model.json")].map(async (name) => (await read(name)).json()),
  );
  const model = { manifest, options: page.options, texts: new Map() };
  model.image = await graph("image_encoder");
  model.head = await graph("head");
  if (page.baked) {
    const states = new Float32Array(await (await read(own("words.bin"))).arrayBuffer());
    model.baked = { ...page.baked, states };
  } else {
    model.tokenizer = new Tokenizer(await (await read(exported("tokenizer.json"))).json());
    model.text = await graph("text_encoder");
  }
  return model;
}

const opened = open();
opened.then(
  () => postMessage({ ready: true, threads: ort.env.wasm.numThreads }),
  (error) => postMessage({ failed: error.message }),
);

/** Upright pixels on white. */
async function decode(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new Error("This is no picture that the browser can read.");
  }
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white";
  pen.fillRect(0, 0, bitmap.width, bitmap.height);
  pen.drawImage(bitmap, 0, 0);
  return pen.getImageData(0, 0, bitmap.width, bitmap.height);
}

/** Words of each pass: {states, length, tokens, rows}; what is baked in is one pass. */
async function wordsOf(model, names) {
  if (model.baked) {
    const { states, tokens, length } = model.baked;
    return [{ states: new ort.Tensor("float32", states, [1, length, states.length / length]),
      length, tokens, rows: tokens.map((_, row) => row) }];
  }
  const passes = [];
  for (const pass of passesOf(names, model.tokenizer, model.manifest.model.text.max_tokens)) {
    const key = pass.ids.join();
    const length = pass.ids.length;
    if (!model.texts.has(key)) {
      const ids = new ort.Tensor("int64", BigInt64Array.from(pass.ids, BigInt), [1, length]);
      const { states } = await model.text.run({ ids, mask: maskOf(length) });
      if (model.texts.size >= REMEMBERED) model.texts.delete(model.texts.keys().next().value);
      model.texts.set(key, states);
    }
    passes.push({ ...pass, length, states: model.texts.get(key) });
  }
  return passes;
}

function maskOf(length) {
  return new ort.Tensor("bool", new Uint8Array(length).fill(1), [1, length]);
}

async function detect(blob, names) {
  const model = await opened;
  const { manifest, options } = model;
  const picture = prepare(await decode(blob), manifest.model.pixels, manifest.size_hw);
  const pixels = new ort.Tensor("float32", picture.pixels, [1, 3, ...picture.paddedHw]);
  const levels = await model.image.run({ pixels });
  const shapes = model.image.outputNames.map((name) => levels[name].dims.slice(2));
  const rivals = model.baked && model.baked.tokens.length > names.length;
  const each = rivals ? { ...options, max_detections: Infinity } : options;
  let found = [];
  for (const { states, length, tokens, rows } of await wordsOf(model, names)) {
    const output = await model.head.run({ ...levels, states, mask: maskOf(length) });
    const { logits, deltas, centerness } = output;
    const flat = { logits: logits.data, deltas: deltas.data, centerness: centerness.data };
    const candidates = select(flat, shapes, tokens, picture.resizedHw, each);
    found.push(...suppress(candidates, each).map((one) => ({ ...one, label: rows[one.label] })));
  }
  if (rivals) found = withoutNegatives(found, names.length, options.nms);
  const [height, width] = picture.originalHw;
  const best = cap(found, options.max_detections);
  return { width, height, found: rescaled(best, picture.resizedHw, picture.originalHw) };
}

onmessage = async ({ data: { number, blob, names } }) => {
  try {
    postMessage({ number, answer: await detect(blob, names) });
  } catch (error) {
    postMessage({ number, failed: error.message });
  }
};
