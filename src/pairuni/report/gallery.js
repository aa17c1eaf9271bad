"use strict";
// Pairs of a PairUG file: filters, a histogram, and a list that holds only the cards near the viewport.
// Text of the data is inserted as textContent or attributes, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const ALIGNED = "aligned";
const GAP = 20;
const LEAST_CARD = 300;

// A side has the index of its image, or a list of several.
const sides = data.sides.map(([image, prompt, question, answer, tag]) => ({
  images: [].concat(image), prompt, question, answer, tag,
}));
const pairs = data.pairs.map(([number, similarity, understanding, generation]) => ({
  number,
  similarity,
  understanding: sides[understanding],
  generation: sides[generation],
  kind: String(sides[understanding].images) === String(sides[generation].images) ? ALIGNED : "retrieved",
  found: null,
}));
const byNumber = new Map(pairs.map((pair) => [pair.number, pair]));
const spoken = (value) => value.toLocaleString("en");
const said = (similarity) => similarity.toFixed(2);

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

// The searchable text of a pair, computed at the first search.
function words(pair) {
  if (pair.found === null) {
    const both = [pair.understanding, pair.generation];
    const all = both.flatMap((side) => [side.prompt, side.question, side.answer, data.tags[side.tag]]);
    pair.found = all.join("\n").normalize("NFKC").toLowerCase();
  }
  return pair.found;
}

// ---- Filters

const retrieved = pairs.filter((pair) => pair.kind !== ALIGNED);
const least = pairs.reduce((low, pair) => Math.min(low, pair.similarity), 1);
const binWidth = 1 - least <= 0.5 ? 0.02 : 0.05;
const start = Math.min(Math.floor(least / binWidth + 1e-9) * binWidth, 1 - 5 * binWidth);
const bins = Math.round((1 - start) / binWidth);
const binOf = (similarity) => Math.max(0, Math.min(bins - 1, Math.floor((similarity - start) / binWidth + 1e-9)));
let shown = pairs;

function choices() {
  return {
    sought: at("words").value.normalize("NFKC").toLowerCase().split(/\s+/).filter(Boolean),
    kind: document.querySelector("input[name=kind]:checked").value,
    tag: at("tag").value === "" ? null : Number(at("tag").value),
    low: Number(at("low").value),
    high: Number(at("high").value),
    order: at("order").value,
  };
}

function filter() {
  const { sought, kind, tag, low, high, order } = choices();
  const others = pairs.filter(
    (pair) =>
      (!kind || pair.kind === kind) &&
      (tag === null || pair.understanding.tag === tag || pair.generation.tag === tag) &&
      sought.every((word) => words(pair).includes(word)),
  );
  shown = others.filter((pair) => pair.similarity >= low - 1e-9 && pair.similarity <= high + 1e-9);
  if (order !== "file") {
    const sign = order === "rising" ? 1 : -1;
    shown.sort((a, b) => sign * (a.similarity - b.similarity) || a.number - b.number);
  }
  drawBars(others, low, high);
  at("range").textContent = `${said(low)} to ${said(high)}`;
  const all = shown.length === pairs.length;
  const noun = pairs.length === 1 ? "pair" : "pairs";
  at("count").textContent = all ? `${spoken(pairs.length)} ${noun}` : `${spoken(shown.length)} of ${spoken(pairs.length)} ${noun}`;
  at("clear").hidden = !(sought.length || kind || tag !== null || low > start + 1e-9 || high < 1);
  at("none").hidden = shown.length > 0;
  if (at("list").getBoundingClientRect().top < 0) toTop();
  layout();
}

function drawBars(others, low, high) {
  const counts = new Array(bins).fill(0);
  let inBars = 0;
  for (const pair of others) {
    if (pair.kind === ALIGNED) continue;
    counts[binOf(pair.similarity)] += 1;
    inBars += 1;
  }
  const tallest = Math.max(...counts);
  const svg = document.querySelector("#plot svg");
  counts.forEach((count, index) => {
    const bar = svg.children[index];
    const height = tallest ? (100 * count) / tallest : 0;
    bar.setAttribute("y", 100 - height);
    bar.setAttribute("height", height);
    const middle = start + (index + 0.5) * binWidth;
    bar.classList.toggle("out", middle < low || middle > high);
  });
  at("tallest").textContent = tallest ? `${spoken(tallest)} pairs` : "";
  const mode = start + counts.indexOf(tallest) * binWidth;
  at("plot").setAttribute(
    "aria-label",
    inBars
      ? `Histogram of similarity: ${spoken(inBars)} retrieved pairs, most between ${said(mode)} and ${said(mode + binWidth)}`
      : "Histogram of similarity: no retrieved pairs",
  );
  const aligned = others.length - inBars;
  at("bars-note").textContent = aligned
    ? `Bars: ${spoken(inBars)} retrieved pairs. The ${spoken(aligned)} aligned pairs, all at 1, are not shown.`
    : `Bars: ${spoken(inBars)} retrieved pairs.`;
}

function prepareFilters() {
  const counts = data.tags.map(() => 0);
  for (const { understanding, generation } of pairs) {
    counts[understanding.tag] += 1;
    if (generation.tag !== understanding.tag) counts[generation.tag] += 1;
  }
  at("tag").append(element("option", { value: "", textContent: "any" }));
  const order = [...data.tags.keys()].sort((a, b) => counts[b] - counts[a] || (data.tags[a] < data.tags[b] ? -1 : 1));
  for (const tag of order) {
    at("tag").append(element("option", { value: tag, textContent: `${data.tags[tag] || "(none)"} · ${spoken(counts[tag])}` }));
  }
  const svg = document.querySelector("#plot svg");
  for (let index = 0; index < bins; index += 1) {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    bar.setAttribute("x", (100 * (index + 0.06)) / bins);
    bar.setAttribute("width", 88 / bins);
    svg.append(bar);
  }
  for (const id of ["low", "high"]) {
    at(id).min = start.toFixed(2);
    at(id).max = 1;
  }
  at("from").textContent = String(Number(start.toFixed(2)));
  document.querySelector(".similarity").hidden = retrieved.length === 0;
  reset();

  let waiting = 0;
  at("words").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 120);
  });
  at("filters").addEventListener("change", (event) => event.target.id !== "words" && filter());
  at("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(waiting);
    filter();
  });
  for (const id of ["low", "high"]) {
    at(id).addEventListener("input", () => {
      const [low, high] = [Number(at("low").value), Number(at("high").value)];
      if (low > high) at(id).value = id === "low" ? high : low;
      raise();
      filter();
    });
  }
  at("clear").addEventListener("click", () => {
    reset();
    filter();
    at("words").focus();
  });
  at("up").addEventListener("click", () => {
    window.scrollTo({ top: 0, behavior: "instant" });
    at("words").focus();
  });
}

// Where both handles meet, the one that can still move is on top.
function raise() {
  at("low").style.zIndex = Number(at("low").value) > (start + 1) / 2 ? 1 : 0;
}

function reset() {
  at("filters").reset();
  at("low").value = start.toFixed(2);
  at("high").value = 1;
  raise();
}

// ---- The list

const list = at("list");
const cards = new Map(); // position in shown -> card
let columns = 1;
let width = LEAST_CARD;
let rowHeight = 1;

function layout() {
  const first = firstVisible();
  const available = list.clientWidth;
  columns = Math.max(1, Math.floor((available + GAP) / (LEAST_CARD + GAP)));
  width = Math.floor((available - GAP * (columns - 1)) / columns);
  for (const card of cards.values()) card.remove();
  cards.clear();
  if (shown.length) {
    const probe = card(0);
    list.append(probe);
    rowHeight = probe.offsetHeight + GAP;
    probe.remove();
  }
  list.style.height = `${Math.max(0, Math.ceil(shown.length / columns) * rowHeight - GAP)}px`;
  if (first > 0) window.scrollTo({ top: rowTop(first) - 60, behavior: "instant" });
  render();
}

function firstVisible() {
  const above = -list.getBoundingClientRect().top;
  return above <= 0 ? 0 : Math.floor(above / rowHeight) * columns;
}

function rowTop(position) {
  return list.getBoundingClientRect().top + window.scrollY + Math.floor(position / columns) * rowHeight;
}

function toTop() {
  window.scrollTo({ top: list.getBoundingClientRect().top + window.scrollY - 60, behavior: "instant" });
}

function render() {
  const above = -list.getBoundingClientRect().top;
  const margin = 0.75 * window.innerHeight;
  at("up").hidden = above < 0;
  const from = Math.max(0, Math.floor((above - margin) / rowHeight)) * columns;
  const to = Math.min(shown.length, Math.ceil((above + window.innerHeight + margin) / rowHeight) * columns);
  for (const [position, card] of cards) {
    // Keep a card that has the focus: removing it would move the focus to the top of the page.
    if ((position < from || position >= to) && !card.contains(document.activeElement)) {
      card.remove();
      cards.delete(position);
    }
  }
  let next = list.firstElementChild;
  while (next && Number(next.dataset.position) < from) next = next.nextElementSibling;
  for (let position = from; position < to; position += 1) {
    const there = cards.get(position);
    if (there) {
      next = there.nextElementSibling;
      continue;
    }
    const made = card(position);
    cards.set(position, made);
    list.insertBefore(made, next);
  }
}

function card(position) {
  const pair = shown[position];
  const link = element("a", { href: `#pair-${pair.number}`, textContent: `Pair ${spoken(pair.number)}` });
  const made = element(
    "li",
    { className: "pair-card" },
    element("p", {}, link, element("span", { textContent: `${pair.kind} · ${pair.similarity.toFixed(3)}` })),
    element(
      "div",
      { className: "two" },
      half("understanding", pair.understanding, (side) => [
        element("span", { className: "said", textContent: side.question }),
        element("span", { className: "replied", textContent: side.answer }),
      ]),
      half("generation", pair.generation, (side) => [
        element("span", { className: "said tall", textContent: side.prompt }),
      ]),
    ),
  );
  made.dataset.position = position;
  made.setAttribute("aria-setsize", shown.length);
  made.setAttribute("aria-posinset", position + 1);
  made.style.width = `${width}px`;
  const x = (position % columns) * (width + GAP);
  made.style.transform = `translate(${x}px, ${Math.floor(position / columns) * rowHeight}px)`;
  return made;
}

function half(task, side, lines) {
  const tag = data.tags[side.tag];
  const head = element("span", { className: "role" }, element("b", { textContent: task }), tag ? ` · ${tag}` : "");
  const words = element("span", { className: "lines" }, ...lines(side));
  return element("figure", { className: task }, imagesOf(side, task), element("figcaption", {}, head, words));
}

function imagesOf(side, task) {
  const alt = `${task} side: ${side.prompt}`;
  const count = side.images.length;
  if (count === 1) return imageOf(side.images[0], alt);
  const shown = side.images.map((number, place) => imageOf(number, `${alt} (image ${place + 1} of ${count})`));
  const size = count > 9 ? "several crowded" : count > 4 ? "several many" : "several";
  return element("span", { className: size }, ...shown);
}

function imageOf(number, alt) {
  const image = data.images[number];
  if (image === null) {
    const missing = element("span", { className: "image missing", textContent: "not found" });
    missing.setAttribute("role", "img");
    missing.setAttribute("aria-label", `${alt}: not found`);
    return missing;
  }
  const [source, wide, high] = image;
  const crisp = Math.max(wide, high) <= 96 ? "image crisp" : "image";
  return element("img", { className: crisp, alt, width: wide, height: high, decoding: "async", src: source });
}

function focusOn(position) {
  const top = rowTop(position);
  const low = window.scrollY + 60;
  const high = window.scrollY + window.innerHeight - rowHeight;
  if (top < low) window.scrollTo({ top: top - 60, behavior: "instant" });
  else if (top > high) window.scrollTo({ top: Math.min(top - 60, top - window.innerHeight + rowHeight), behavior: "instant" });
  render();
  cards.get(position)?.querySelector("a").focus({ preventScroll: true });
}

list.addEventListener("keydown", (event) => {
  const card = event.target.closest(".pair-card");
  if (!card || event.altKey || event.ctrlKey || event.metaKey) return;
  const page = Math.max(1, Math.floor(window.innerHeight / rowHeight)) * columns;
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -page, PageDown: page };
  const position = Number(card.dataset.position);
  const last = shown.length - 1;
  let target;
  if (event.key === "Home") target = 0;
  else if (event.key === "End") target = last;
  else if (event.key in moves) target = Math.max(0, Math.min(last, position + moves[event.key]));
  else return;
  event.preventDefault();
  focusOn(target);
});

// ---- One pair

const dialog = at("pair");
let opened = null;

function show(pair) {
  opened = pair;
  at("pair-title").textContent = `Pair ${spoken(pair.number)}`;
  at("pair-what").textContent = `${pair.kind}, similarity ${pair.similarity.toFixed(4)}`;
  at("sides").replaceChildren(
    fullSide("understanding", "Understanding side", pair.understanding, ["question", "answer"], ["prompt"]),
    fullSide("generation", "Generation side", pair.generation, ["prompt"], ["question", "answer"]),
  );
  const position = shown.indexOf(pair);
  at("before").disabled = position <= 0;
  at("after").disabled = position < 0 || position === shown.length - 1;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

function fullSide(task, title, side, main, rest) {
  const terms = element("dl");
  const add = (name, text, className) => {
    if (text) terms.append(element("dt", { textContent: name }), element("dd", { textContent: text, className }));
  };
  for (const name of main) add(name, side[name], "main");
  for (const name of rest) add(`${name} (not used on this side)`, side[name], "");
  add("tag", data.tags[side.tag], "");
  for (const number of side.images) add("file", data.paths[number], "path");
  return element("section", { className: task }, element("h3", { textContent: title }), imagesOf(side, task), terms);
}

function follow() {
  const match = /^#pair-(\d+)$/.exec(location.hash);
  const pair = match && byNumber.get(Number(match[1]));
  if (pair) show(pair);
  else if (dialog.open) dialog.close();
}

function step(by) {
  const pair = shown[shown.indexOf(opened) + by];
  if (!pair || !shown.includes(opened)) return;
  history.replaceState(null, "", `#pair-${pair.number}`);
  show(pair);
}

at("before").addEventListener("click", () => step(-1));
at("after").addEventListener("click", () => step(1));
at("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
});
dialog.addEventListener("close", () => {
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  const position = shown.indexOf(opened);
  if (position >= 0) focusOn(position);
});
window.addEventListener("hashchange", follow);

// ---- Start

let renderRequested = false;
window.addEventListener(
  "scroll",
  () => {
    if (renderRequested) return;
    renderRequested = true;
    requestAnimationFrame(() => {
      renderRequested = false;
      render();
    });
  },
  { passive: true },
);
let lastSize = "";
new ResizeObserver(() => {
  const size = `${list.clientWidth} ${window.innerHeight} ${getComputedStyle(list).fontSize}`;
  if (size === lastSize) return;
  if (lastSize) layout();
  lastSize = size;
}).observe(document.documentElement);
prepareFilters();
filter();
follow();
document.documentElement.dataset.ready = "";
