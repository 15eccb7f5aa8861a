// Names -> token ids, as glip/text does it: WordPiece as BERT uses it (arXiv 1810.04805), and names
// that are too many for one text in as few texts as possible.

const SEPARATOR = ". ";
const TITLES = new Set(["mr", "mrs", "ms", "dr", "st", "mt"]);

/** What a person types: names with commas, periods, semicolons or line ends between them, each once. */
export function namesOf(text) {
  const pieces = [""];
  for (const part of text.split(/(,|;|。|\n|\r|\.+(?=\s|$))/)) {
    const before = pieces.at(-1);
    const last = before.trim().split(/\s+/).at(-1).toLowerCase();
    const initials = /(^|\s)(\p{L}\.)+\p{L}$/u.test(before) || TITLES.has(last);
    if (!/^([,;。\n\r]|\.+)$/.test(part) || (part === "." && initials)) pieces[pieces.length - 1] += part;
    else pieces.push("");
  }
  const names = pieces.map((piece) => piece.replace(/\s+/g, " ").replace(/^[\s\-*•]+|[\s.,;:!?。！？、，]+$/gu, ""));
  return [...new Set(names.filter((name) => /[\p{L}\p{N}]/u.test(name)))];
}

/** A class name as the official evaluation writes it. */
function cleaned(name) {
  const clean = name.replace(/\(.*\)/, "").replaceAll("_", " ").replaceAll("  ", " ");
  return clean.trim() ? clean : name;
}

export class Tokenizer {
  /** Of the content of a tokenizer.json with BERT's parts. */
  constructor(content) {
    const { model, post_processor: frame, normalizer } = content;
    this.vocabulary = new Map(Object.entries(model.vocab));
    this.unknown = this.vocabulary.get(model.unk_token);
    this.prefix = model.continuing_subword_prefix;
    this.longest = model.max_input_chars_per_word;
    this.cls = frame.cls[1];
    this.sep = frame.sep[1];
    this.lowercase = normalizer.lowercase;
    this.stripAccents = normalizer.strip_accents ?? normalizer.lowercase;
    this.spaceChinese = normalizer.handle_chinese_chars;
  }

  /** Ids of a text, without those around it. */
  encode(text) {
    return this.words(this.normalised(text)).flatMap((word) => this.pieces(word));
  }

  normalised(text) {
    let letters = [...text].map((one) => (/[\t\n\r\p{Zs}]/u.test(one) ? " " : one));
    letters = letters.filter((one) => one !== "\uFFFD" && !/[\p{Cc}\p{Cf}\p{Co}]/u.test(one));
    if (this.spaceChinese) letters = letters.map((one) => (isChinese(one.codePointAt(0)) ? ` ${one} ` : one));
    let result = letters.join("");
    if (this.stripAccents) result = result.normalize("NFD").replace(/\p{Mn}/gu, "");
    return this.lowercase ? [...result].map((one) => one.toLowerCase()).join("") : result;
  }

  /** Words and single marks: every ASCII symbol is one. */
  words(text) {
    return text.match(/[!-/:-@[-`{-~\p{P}]|[^\s!-/:-@[-`{-~\p{P}]+/gu) ?? [];
  }

  pieces(word) {
    const letters = [...word];
    if (letters.length > this.longest) return [this.unknown];
    const ids = [];
    for (let start = 0; start < letters.length;) {
      let end = letters.length;
      let id;
      for (; end > start; end--) {
        id = this.vocabulary.get((start ? this.prefix : "") + letters.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (id === undefined) return [this.unknown];
      ids.push(id);
      start = end;
    }
    return ids;
  }
}

function isChinese(code) {
  const ranges = [[0x4e00, 0x9fff], [0x3400, 0x4dbf], [0x20000, 0x2a6df], [0x2a700, 0x2b73f],
    [0x2b740, 0x2b81f], [0x2b920, 0x2ceaf], [0xf900, 0xfaff], [0x2f800, 0x2fa1f]];
  return ranges.some(([first, last]) => code >= first && code <= last);
}

/** The sentence of a list of names, and the characters of each in it, counted as Python does. */
export function sentenceOf(names) {
  const spans = [];
  let start = 0;
  for (const name of names.map(cleaned)) {
    const length = [...name].length;
    spans.push([[start, start + length]]);
    start += length + SEPARATOR.length;
  }
  return { text: names.map(cleaned).join(SEPARATOR), spans };
}

/**
 * What the text encoder reads for a list of names: {ids, tokens, rows}, `tokens` the places of each
 * name's tokens and `rows` the name's place in the list.
 */
export function passesOf(names, tokenizer, maxTokens) {
  const pieces = names.map((name) => tokenizer.encode(cleaned(name)));
  const gap = tokenizer.encode(SEPARATOR);
  const sizes = pieces.map((ids) => ids.length);
  const room = maxTokens - 2;
  sizes.forEach((size, row) => {
    if (!size) throw new Error(`The model cannot read "${names[row]}"; remove it.`);
    if (size > room) throw new Error(`"${names[row]}" is too long; shorten it.`);
  });
  return groups(sizes, gap.length, room).map((rows) => {
    const ids = [tokenizer.cls];
    const tokens = rows.map((row, place) => {
      if (place) ids.push(...gap);
      const first = ids.length;
      ids.push(...pieces[row]);
      return pieces[row].map((_, number) => first + number);
    });
    return { ids: [...ids, tokenizer.sep], tokens, rows };
  });
}

/** Rows in as few groups as we can; neighbours stay together where that costs no group more. */
function groups(sizes, gap, room) {
  const inOrder = runs(sizes, gap, room);
  const fewest = Math.ceil(sizes.reduce((sum, size) => sum + size + gap, 0) / (room + gap));
  if (inOrder.length === fewest) return inOrder;
  const packed = bestFit(sizes, gap, room);
  return packed.length < inOrder.length ? packed : inOrder;
}

function runs(sizes, gap, room) {
  const made = [];
  let free = 0;
  sizes.forEach((size, row) => {
    free -= gap + size;
    if (free < 0 || !made.length) {
      made.push([]);
      free = room - size;
    }
    made.at(-1).push(row);
  });
  return made;
}

function bestFit(sizes, gap, room) {
  const made = []; // {rows, free}
  const largestFirst = sizes.map((_, row) => row).sort((a, b) => sizes[b] - sizes[a] || a - b);
  for (const row of largestFirst) {
    let best = null;
    for (const one of made) {
      if (one.free >= sizes[row] + gap && (!best || one.free < best.free)) best = one;
    }
    if (best) best.free -= gap + sizes[row];
    else made.push(best = { rows: [], free: room - sizes[row] });
    best.rows.push(row);
  }
  return made.map(({ rows }) => rows.sort((a, b) => a - b)).sort((a, b) => a[0] - b[0]);
}
