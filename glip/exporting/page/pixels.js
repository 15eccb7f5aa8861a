// A photo -> normalised numbers at the size that the model wants, as glip/pixels.py does it: Pillow's
// antialiased bilinear resizing in 8 bits, so that the model sees what it was trained on.

const DIVISOR = 32; // the coarsest stride of the backbone
const BITS = 22; // of the weights of a filter, as integers

/** Height and width after resizing, by the official arithmetic. */
function resizedHw([height, width], { short_side: shortSide, long_side: longSide }) {
  const short = Math.min(height, width);
  const long = Math.max(height, width);
  let target = shortSide;
  if ((long / short) * target > longSide) target = roundEven((longSide * short) / long);
  let scaled;
  if (target < 1) scaled = [1, longSide];
  else if (target === short) return [height, width];
  else scaled = [target, Math.trunc((target * long) / short)];
  return height <= width ? scaled : scaled.reverse();
}

/** Height and width of a photo that is fitted into a size, its shape kept. */
function fittedHw(hw, sizeHw) {
  const scale = Math.min(sizeHw[0] / hw[0], sizeHw[1] / hw[1]);
  return hw.map((side, axis) => Math.max(1, Math.min(roundEven(side * scale), sizeHw[axis])));
}

function roundEven(value) {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down % 2 ? down + 1 : down;
}

/** For each output pixel of one axis: the first input pixel and the integer weights from there on. */
function filterOf(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let x = first; x < last; x++) {
      weights.push(Math.max(0, 1 - Math.abs((x - centre + 0.5) / support)));
    }
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((one) => Math.trunc((one / sum) * 2 ** BITS + 0.5)) };
  });
}

/** One pass of resizing: `lines` lines of pixels that lie `step` apart, lines `stride` apart. */
function resample(input, output, filter, lines, [step, stride], [outStep, outStride]) {
  for (let line = 0; line < lines; line++) {
    for (let place = 0; place < filter.length; place++) {
      const { first, weights } = filter[place];
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** (BITS - 1);
        let from = line * stride + first * step + channel;
        for (const weight of weights) {
          sum += input[from] * weight;
          from += step;
        }
        output[line * outStride + place * outStep + channel] = Math.floor(sum / 2 ** BITS); // clamps
      }
    }
  }
}

/** RGBA of one size as RGBA of another, its alpha left out. */
function resize({ data, width, height }, [high, wide]) {
  let current = data;
  if (wide !== width) {
    const rows = new Uint8ClampedArray(4 * wide * height);
    resample(current, rows, filterOf(width, wide), height, [4, 4 * width], [4, 4 * wide]);
    current = rows;
  }
  if (high !== height) {
    const columns = new Uint8ClampedArray(4 * wide * high);
    resample(current, columns, filterOf(height, high), wide, [4 * wide, 4], [4 * wide, 4]);
    current = columns;
  }
  return current;
}

/**
 * What the graphs take: {pixels: (1, 3, H, W), paddedHw, resizedHw, originalHw}, zeros below and on
 * the right.
 *
 * `image` is ImageData, `config` the "pixels" of glip.json, `sizeHw` its "size_hw".
 */
export function prepare(image, config, sizeHw) {
  const originalHw = [image.height, image.width];
  const resized = sizeHw ? fittedHw(originalHw, sizeHw) : resizedHw(originalHw, config);
  const padded = sizeHw ?? resized.map((side) => side + ((DIVISOR - (side % DIVISOR)) % DIVISOR));
  const bytes = resize(image, resized);
  const pixels = new Float32Array(3 * padded[0] * padded[1]);
  for (let plane = 0; plane < 3; plane++) {
    const channel = config.order === "bgr" ? 2 - plane : plane;
    const [mean, std] = [Math.fround(config.mean[channel]), Math.fround(config.std[channel])];
    for (let y = 0; y < resized[0]; y++) {
      const row = (plane * padded[0] + y) * padded[1];
      for (let x = 0; x < resized[1]; x++) {
        pixels[row + x] = Math.fround(bytes[4 * (y * resized[1] + x) + channel] - mean) / std;
      }
    }
  }
  return { pixels, paddedHw: padded, resizedHw: resized, originalHw };
}
