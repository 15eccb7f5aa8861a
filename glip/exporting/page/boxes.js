// What the head says -> detections, by the rules of glip/runtime/postprocess.py, which tests hold it to.
//
// A detection is {box, score, label}: xyxy, and a row of the names. Letters: A regions, T tokens.

const STRIDES = [8, 16, 32, 64, 128];
const ANCHOR_STRIDES = 8; // side of an anchor in strides of its level
const MAX_LOG_SIZE = Math.log(1000 / 16);

function sigmoid(x) {
  return 1 / (1 + Math.exp(-x));
}

/** official: boxes count their last pixel in, so in every overlap. */
function iou(one, other) {
  const wide = Math.min(one[2], other[2]) - Math.max(one[0], other[0]) + 1;
  const high = Math.min(one[3], other[3]) - Math.max(one[1], other[1]) + 1;
  const overlap = Math.max(0, wide) * Math.max(0, high);
  const area = (box) => (box[2] - box[0] + 1) * (box[3] - box[1] + 1);
  return overlap / (area(one) + area(other) - overlap);
}

function decoded(deltas, region, [x, y], stride, [height, width]) {
  const side = ANCHOR_STRIDES * stride;
  const centre = (stride - 1) / 2;
  const [dx, dy, dw, dh] = deltas.subarray(4 * region, 4 * region + 4);
  const centreX = (dx / 10) * side + x * stride + centre;
  const centreY = (dy / 10) * side + y * stride + centre;
  const halfX = (Math.exp(Math.min(dw / 5, MAX_LOG_SIZE)) * side - 1) / 2;
  const halfY = (Math.exp(Math.min(dh / 5, MAX_LOG_SIZE)) * side - 1) / 2;
  const inside = (value, limit) => Math.min(Math.max(value, 0), limit);
  return [
    inside(centreX - halfX, width - 1), inside(centreY - halfY, height - 1),
    inside(centreX + halfX, width - 1), inside(centreY + halfY, height - 1),
  ];
}

/**
 * What goes into suppression.
 *
 * `output` has flat logits (A, T), deltas (A, 4) and centerness (A,), `tokens` the columns of each
 * name, `shapes` [height, width] of each level, `imageHw` that of the resized photo.
 */
export function select(output, shapes, tokens, imageHw, options) {
  const count = output.logits.length / output.centerness.length;
  const floor = Math.max(options.probability, options.score ** 2);
  const found = [];
  let start = 0;
  shapes.forEach(([height, width], level) => {
    const own = [];
    for (let region = start; region < start + height * width; region++) {
      const logits = output.logits.subarray(region * count, (region + 1) * count);
      tokens.forEach((columns, label) => {
        const sum = columns.reduce((total, column) => total + sigmoid(logits[column]), 0);
        const probability = sum / columns.length;
        if (probability <= floor) return;
        own.push({ region, label, ranked: probability * sigmoid(output.centerness[region]) });
      });
    }
    own.sort((a, b) => b.ranked - a.ranked);
    for (const { region, label, ranked } of own.slice(0, options.candidates_per_level)) {
      const place = region - start;
      const cell = [place % width, Math.floor(place / width)];
      const box = decoded(output.deltas, region, cell, STRIDES[level], imageHw);
      found.push({ box, score: Math.sqrt(ranked), label });
    }
    start += height * width;
  });
  return found;
}

/** Non-maximum suppression inside each name, and the cap, best first. */
export function suppress(found, options) {
  const kept = [];
  for (const one of found.toSorted((a, b) => b.score - a.score)) {
    const beaten = (other) => other.label === one.label && iou(one.box, other.box) > options.nms;
    if (one.score > options.score && !kept.some(beaten)) kept.push(one);
  }
  return cap(kept, options.max_detections);
}

/** The best so many of several passes, and all that equal the last of them. */
export function cap(found, limit) {
  const best = found.toSorted((a, b) => b.score - a.score);
  return best.length > limit ? best.filter(({ score }) => score >= best[limit - 1].score) : best;
}

/** Detections of the first `names` labels, less those that one of the others explains better. */
export function withoutNegatives(found, names, overlap) {
  const others = found.filter(({ label }) => label >= names);
  return found.filter((one) => one.label < names
    && !others.some((other) => other.score > one.score && iou(one.box, other.box) > overlap));
}

/** Boxes of the resized photo as boxes of the photo, far edges exclusive. */
export function rescaled(found, fromHw, toHw) {
  const [y, x] = [toHw[0] / fromHw[0], toHw[1] / fromHw[1]];
  return found.map(({ box: [x1, y1, x2, y2], ...one }) => ({
    ...one,
    box: [x1 * x, y1 * y, Math.min(x2 * x + 1, toHw[1]), Math.min(y2 * y + 1, toHw[0])],
  }));
}
