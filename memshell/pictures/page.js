"use strict";
// The page: states are rebuilt from what each step changed, and drawn on a canvas for each machine.

const LEGEND = @LEGEND@;
// Which lines of a step's call tree say why pages are what they are.
const WHY = {
  memmap: /altmap|vmemmap_alloc|memmap_on_memory|kept for it|a block's memmap/,
  padding: /memmap_on_memory|kept for it|a block's memmap/,
  free: /generic_online_page|online_pages\(|__free_pages_core|managed|free_/,
  offline: /offline_pages\(|add_memory_block|create_memory_block/,
  kernel: /__alloc_pages|kernel_physical_mapping|alloc/,
};
const PLAY_EVERY = 900; // ms
const GUTTER = 104; // of a map, for addresses

const $ = (selector) => document.querySelector(selector);
function make(name, text, className) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}
const hex = (number) => "0x" + number.toString(16);
function size(bytes) {
  const units = ["", "K", "M", "G", "T", "P"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit++;
  }
  return (Number.isInteger(bytes * 4) ? String(bytes) : bytes.toFixed(1)) + units[unit];
}

// --- states ---

/** Rows [start, length, value, count, stride] as runs [start, end, value], in order. */
function expanded(rows) {
  const runs = [];
  for (const [start, length, value, count = 1, stride = 0] of rows)
    for (let i = 0; i < count; i++) runs.push([start + i * stride, start + i * stride + length, value]);
  return runs.sort((a, b) => a[0] - b[0]);
}

/** Runs with `changes` put over them; a value below zero is nothing. What no change touches is shared. */
function merged(old, changes) {
  const from = Math.max(runAt(old, changes[0][0]) - 1, 0);
  const to = Math.min(runAt(old, changes[changes.length - 1][1]) + 1, old.length);
  const kept = [];
  let next = 0;
  for (const run of old.slice(from, to)) {
    const [start, end, value] = run;
    let at = start;
    while (next < changes.length && changes[next][1] <= at) next++;
    for (let i = next; i < changes.length && changes[i][0] < end; i++) {
      if (changes[i][0] > at) kept.push([at, changes[i][0], value]);
      at = Math.max(at, changes[i][1]);
    }
    if (at < end) kept.push([at, end, value]);
  }
  const middle = [];
  let i = 0;
  let k = 0;
  while (i < kept.length || k < changes.length) {
    const keep = k === changes.length || (i < kept.length && kept[i][0] < changes[k][0]);
    const run = keep ? kept[i++] : changes[k++];
    const last = middle[middle.length - 1];
    if (run[2] < 0) continue;
    if (last && last[1] === run[0] && last[2] === run[2]) last[1] = run[1];
    else middle.push([...run]);
  }
  return old.slice(0, from).concat(middle, old.slice(to));
}

/** The place of the run that holds `position`, or of the first behind it. */
function runAt(runs, position) {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs[middle][1] <= position) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The value that rows give `position`; undefined where they say nothing of it. */
function valueAt(rows, position) {
  const row = rows.find(([start, length, , count = 1, stride = 1]) => {
    const i = Math.min(Math.max(Math.floor((position - start) / stride), 0), count - 1);
    const from = start + (count > 1 ? i * stride : 0);
    return position >= from && position < from + length;
  });
  return row && row[2];
}

class Film {
  constructor(track) {
    this.track = track;
    this.cache = new Map();
    this.every = Math.max(8, Math.ceil(track.steps.length / 40));
    this.blocks = new Set(); // the numbers of all blocks that are there in any step
    this.ids = this.everywhere();
  }

  /** The state after step n: {pages, blocks} as runs. */
  state(n) {
    if (this.newest && this.newest.n === n) return this.newest;
    let from = -1;
    for (const known of this.cache.keys()) if (known <= n && known > from) from = known;
    if (this.newest && this.newest.n < n && this.newest.n > from) from = this.newest.n;
    let state = from < 0 ? { n: -1, pages: [], blocks: [] } : this.cache.get(from) || this.newest;
    for (let k = from + 1; k <= n; k++) {
      const step = this.track.steps[k];
      state = {
        n: k,
        pages: step.pages.length ? merged(state.pages, expanded(step.pages)) : state.pages,
        blocks: step.blocks.length ? merged(state.blocks, expanded(step.blocks)) : state.blocks,
      };
      if (k % this.every === 0) this.cache.set(k, state);
    }
    this.newest = state;
    return state;
  }

  /** The numbers of all blocks that are there in any step, with those that pages outside of blocks would be in. */
  everywhere() {
    const pages = new Set();
    for (const step of this.track.steps) {
      for (const [from, to, value] of expanded(step.blocks))
        if (value >= 0) for (let id = from; id < to; id++) this.blocks.add(id);
      for (const [from, to, value] of expanded(step.pages)) {
        if (value < 0) continue;
        const last = Math.floor((to - 1) / this.track.blockPages);
        for (let id = Math.floor(from / this.track.blockPages); id <= last; id++) pages.add(id);
      }
    }
    return [...new Set([...this.blocks, ...pages])].sort((a, b) => a - b);
  }

  block(state, id) {
    const run = state.blocks[runAt(state.blocks, id)];
    return run && run[0] <= id ? this.track.blockKinds[run[2]] : null;
  }

  /** Yield [start, end, kind] of [first, end), kind null where nothing is. */
  *runs(state, first, end) {
    let at = first;
    for (let i = runAt(state.pages, first); i < state.pages.length && state.pages[i][0] < end; i++) {
      const [start, stop, value] = state.pages[i];
      if (start > at) yield [at, start, null];
      yield [Math.max(start, at), Math.min(stop, end), this.track.kinds[value]];
      at = Math.min(stop, end);
    }
    if (at < end) yield [at, end, null];
  }

  /** The step, n or one before it, since which the page is what it is: of the same colour. */
  since(pfn, n) {
    let since = n + 1;
    let colour;
    for (let k = n; k >= 0; k--) {
      const value = valueAt(this.track.steps[k].pages, pfn);
      if (value === undefined) continue;
      const now = value < 0 ? null : this.track.kinds[value].colour;
      if (since > n) colour = now;
      if (now !== colour) break;
      since = k;
    }
    return since > n ? 0 : since;
  }
}

// --- what is looked at ---

const tracks = JSON.parse($("#data").textContent);
const films = tracks.map((track) => new Film(track));
const most = Math.max(...tracks.map((track) => track.steps.length)) - 1;
const view = { step: most, map: 0, block: null, pfn: null, cursor: null };
let timer = null;
const stepOf = (film) => Math.min(view.step, film.track.steps.length - 1);

function readHash() {
  const words = new URLSearchParams(location.hash.slice(1));
  const number = (name) => (words.has(name) && Number.isFinite(Number(words.get(name))) ? Number(words.get(name)) : null);
  const step = number("step");
  view.step = step === null ? most : Math.min(Math.max(Math.trunc(step), 0), most);
  view.map = Math.min(Math.max(number("map") || 0, 0), films.length - 1);
  view.pfn = number("pfn");
  view.block = view.pfn === null ? number("block") : Math.floor(view.pfn / tracks[view.map].blockPages);
  if (view.block !== null && !films[view.map].ids.includes(view.block)) view.block = view.pfn = null;
  if (view.block !== null) view.cursor = view.block;
}

function writeHash() {
  const words = [`step=${view.step}`];
  if (view.map && view.block !== null) words.push(`map=${view.map}`);
  if (view.pfn !== null) words.push(`pfn=${hex(view.pfn)}`);
  else if (view.block !== null) words.push(`block=${view.block}`);
  const hash = "#" + words.join("&");
  if (hash !== location.hash) {
    try {
      history.replaceState(null, "", hash);
    } catch {
      // a page inside of another has no address of its own
    }
  }
}

function look(change) {
  Object.assign(view, change);
  view.step = Math.min(Math.max(view.step, 0), most);
  writeHash();
  show();
}

// --- colours ---

const colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of [...Object.keys(LEGEND), "paper", "ink", "muted", "grid", "mark", "veil"])
    colours[name] = style.getPropertyValue("--" + name.replaceAll(" ", "-")).trim();
}

function hatch(context, colour) {
  const tile = new OffscreenCanvas(8, 8);
  const pen = tile.getContext("2d");
  pen.strokeStyle = colour;
  pen.lineWidth = 1.3;
  for (const shift of [-8, 0, 8]) {
    pen.moveTo(shift, 8);
    pen.lineTo(shift + 8, 0);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}

// --- drawing ---

class Map_ {
  constructor(film, number) {
    this.film = film;
    this.number = number;
    this.node = make("section", undefined, "map");
    this.node.append(make("h3", films.length > 1 ? film.track.name : ""));
    this.crumbs = make("p", undefined, "crumbs");
    this.canvas = make("canvas");
    this.canvas.setAttribute("role", "img");
    this.words = make("p", undefined, "words");
    this.node.append(this.crumbs, this.canvas, this.words);
    this.canvas.addEventListener("mousemove", (event) => this.hover(event));
    this.canvas.addEventListener("mouseleave", () => ($("#tip").hidden = true));
    this.canvas.addEventListener("click", (event) => this.click(event));
  }

  /** How closely it looks: 0 the machine, 1 a block, 2 pages. */
  get zoom() {
    const here = films.length === 1 || view.map === this.number || this.film.ids.includes(view.block);
    if (view.block === null || !here) return 0;
    return view.pfn === null ? 1 : 2;
  }

  draw() {
    const width = this.canvas.parentElement.clientWidth;
    const state = this.film.state(stepOf(this.film));
    this.cells = [];
    this.pieces = [];
    const plan = [this.planMachine, this.planBlock, this.planPages][this.zoom].call(this, width);
    const dots = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * dots);
    this.canvas.height = Math.round(plan.height * dots);
    this.canvas.style.height = plan.height + "px";
    const pen = (this.pen = this.canvas.getContext("2d"));
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    pen.font = "11px ui-monospace, 'DejaVu Sans Mono', monospace";
    this.pattern = hatch(pen, colours.grid);
    this.changed = new Set();
    if (state.n)
      for (const [from, to] of expanded(this.film.track.steps[state.n].blocks))
        for (let id = from; id < to; id++) this.changed.add(id);
    plan.draw(state);
    this.crumb();
    this.words.textContent = this.zoom ? this.sentence(state) : "";
    this.canvas.setAttribute("aria-label", this.summary(state));
    this.canvas.cells = this.cells;
  }

  text(words, x, y, colour = colours.muted) {
    this.pen.fillStyle = colour;
    this.pen.fillText(words, x, y);
  }

  fill(x, y, width, height, kind) {
    if (!kind) return;
    const hatched = kind.colour === "offline" || kind.colour === "padding";
    const small = hatched && this.zoom === 0 && this.cells[0].width < 16; // where no hatching would be seen
    this.pen.fillStyle = small && kind.colour === "offline" ? colours.veil : colours[kind.colour];
    this.pen.fillRect(x, y, width, height);
    if (hatched && !small) {
      this.pen.fillStyle = this.pattern;
      this.pen.fillRect(x, y, width, height);
    }
  }

  // --- the machine: a cell for each block ---

  planMachine(width) {
    const { ids } = this.film;
    const room = Math.max(width - GUTTER, 120);
    const wish = [8, 16, 32, 64, 128].find((per) => ids.length <= per * per) || 128;
    const per = Math.max(8, Math.min(wish, 2 ** Math.floor(Math.log2(room / 5))));
    const cell = Math.min(room / per, 110);
    const height = cell >= 50 ? 26 : Math.max(Math.min(cell, 20), 7);
    const head = cell >= 26 ? 13 : 0;
    const gap = cell >= 50 ? 9 : 2;
    let y = 4;
    let end = null;
    let before = null;
    const labels = [];
    for (const id of ids) {
      const row = Math.floor(id / per);
      if (row !== end) {
        if (end !== null) y += height + head + gap;
        if (end !== null && row !== end + 1) {
          labels.push([`no memory: ${size((id - before - 1) * this.blockBytes())}`, GUTTER, y + 12]);
          y += 20;
        }
        labels.push([hex(row * per * this.blockBytes()), 0, y + head + Math.min(height, 14)]);
        end = row;
      }
      before = id;
      this.cells.push({ id, x: GUTTER + (id % per) * cell, y: y + head, width: cell - (cell > 24 ? 5 : 1), height });
    }
    y += height + head + gap + 4;
    const draw = (state) => {
      let under = -99;
      for (const [words, x, top] of labels)
        if (x || top - under >= 12) {
          this.text(words, x, top);
          if (!x) under = top;
        }
      for (const box of this.cells) this.drawCell(state, box, head);
    };
    return { height: y, draw };
  }

  blockBytes() {
    return this.film.track.blockPages * this.film.track.pageSize;
  }

  drawCell(state, box, head) {
    const { blockPages } = this.film.track;
    const first = box.id * blockPages;
    const block = this.film.block(state, box.id);
    let any = false;
    const over = []; // a memmap is seen, however small it is
    const fill = (start, end, kind) => {
      const x = box.x + ((start - first) / blockPages) * box.width;
      this.fill(x, box.y, Math.max(((end - start) / blockPages) * box.width, box.width > 30 ? 2 : 1), box.height, kind);
    };
    for (const run of this.film.runs(state, first, first + blockPages)) {
      if (run[2] === null) continue;
      any = true;
      if (run[2].colour === "memmap") over.push(run);
      else fill(...run);
    }
    for (const run of over) fill(...run);
    if (!block && !any) {
      this.pen.strokeStyle = colours.veil;
      this.pen.strokeRect(box.x + 0.5, box.y + 0.5, box.width - 1, box.height - 1);
      return;
    }
    this.frame(box, block);
    if (head && this.film.blocks.has(box.id)) this.text((box.width >= 64 ? "memory" : "") + box.id, box.x, box.y - 3);
  }

  frame(box, block) {
    const chosen = view.cursor === box.id && (films.length === 1 || view.map === this.number);
    if (box.width > 16 || chosen) {
      this.pen.setLineDash(block && block.state === "online" ? [] : [3, 2]);
      this.pen.strokeStyle = chosen ? colours.mark : colours.ink;
      this.pen.lineWidth = chosen ? 2.5 : 1;
      this.pen.strokeRect(box.x - 0.5, box.y - 0.5, box.width + 1, box.height + 1);
      this.pen.setLineDash([]);
      this.pen.lineWidth = 1;
    }
    if (this.changed.has(box.id)) {
      this.pen.fillStyle = colours.mark;
      this.pen.fillRect(box.x, box.y + box.height + (box.width > 16 ? 2 : -1), box.width, box.width > 16 ? 2.5 : 1);
    }
  }

  // --- a block: eight rows of pages, to scale ---

  planBlock(width) {
    const { blockPages, pageblock, pageSize } = this.film.track;
    const rows = Math.min(8, blockPages);
    const first = view.block * blockPages;
    const room = width - GUTTER - 4;
    for (let row = 0; row < rows; row++)
      this.pieces.push({
        first: first + (row * blockPages) / rows, pages: blockPages / rows, x: GUTTER, y: 20 + row * 44, width: room, height: 28,
      });
    const draw = (state) => {
      const bar = pageblock < blockPages / rows ? ` a tick is a pageblock, ${size(pageblock * pageSize)}` : "";
      this.text(`a row is ${size((blockPages / rows) * pageSize)};${bar}`, GUTTER, 11);
      for (const piece of this.pieces) this.drawPiece(state, piece);
    };
    return { height: 20 + rows * 44, draw };
  }

  drawPiece(state, piece) {
    const { pageblock, pageSize } = this.film.track;
    const at = (pfn) => piece.x + ((pfn - piece.first) / piece.pages) * piece.width;
    for (const [start, end, kind] of this.film.runs(state, piece.first, piece.first + piece.pages)) {
      this.fill(at(start), piece.y, Math.max(at(end) - at(start), 1.5), piece.height, kind);
      const words = kind ? `${size((end - start) * pageSize)} ${kind.colour}` : "";
      if (kind && this.pen.measureText(words).width + 12 < at(end) - at(start)) {
        this.pen.fillStyle = colours.paper;
        this.pen.fillRect(at(start) + 5, piece.y + 6, this.pen.measureText(words).width + 6, 15);
        this.text(words, at(start) + 8, piece.y + 18, colours.ink);
      }
    }
    this.pen.strokeStyle = colours.ink;
    this.pen.strokeRect(piece.x - 0.5, piece.y - 0.5, piece.width + 1, piece.height + 1);
    if (piece.pages / pageblock <= 128)
      for (let pfn = piece.first; pfn <= piece.first + piece.pages; pfn += pageblock) {
        this.pen.fillStyle = colours.muted;
        this.pen.fillRect(at(pfn), piece.y + piece.height + 2, 1, 5);
      }
    this.text("pfn " + hex(piece.first), 0, piece.y + 18);
  }

  // --- pages: one pageblock, page by page ---

  planPages(width) {
    const { pageblock, pageSize } = this.film.track;
    const pages = Math.min(pageblock, 1024);
    const first = Math.floor(view.pfn / pages) * pages;
    const per = 32;
    const cell = (width - GUTTER - 4) / per;
    for (let at = 0; at < pages; at++)
      this.pieces.push({
        first: first + at, pages: 1, x: GUTTER + (at % per) * cell, y: 20 + Math.floor(at / per) * 20, width: cell - 1, height: 17,
      });
    const draw = (state) => {
      this.text(`${pages} pages of ${size(pageSize)}: a box is a page`, GUTTER, 11);
      for (const [start, end, kind] of this.film.runs(state, first, first + pages))
        for (let pfn = start; pfn < end; pfn++) this.drawPage(this.pieces[pfn - first], kind);
      for (let at = 0; at < pages; at += per) this.text("pfn " + hex(first + at), 0, 33 + (at / per) * 20);
    };
    return { height: 24 + Math.ceil(pages / per) * 20, draw };
  }

  drawPage(box, kind) {
    this.fill(box.x, box.y, box.width, box.height, kind);
    this.pen.strokeStyle = box.first === view.pfn ? colours.mark : colours.grid;
    this.pen.lineWidth = box.first === view.pfn ? 3 : 1;
    this.pen.strokeRect(box.x, box.y, box.width, box.height);
    this.pen.lineWidth = 1;
  }

  // --- words ---

  crumb() {
    this.crumbs.replaceChildren();
    const { arch, kernel, steps, pageSize } = this.film.track;
    const { policy } = steps[stepOf(this.film)];
    const link = (words, change) => {
      const button = make("button", words);
      button.addEventListener("click", () => look(change));
      this.crumbs.append(button);
    };
    if (!this.zoom) {
      this.crumbs.textContent = `${arch}, blocks of ${size(this.blockBytes())}, pages of ${size(pageSize)}, kernel ${kernel}, policy ${policy}`;
      return;
    }
    link("machine", { block: null, pfn: null });
    this.crumbs.append(" ▸ ");
    if (this.zoom === 1) this.crumbs.append(`memory${view.block}`);
    else {
      link(`memory${view.block}`, { pfn: null });
      this.crumbs.append(` ▸ pages around pfn ${hex(view.pfn)}`);
    }
  }

  sentence(state) {
    const block = this.film.block(state, view.block);
    const { blockPages, structPage, pageSize } = this.film.track;
    const name = `memory${view.block}`;
    if (!block) return `${name} is not there in this step.`;
    const needed = `${blockPages} struct pages of ${structPage} bytes, ${size(blockPages * structPage)}`;
    const head = `${name} is ${block.state}, node ${block.node}${block.zones.length ? ", zone " + block.zones.join(" ") : ""}.`;
    if (block.kept) {
      const share = ((100 * block.kept) / blockPages).toFixed(1);
      return `${head} It keeps its first ${size(block.kept * pageSize)} (${share} %) for its own memmap: ${needed}.`;
    }
    if (block.early) return `${head} Its memmap is of boot: ${needed}.`;
    return `${head} Its memmap is elsewhere, in memory that was there before: ${needed}.`;
  }

  summary(state) {
    const counts = {};
    for (const [from, to, value] of state.blocks) {
      const { state: name } = this.film.track.blockKinds[value];
      counts[name] = (counts[name] || 0) + to - from;
    }
    const said = Object.entries(counts).map(([name, count]) => `${count} ${name}`);
    return `memory blocks after step ${state.n}: ${said.join(", ")}`;
  }

  // --- the pointer ---

  hit(event) {
    const place = this.canvas.getBoundingClientRect();
    const x = event.clientX - place.left;
    const y = event.clientY - place.top;
    const inside = (box) => x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height;
    const share = (box) => Math.min(Math.max((x - box.x) / box.width, 0), 0.999999);
    const { blockPages } = this.film.track;
    const cell = this.cells.find(inside);
    if (cell) return { block: cell.id, pfn: cell.id * blockPages + Math.floor(share(cell) * blockPages) };
    const piece = this.pieces.find(inside);
    return piece ? { block: view.block, pfn: piece.first + Math.floor(share(piece) * piece.pages) } : null;
  }

  hover(event) {
    const found = this.hit(event);
    const tip = $("#tip");
    tip.hidden = found === null;
    if (!found) return;
    tip.replaceChildren(...facts(this.film, found.pfn));
    const right = event.clientX + 18 + tip.offsetWidth > innerWidth;
    const low = event.clientY + 18 + tip.offsetHeight > innerHeight;
    tip.style.left = Math.max(right ? event.clientX - tip.offsetWidth - 12 : event.clientX + 18, 2) + "px";
    tip.style.top = Math.max(low ? event.clientY - tip.offsetHeight - 12 : event.clientY + 18, 2) + "px";
  }

  click(event) {
    const found = this.hit(event);
    if (!found) return;
    if (this.zoom === 0) look({ map: this.number, block: found.block, cursor: found.block });
    else look({ map: this.number, pfn: found.pfn });
  }
}

/** Everything that is known about one page, as nodes. */
function facts(film, pfn) {
  const { track } = film;
  const state = film.state(stepOf(film));
  const id = Math.floor(pfn / track.blockPages);
  const block = film.block(state, id);
  const [[, , kind]] = film.runs(state, pfn, pfn + 1);
  const box = make("div", undefined, "fact");
  const fact = (name, words) => {
    if (words) box.append(make("b", name), make("span", words));
  };
  fact("block", block ? `memory${id}, ${block.state}, node ${block.node}` : "no memory block");
  fact("in it", contents(film, state, id));
  fact("pfn", `${hex(pfn)}, address ${hex(pfn * track.pageSize)}`);
  fact("owner", kind ? kind.owner + (kind.tag ? ` (alloc ${kind.tag})` : "") : "no memory here");
  if (kind) fact("like it", around(film, state, pfn));
  fact("zone", kind && kind.zone ? `${kind.zone}, node ${kind.node}` : "");
  fact("flags", kind ? kind.flags.join(" ") || "none" : "");
  fact("section", `${Math.floor(pfn / track.section)}, pageblock ${hex(Math.floor(pfn / track.pageblock) * track.pageblock)}`);
  fact("holds", described(film, block, id, pfn));
  const since = film.since(pfn, state.n);
  const step = track.steps[since];
  const why = make("div", `so since step ${since}: ${step.command}\n` + reasons(step, kind).join("\n"), "why");
  return [box, why];
}

function contents(film, state, id) {
  const { blockPages, pageSize } = film.track;
  const sums = new Map();
  for (const [start, end, kind] of film.runs(state, id * blockPages, (id + 1) * blockPages)) {
    const name = kind ? kind.colour : "hole";
    sums.set(name, (sums.get(name) || 0) + end - start);
  }
  return [...sums].map(([name, pages]) => `${size(pages * pageSize)} ${name}`).join(", ");
}

function around(film, state, pfn) {
  const [start, end] = state.pages[runAt(state.pages, pfn)];
  return `pfn ${hex(start)} to ${hex(end - 1)}: ${end - start} pages, ${size((end - start) * film.track.pageSize)}`;
}

/** Which struct pages are in a page of a block's own memmap. */
function described(film, block, id, pfn) {
  if (!block || !block.memmap) return "";
  const { blockPages, pageSize, structPage } = film.track;
  const at = pfn - id * blockPages - block.memmap[0];
  if (at < 0 || at >= block.memmap[1]) return "";
  const each = Math.floor(pageSize / structPage);
  const first = id * blockPages + at * each;
  return `the struct pages of pfn ${hex(first)} to ${hex(Math.min(first + each, (id + 1) * blockPages) - 1)}`;
}

function reasons(step, kind) {
  const wanted = (kind && WHY[kind.colour]) || null;
  if (!wanted) return step.lines.slice(0, 2);
  const found = step.lines.filter((line) => wanted.test(line));
  return found.slice(0, 5).map((line) => line.trim());
}

// --- the page around the maps ---

const maps = films.map((film, number) => new Map_(film, number));

function showCommands() {
  const list = $("#commands ol");
  const film = films.find((one) => one.track.steps.length === most + 1);
  film.track.steps.forEach((step, n) => {
    const item = make("li", `${n}  ${step.command}`);
    if (step.outcome !== "ok") item.append(" ", make("span", step.outcome, "failed"));
    item.addEventListener("click", () => look({ step: n }));
    list.append(item);
  });
}

function showZones() {
  const tables = films.map((film) => {
    const n = stepOf(film);
    const { zones } = film.track.steps[n];
    const old = new Map((n ? film.track.steps[n - 1].zones : zones).map((zone) => [zone[0] + zone[1], zone]));
    const table = make("table");
    const head = make("tr");
    for (const name of ["zone", "spanned", "present", "managed", "free"]) head.append(make("th", name));
    table.append(head);
    for (const zone of zones) {
      const row = make("tr");
      row.append(make("td", `${zone[0]} ${zone[1]}`));
      const was = old.get(zone[0] + zone[1]);
      for (const at of [3, 4, 5, 6])
        row.append(make("td", size(zone[at] * film.track.pageSize), was && was[at] === zone[at] ? "" : "changed"));
      table.append(row);
    }
    const parts = films.length > 1 ? [make("h2", film.track.name)] : [];
    return [...parts, table, make("p", totals(film))];
  });
  $("#zones div").replaceChildren(...tables.flat());
}

function totals(film) {
  const sums = {};
  for (const [start, end, value] of film.state(stepOf(film)).pages) {
    const { colour } = film.track.kinds[value];
    sums[colour] = (sums[colour] || 0) + (end - start) * film.track.pageSize;
  }
  return Object.keys(LEGEND).filter((name) => sums[name]).map((name) => `${size(sums[name])} ${name}`).join(", ");
}

function showLegend() {
  const used = new Set(tracks.flatMap((track) => track.kinds.map((kind) => kind.colour)));
  const items = Object.entries(LEGEND).filter(([name]) => used.has(name)).map(([name, words]) => {
    const item = make("span");
    const box = make("i");
    box.style.background = `var(--${name.replaceAll(" ", "-")})`;
    if (name === "offline" || name === "padding")
      box.style.backgroundImage = "repeating-linear-gradient(135deg, var(--grid) 0 1.5px, transparent 1.5px 5px)";
    item.append(box, words);
    return item;
  });
  $("#legend").replaceChildren(...items, make("small", "what is thinner than a pixel is drawn a pixel wide"));
}

function showWords() {
  const said = $("#said");
  said.replaceChildren();
  films.forEach((film) => {
    const step = film.track.steps[stepOf(film)];
    if (said.childNodes.length) said.append(make("br"));
    said.append((films.length > 1 ? film.track.name + ": " : "> ") + step.command);
    if (step.outcome !== "ok") said.append(" ", make("span", `${step.outcome}: ${step.message}`, "failed"));
  });
  const lines = films.flatMap((film) => {
    const step = film.track.steps[stepOf(film)];
    return films.length > 1 ? [`--- ${film.track.name}`, ...step.lines] : step.lines;
  });
  $("#reasons pre").textContent = lines.join("\n") || "nothing that is recorded";
}

function showHere() {
  const film = films[view.map];
  const pfn = view.pfn !== null ? view.pfn : view.cursor !== null ? view.cursor * film.track.blockPages : null;
  const words = "Point at a block, or choose one with j and k; click, or press Enter, to look closer.";
  $("#here div").replaceChildren(...(pfn === null ? [make("p", words)] : facts(film, pfn)));
}

function show() {
  $("#slider").value = view.step;
  $("#slider").setAttribute("aria-valuetext", `step ${view.step}`);
  $("#count").textContent = `step ${view.step} of ${most}`;
  document.querySelectorAll("#commands li").forEach((item, n) => {
    if (n === view.step) {
      item.setAttribute("aria-current", "step");
      item.scrollIntoView({ block: "nearest" });
    } else item.removeAttribute("aria-current");
  });
  $("#tip").hidden = true;
  for (const map of maps) map.draw();
  showWords();
  showZones();
  showHere();
}

// --- keys, buttons, time ---

function play(on = timer === null) {
  clearInterval(timer);
  timer = null;
  if (on) {
    if (view.step === most) look({ step: 0 });
    timer = setInterval(() => {
      if (view.step >= most) play(false);
      else look({ step: view.step + 1 });
    }, PLAY_EVERY);
  }
  $("#play").textContent = on ? "⏸ pause" : "▶ play";
}

function move(by) {
  const film = films[view.map];
  if (view.pfn !== null) {
    const { blockPages } = film.track;
    const pfn = Math.min(Math.max(view.pfn + by, view.block * blockPages), (view.block + 1) * blockPages - 1);
    look({ pfn });
    return;
  }
  const { ids } = film;
  const at = view.cursor === null ? (by > 0 ? 0 : ids.length - 1) : ids.indexOf(view.cursor) + by;
  const id = ids[Math.min(Math.max(at, 0), ids.length - 1)];
  look(view.block === null ? { cursor: id } : { cursor: id, block: id });
}

function closer() {
  if (view.block === null) look({ block: view.cursor ?? films[view.map].ids.at(-1), cursor: view.cursor ?? films[view.map].ids.at(-1) });
  else if (view.pfn === null) look({ pfn: view.block * films[view.map].track.blockPages });
}

function back() {
  look(view.pfn !== null ? { pfn: null } : { block: null });
}

function theme() {
  const root = document.documentElement;
  const next = { undefined: "light", light: "dark", dark: undefined }[root.dataset.theme];
  if (next) root.dataset.theme = next;
  else delete root.dataset.theme;
  $("#theme").textContent = "colours: " + (next || "system");
  readColours();
  show();
}

function keys() {
  $("#keys").hidden = !$("#keys").hidden;
  $("#help").setAttribute("aria-expanded", String(!$("#keys").hidden));
}

const KEYS = {
  ArrowLeft: () => look({ step: view.step - 1 }),
  ArrowRight: () => look({ step: view.step + 1 }),
  Home: () => look({ step: 0 }),
  End: () => look({ step: most }),
  " ": () => play(),
  j: () => move(1),
  k: () => move(-1),
  Enter: closer,
  "+": closer,
  Escape: back,
  "-": back,
  t: theme,
  "?": keys,
};

document.addEventListener("keydown", (event) => {
  const button = event.target instanceof HTMLButtonElement && (event.key === "Enter" || event.key === " ");
  if (event.ctrlKey || event.metaKey || event.altKey || button || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
for (const [id, action] of Object.entries({
  first: KEYS.Home, last: KEYS.End, back: KEYS.ArrowLeft, on: KEYS.ArrowRight, play: () => play(), theme, help: keys,
}))
  $("#" + id).addEventListener("click", action);
$("#slider").addEventListener("input", (event) => look({ step: Number(event.target.value) }));
addEventListener("hashchange", () => {
  readHash();
  show();
});
addEventListener("resize", show);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColours();
  show();
});

$("#slider").max = most;
$("#maps").append(...maps.map((map) => map.node));
$("#maps").classList.toggle("two", maps.length > 1);
const { arch, kernel } = tracks[0];
$("#machine").textContent = maps.length > 1 ? "the same commands, side by side" : `${arch}, kernel ${kernel}`;
readColours();
readHash();
showCommands();
showLegend();
show();
