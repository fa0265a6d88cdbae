// Every error of the report: a list that can be filtered, and one of them open beside it.
// Words of models and of captions reach the page as text nodes only.

const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/u;
const ROW = 58; // pixels of a list entry; the style sheet has the same
const RIGHT = 0;
const byId = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString("en");

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

// Somebody's words, with every character that hides or turns others spelled out.
function words(text) {
  const parts = document.createElement("bdi");
  let plain = "";
  for (const char of text) {
    if (HIDDEN.test(char) && char !== "\n" && char !== "\t") {
      parts.append(plain);
      plain = "";
      const code = char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      parts.append(make("span", { class: "ctl" }, `U+${code}`));
    } else {
      plain += char;
    }
  }
  parts.append(plain);
  return parts;
}

function place(cell) {
  return `image ${cell[0]}, row ${cell[1]}, column ${cell[2]}`;
}

// ------------------------------------------------------------------------------ the data

class Case {
  constructor(group, at) {
    Object.assign(this, { group, at });
    this.number = group.numbers[at];
    this.id = `${group.setting}-${String(this.number).padStart(6, "0")}`;
    this.replies = new Map();
  }

  each(column) {
    const needles = this.group.size[3];
    return this.group[column].slice(this.at * needles, (this.at + 1) * needles);
  }

  get ambiguity() { return this.group.ambiguity[this.at] / 1e4; }

  get captions() { return this.group.captions.length ? this.each("captions") : []; }

  get truth() { return this.each("truth").map((cell) => located(this.group, cell)); }

  // The images of its haystack that are here: [image from 0, place of its first photo].
  get images() {
    const { group } = this;
    const stack = group.stack[this.at];
    if (stack < 0) return [];
    const here = group.level === "whole" ? [...Array(group.size[0]).keys()] : group.images[stack];
    const grid = group.size[1] * group.size[2];
    return here.map((image, i) => [image, group.starts[stack] + i * grid]);
  }
}

function located(group, cell) {
  if (cell < 0) return null;
  const [, rows, cols] = group.size;
  const rest = cell % (rows * cols);
  return [Math.floor(cell / (rows * cols)) + 1, Math.floor(rest / cols) + 1, (rest % cols) + 1];
}

class Reply {
  constructor(table, at, owner, needles) {
    Object.assign(this, { table, at, owner, needles });
    this.run = table.run;
    this.category = table.category[at];
    this.text = table.text[at];
  }

  get said() {
    return [...Array(this.needles).keys()].map((needle) => {
      const first = 3 * (this.at * this.needles + needle);
      const cell = this.table.said.slice(first, first + 3);
      return cell[0] < 0 ? null : cell;
    });
  }

  get named() { return this.table.named.slice(this.at * this.needles, (this.at + 1) * this.needles); }

  get kinds() {
    if (!this.table.kinds) return [this.category];
    return this.table.kinds.slice(this.at * this.needles, (this.at + 1) * this.needles);
  }

  rare(name) { return this.table[name][this.at]; }
}

class Data {
  constructor(value) {
    Object.assign(this, value);
    this.albums = value.albums.map((album, i) => new Album(i, album.bits));
    this.replies = [];
    const starts = this.albums.map(() => 0);
    for (const group of this.groups) {
      const [images, rows, cols, needles] = group.size;
      const stacks = group.level === "marked" ? group.images.map((list) => list.length)
        : Array(group.images).fill(images);
      group.starts = stacks.map((long) => {
        const start = starts[group.album];
        starts[group.album] += long * rows * cols;
        return start;
      });
      const cases = group.numbers.map((_, at) => new Case(group, at));
      for (const table of group.replies) {
        table.case.forEach((at, i) => {
          const reply = new Reply(table, i, cases[at], needles);
          cases[at].replies.set(table.run, reply);
          this.replies.push(reply);
        });
      }
    }
  }
}

async function unpacked(id) {
  const stream = new Blob([bytesOf(id)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

// ------------------------------------------------------------------------------ the list

class List {
  constructor(data, open) {
    Object.assign(this, { data, open, rows: [], at: -1 });
    this.box = byId("list");
    this.inner = make("div", { role: "presentation" });
    this.box.append(this.inner);
    this.box.addEventListener("scroll", () => this.paint());
    this.box.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) this.choose(Number(row.dataset.at), true);
    });
    new ResizeObserver(() => this.paint()).observe(this.box);
  }

  show(rows, keep) {
    this.rows = rows;
    this.at = rows.indexOf(keep);
    this.inner.style.height = `${rows.length * ROW}px`;
    if (this.at < 0) this.box.scrollTop = 0;
    this.reveal();
    this.paint();
  }

  reveal() {
    if (this.at < 0) return;
    const top = this.at * ROW;
    const last = top + ROW - this.box.clientHeight;
    if (this.box.scrollTop > top) this.box.scrollTop = top;
    if (this.box.scrollTop < last) this.box.scrollTop = last;
  }

  choose(at, byHand = false) {
    if (!this.rows.length) return;
    this.at = Math.max(0, Math.min(this.rows.length - 1, at));
    this.reveal();
    this.paint();
    this.open(this.rows[this.at], byHand);
  }

  // Only what can be seen is in the page, however long the list is.
  paint() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - 4);
    const last = Math.min(this.rows.length, first + Math.ceil(this.box.clientHeight / ROW) + 8);
    const shown = [];
    for (let at = first; at < last; at += 1) shown.push(this.entry(at));
    if (this.at >= 0 && (this.at < first || this.at >= last)) shown.push(this.entry(this.at));
    this.inner.replaceChildren(...shown);
    if (this.at >= 0) this.box.setAttribute("aria-activedescendant", `error-${this.at}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  // A model's name where there is little room: less what all names begin with, cut in the middle.
  who(label) {
    const labels = this.data.runs.map((run) => run.label);
    let same = 0;
    while (same < label.length && labels.every((one) => one[same] === label[same])) same += 1;
    while (same && !"/?&, _-".includes(label[same - 1])) same -= 1;
    const shown = [...label.slice(same > 4 ? same : 0)];
    const part = shown.length - 1 - Math.max(...["/", "?", "&", ","].map((sign) => shown.lastIndexOf(sign)));
    const kept = part > 0 && part < 13 ? part : 8;
    return make("span", { class: "who", title: words(label).textContent },
      make("span", { class: "start" }, words(shown.slice(0, -kept).join(""))), make("span", {}, words(shown.slice(-kept).join(""))));
  }

  entry(at) {
    const reply = this.rows[at];
    const { owner } = reply;
    const about = owner.captions[0] ?? owner.id;
    const who = this.data.runs.length > 1 ? this.data.runs[reply.run].label : "";
    const row = make("div", {
      role: "option", id: `error-${at}`, "data-at": at, class: "entry",
      "aria-selected": String(at === this.at),
      "aria-setsize": this.rows.length, "aria-posinset": at + 1,
    }, make("span", { class: "line" }, badge(this.data, reply.category),
      make("span", { class: "tail" }, words(`${owner.group.label} · ${owner.number}${who && " · "}`), who && this.who(who))),
    make("span", { class: "brief" }, words(about.slice(0, 160))));
    row.style.top = `${at * ROW}px`;
    return row;
  }
}

function badge(data, category) {
  return make("span", { class: `badge k-${data.categories[category]}` }, data.names[category]);
}

// ------------------------------------------------------------------------------ filters

class Filters {
  constructor(data, changed) {
    Object.assign(this, { data, changed, kinds: new Set() });
    this.run = byId("by-run");
    this.setting = byId("by-setting");
    this.text = byId("by-text");
    this.order = byId("by-order");
    for (const [i, run] of data.runs.entries()) this.run.append(make("option", { value: i }, words(run.label).textContent));
    const settings = new Map(data.groups.map((group) => [group.setting, group.label]));
    for (const [name, label] of settings) this.setting.append(make("option", { value: name }, label));
    this.run.closest("label").hidden = data.runs.length < 2;
    for (const input of [this.run, this.setting, this.order]) input.addEventListener("change", () => this.apply());
    let timer = 0;
    this.text.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.apply(), 120);
    });
    this.buttons = data.categories.map((name, category) => {
      const button = make("button", { type: "button", class: "kind", "aria-pressed": "false" });
      button.addEventListener("click", () => {
        if (!this.kinds.delete(category)) this.kinds.add(category);
        this.apply();
      });
      return button;
    });
    byId("by-kind").append(...[...this.buttons.slice(1), this.buttons[RIGHT]]);
  }

  clear() {
    for (const input of [this.run, this.setting, this.text]) input.value = "";
    this.kinds.clear();
  }

  apply() {
    const text = this.text.value.trim().toLowerCase();
    const found = this.data.replies.filter((reply) =>
      (this.run.value === "" || reply.run === Number(this.run.value))
      && (this.setting.value === "" || reply.owner.group.setting === this.setting.value)
      && (text === "" || reply.text.toLowerCase().includes(text) || reply.owner.id.includes(text)
        || reply.owner.captions.some((caption) => caption.toLowerCase().includes(text))));
    const sizes = this.data.categories.map(() => 0);
    for (const reply of found) sizes[reply.category] += 1;
    this.buttons.forEach((button, category) => {
      button.hidden = !sizes[category] && !this.kinds.has(category);
      button.setAttribute("aria-pressed", String(this.kinds.has(category)));
      const label = category === RIGHT ? "some right ones" : count(sizes[category]);
      button.replaceChildren(badge(this.data, category), ` ${label}`);
    });
    const rows = found.filter((reply) => this.kinds.size ? this.kinds.has(reply.category) : reply.category !== RIGHT);
    const doubt = (reply) => reply.owner.ambiguity;
    if (this.order.value === "clear") rows.sort((a, b) => (doubt(a) < 0 ? 2 : doubt(a)) - (doubt(b) < 0 ? 2 : doubt(b)));
    if (this.order.value === "doubtful") rows.sort((a, b) => doubt(b) - doubt(a));
    this.changed(rows);
  }
}
