// One error, opened: what was asked and answered, and where, marked in its haystack.

const ENDED = { ok: "a complete answer", refused: "declined", truncated: "cut off at the token limit", empty: "no text" };

// What a named cell is to the true one, in words.
function relation(truth, said, size) {
  if (!truth || !said) return "";
  if (said.some((at, i) => at < 1 || at > size[i])) return "The haystack has no such cell.";
  const [images, down, right] = said.map((at, i) => at - truth[i]);
  const steps = (number, one, before, after) => number && `${Math.abs(number)} ${one}${Math.abs(number) > 1 ? "s" : ""} ${number < 0 ? before : after}`;
  if (images) {
    const far = steps(images, "image", "before", "after");
    return down || right ? `${far} the true one, another cell of it.` : `The same cell, ${far} the true one.`;
  }
  if (!down && !right) return "The true cell.";
  const way = [steps(down, "row", "up", "down"), steps(right, "column", "to the left", "to the right")].filter(Boolean).join(" and ");
  const turned = size[1] === size[2] && said[1] === truth[2] && said[2] === truth[1];
  return `The right image; ${way}${turned ? ": row and column exchanged" : ""}.`;
}

function verdicts(code, positive) {
  const names = ["existence", "index", "exact"];
  const told = names.map((name, i) => [name, Math.floor(code / 3 ** i) % 3]);
  return told.filter(([name, value]) => value && (positive || name === "existence"))
    .map(([name, value]) => `${name} ${value === 2 ? "right" : "wrong"}`).join(", ");
}

class Opened {
  constructor(data, reply) {
    Object.assign(this, { data, reply, case: reply.owner, group: reply.owner.group });
    this.album = data.albums[this.group.album];
    this.several = this.group.size[3] > 1;
  }

  // ---------------------------------------------------------------------------- words

  head() {
    const run = this.data.runs[this.reply.run];
    return [
      make("p", { class: "whence" }, badge(this.data, this.reply.category), make("span", {}, ` ${this.group.label}, ${this.group.shape} · `),
        make("a", { href: address(this.data, this.reply), title: "a link to this error" }, this.case.id),
        ...(this.data.runs.length > 1 ? [" · ", words(run.label)] : [])),
      make("h3", { class: "caption" }, this.case.captions.length
        ? this.case.captions.map((caption, i) => make("span", { class: "asked" }, this.several ? `${i + 1}. ` : null, "“", words(caption), "”"))
        : `Sample ${this.case.number}`),
      ...this.judgements(),
    ];
  }

  judgements() {
    const { truth } = this.case;
    const { said, kinds } = this.reply;
    return truth.map((cell, i) => {
      const there = cell ? place(cell) : "not there (−1)";
      const read = this.reading(said[i], kinds[i]);
      return make("p", { class: "judged" }, this.several ? make("span", {}, `${i + 1}.`) : null,
        make("span", {}, make("span", { class: "key true" }, "true"), ` ${there}`),
        make("span", {}, make("span", { class: "key given" }, "given"), ` ${read}`),
        make("span", { class: "hint" }, relation(cell, said[i], this.group.size)));
    });
  }

  reading(said, kind) {
    if (said) return place(said);
    const name = this.data.categories[this.reply.category];
    if (name === "no_answer") return "no answer";
    return ["missed", "right"].includes(this.data.categories[kind]) ? "not there (−1)" : "could not be read";
  }

  answer() {
    const { reply } = this;
    const long = reply.rare("length");
    const parts = [make("h4", {}, "Answer, word for word")];
    parts.push(reply.text
      ? make("pre", { class: "answer", tabindex: "0" }, words(reply.text))
      : make("p", { class: "sub" }, "No text came back."));
    if (long) parts.push(make("p", { class: "sub" }, `Cut here: the answer has ${count(long)} characters, the first ${count([...reply.text].length)} are shown.`));
    const reasoning = reply.rare("reasoning");
    if (reasoning) {
      const all = reply.rare("thought");
      parts.push(make("details", { class: "numbers" }, make("summary", {}, "Its reasoning"),
        make("pre", { tabindex: "0" }, words(reasoning)),
        all > [...reasoning].length ? make("p", { class: "sub" }, `Cut here: ${count(all)} characters in all.`) : null));
    }
    return parts;
  }

  facts() {
    const { reply, group } = this;
    const run = this.data.runs[reply.run];
    const status = this.data.statuses[reply.table.status[reply.at]];
    const rows = [];
    const stop = reply.rare("stop");
    const error = reply.rare("error");
    rows.push(["Ended", [`${status}${ENDED[status] ? `: ${ENDED[status]}` : ""}`, ...(stop ? [", stop reason ", words(stop)] : [])]]);
    if (error) rows.push(["Error", [words(error)]]);
    const paper = verdicts(reply.table.paper[reply.at], this.case.truth[0] !== null);
    rows.push(["Paper scorer", [paper || "does not count it"]]);
    if (this.case.ambiguity >= 0) {
      rows.push(["Ambiguity", [`${this.case.ambiguity.toFixed(2)}: how near another photo there comes to the caption, 0 to 1`]]);
    }
    if (group.hard[this.case.at]) rows.push(["Negative", ["a hard one: the caption resembles a photo that is there"]]);
    if (run.task.startsWith("twin")) rows.push(["Task", [words(run.task), ": cells held captions, not photos"]]);
    if (run.cells[group.setting]) rows.push(["Cells", [run.cells[group.setting]]]);
    rows.push(["In full", [make("code", {}, words(`${run.show} ${this.case.id} --out FOLDER`))]]);
    return make("dl", { class: "facts" }, rows.map(([term, value]) => [make("dt", {}, term), make("dd", {}, value)]));
  }

  others() {
    const rest = [...this.case.replies.values()].filter((reply) => reply !== this.reply);
    if (!rest.length) return [];
    const rows = rest.map((reply) => make("tr", {},
      make("th", { scope: "row" }, make("a", { href: address(this.data, reply) }, words(this.data.runs[reply.run].label))),
      make("td", {}, badge(this.data, reply.category)),
      make("td", { class: "told" }, words(reply.text.slice(0, 300) || "no text"))));
    return [make("h4", {}, "Others on the same question"),
      make("div", { class: "scroll", role: "region", "aria-label": "Others on the same question", tabindex: "0" },
        make("table", { class: "others" }, make("thead", {}, make("tr", {}, ["Model", "Outcome", "Answer"].map((name) => make("th", { scope: "col" }, name)))),
          make("tbody", {}, rows)))];
  }

  // ---------------------------------------------------------------------------- pictures

  marks() {
    const found = [];
    this.case.truth.forEach((cell, i) => {
      const said = this.reply.said[i];
      const number = this.several ? ` ${i + 1}` : "";
      const same = cell && said && cell.every((at, j) => at === said[j]);
      const add = (at, name, text) => at && at.every((of, j) => of >= 1 && of <= this.group.size[j])
        && found.push({ image: at[0] - 1, row: at[1] - 1, column: at[2] - 1, name, text: text + number });
      if (same) add(cell, "both", "true = given");
      else { add(cell, "true", "true"); add(said, "given", "given"); }
    });
    return found;
  }

  // The photos in question, larger, side by side.
  pair() {
    const { said, named } = this.reply;
    const photos = this.case.each("photos");
    const figures = [];
    this.case.truth.forEach((cell, i) => {
      const number = this.several ? ` ${i + 1}` : "";
      const same = named[i] === photos[i];
      if (photos[i] >= 0) {
        const text = cell ? `${same ? "true = given" : "true"}${number}: ${place(cell)}` : `asked for${number}, not in the haystack`;
        figures.push(this.photo(photos[i], cell ? (same ? "both" : "true") : "absent", text));
      }
      if (named[i] >= 0 && !same) figures.push(this.photo(named[i], "given", `given${number}: ${place(said[i])}`));
    });
    return figures.length ? make("div", { class: "pair" }, figures) : null;
  }

  photo(photo, name, text) {
    const tile = this.album.tile(photo);
    if (!tile) return null;
    const canvas = make("canvas", { role: "img", "aria-label": `The photo ${text}`, class: `photo ${name}` });
    this.album.draw(canvas, [photo], 1, tile.width, tile.height).catch(() => canvas.classList.add("broken"));
    return make("figure", {}, canvas, make("figcaption", {}, text));
  }

  image(image, start, marks, small) {
    const [images, rows, cols] = this.group.size;
    const photos = [...Array(rows * cols).keys()].map((i) => this.album.photoAt(start + i));
    const { shape } = this.album;
    const wide = Math.max(8, Math.round(Math.min(128, 896 / cols)));
    const told = marks.map((mark) => `${mark.text}: row ${mark.row + 1}, column ${mark.column + 1}`).join("; ");
    const canvas = make("canvas", { role: "img", "aria-label": `Image ${image + 1} of ${images}. ${told || "No cell is marked."}` });
    this.album.draw(canvas, photos, cols, wide, Math.round(wide * shape)).catch(() => canvas.classList.add("broken"));
    return make("figure", { class: `grid${Math.max(rows, cols)}` },
      make("div", { class: "shot" }, canvas, marks.length ? frames(marks, rows, cols, shape, small ? SMALL : DRAWN) : null),
      make("figcaption", {}, `Image ${image + 1} of ${images}`));
  }

  // The images that hold a true or a given cell, large; then the others. Single photos are small.
  haystack() {
    if (this.group.trouble) return { notes: [make("p", { class: "notice" }, "The data set cannot give this sample: ", words(this.group.trouble))] };
    if (!this.album || !this.album.hasPhotos) return {};
    const marks = this.marks();
    const held = (image) => marks.filter((mark) => mark.image === image);
    const large = ([image]) => held(image).length > 0 && this.group.size[1] * this.group.size[2] > 1;
    const here = this.case.images;
    const first = here.filter(large);
    const rest = here.filter((one) => !large(one));
    return {
      shots: first.map(([image, start]) => this.image(image, start, held(image), false)),
      rest: rest.map(([image, start]) => this.image(image, start, held(image), true)),
      notes: this.group.level === "whole" ? [] : [make("p", { class: "sub" }, here.length
        ? "The other images of this haystack are left out to keep this file small."
        : "This haystack is left out to keep this file small.")],
    };
  }

  render(steps) {
    const { shots = [], rest = [], notes = [] } = this.haystack();
    return [
      steps,
      ...this.head(),
      make("div", { class: "look" },
        make("div", { class: "said" }, this.album && this.album.hasPhotos ? this.pair() : null, this.answer()),
        shots.length ? make("div", { class: "shots" }, shots) : null),
      rest.length ? make("div", { class: "rest" }, rest) : null,
      ...notes,
      ...this.others(),
      this.facts(),
    ].filter(Boolean);
  }
}

// ------------------------------------------------------------------------------ the page

// The link to one answer: #run/sample.
function address(data, reply) {
  return `#${encodeURIComponent(data.runs[reply.run].name)}/${reply.owner.id}`;
}

const narrow = () => matchMedia("(max-width: 60rem)").matches;

class Browser {
  constructor(data) {
    this.data = data;
    this.section = byId("errors");
    this.pane = byId("case");
    this.list = new List(data, (reply, byHand) => this.open(reply, byHand));
    this.filters = new Filters(data, (rows) => this.changed(rows));
    this.current = null;
    this.section.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("hashchange", () => this.follow());
    byId("browse").hidden = false;
    document.documentElement.classList.add("explores");
    this.filters.apply();
    this.follow();
  }

  changed(rows) {
    const found = byId("found");
    this.list.show(rows, this.current);
    const at = this.list.at;
    found.textContent = rows.length ? `${count(rows.length)} to open` : "None like this.";
    if (at >= 0 && this.shown) this.step();
    else if (at >= 0) this.list.choose(at);
    else if (rows.length) this.list.choose(this.current ? 0 : this.first(rows));
    else {
      this.shown = false;
      this.pane.replaceChildren(make("p", { class: "sub" }, "Nothing matches these filters."));
    }
  }

  // What is open at first: an error with two photos to compare, if there is one.
  first(rows) {
    const wanted = ["wrong_cell", "wrong_image", "hallucinated"].map((name) => this.data.categories.indexOf(name));
    for (const category of wanted) {
      const at = rows.findIndex((reply) => reply.category === category && reply.named.some((photo) => photo >= 0));
      if (at >= 0) return at;
    }
    return 0;
  }

  open(reply, byHand) {
    const before = this.current;
    this.current = reply;
    this.shown = true;
    this.pane.replaceChildren(...new Opened(this.data, reply).render(this.steps()));
    this.pane.scrollTop = 0;
    if (before) history.replaceState(null, "", address(this.data, reply));
    if (byHand && narrow()) this.bring();
  }

  // What is open, in sight: on a narrow screen it lies below the list, else beside it.
  bring() {
    (narrow() ? this.pane : this.pane.parentElement).scrollIntoView({ block: "start", behavior: "instant" });
  }

  steps() {
    const button = (text, label, by) => {
      const made = make("button", { type: "button", "aria-label": label, "aria-keyshortcuts": by < 0 ? "k" : "j" }, text);
      made.addEventListener("click", () => {
        const lead = made.getAttribute("aria-label");
        this.list.choose(this.list.at + by, true);
        this.pane.querySelector(`[aria-label="${lead}"]`).focus({ preventScroll: true });
      });
      return made;
    };
    this.where = make("span", { class: "nth" });
    const row = make("p", { class: "steps" }, button("‹ Previous", "Previous error", -1), this.where, button("Next ›", "Next error", 1));
    this.step();
    return row;
  }

  step() {
    if (this.where) this.where.textContent = `${count(this.list.at + 1)} of ${count(this.list.rows.length)}`;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const inList = event.target === this.list.box;
    const page = Math.max(1, Math.floor(this.list.box.clientHeight / ROW) - 1);
    const by = {
      j: 1, k: -1,
      ...(inList ? { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity } : {}),
    }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const had = this.pane.contains(document.activeElement);
    this.list.choose(this.list.at + by, "jk".includes(event.key));
    if (had) this.pane.focus({ preventScroll: true });
  }

  // Open what the address names: #run/sample.
  follow() {
    const cut = location.hash.lastIndexOf("/");
    if (cut < 0) return;
    let name;
    try { name = decodeURIComponent(location.hash.slice(1, cut)); } catch { return; }
    const id = location.hash.slice(cut + 1);
    const reply = this.data.replies.find((one) => one.owner.id === id && this.data.runs[one.run].name === name);
    if (!reply) {
      byId("found").textContent = `This report has no error ${id} of a run ${name}.`;
      this.section.scrollIntoView({ behavior: "instant" });
      return;
    }
    if (!this.list.rows.includes(reply)) {
      this.filters.clear();
      if (reply.category === RIGHT) this.filters.kinds.add(RIGHT);
      this.current = reply;
      this.filters.apply();
    }
    this.list.choose(this.list.rows.indexOf(reply));
    this.bring();
    this.list.box.focus({ preventScroll: true });
  }
}

async function begin() {
  if (!byId("errors-data")) return;
  try {
    new Browser(new Data(await unpacked("errors-data")));
  } catch (error) {
    const found = byId("errors-trouble");
    found.textContent = `This browser cannot open the list of errors (${error.message}); a selection is shown instead.`;
    found.hidden = false;
    document.documentElement.classList.remove("explores");
  }
}

// What is printed is a selection, opened.
addEventListener("beforeprint", () => {
  for (const sample of document.querySelectorAll(".sample.chosen")) sample.open = true;
});

begin();
