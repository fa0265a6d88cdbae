// Keys, the zoom and the news of a run under way. Every page works without this.
"use strict";

const zoom = document.getElementById("zoom");

// ---------------------------------------------------------------- keys
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (zoom && zoom.open) return;
  if (event.target.closest("input, select, textarea, [contenteditable], .scroll, pre")) return;
  const rel = { ArrowLeft: "prev", ArrowRight: "next", Escape: "up" }[event.key];
  const link = rel && document.querySelector(`a[rel="${rel}"]`);
  if (link) {
    event.preventDefault();
    link.click();
  }
});

// ---------------------------------------------------------------- zoom
if (zoom && zoom.showModal) {
  const body = zoom.querySelector(".zoom-body");
  const fit = document.getElementById("zoom-fit");
  const setFit = (on) => {
    body.classList.toggle("fit", on);
    fit.setAttribute("aria-pressed", String(on));
  };
  document.addEventListener("click", (event) => {
    const shot = event.target.closest("a[data-zoom]");
    if (!shot || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const small = shot.querySelector("img");
    const box = shot.getBoundingClientRect();
    const x = event.detail ? (event.clientX - box.left) / box.width : 0.5;
    const y = event.detail ? (event.clientY - box.top) / box.height : 0.5;
    const image = new Image(small.width, small.height);
    image.width = Number(small.getAttribute("width"));
    image.height = Number(small.getAttribute("height"));
    image.alt = small.alt;
    image.src = shot.href;
    const figure = document.createElement("figure");
    figure.append(image);
    const marks = shot.querySelector("svg.marks");
    if (marks) figure.append(marks.cloneNode(true));
    body.replaceChildren(figure);
    document.getElementById("zoom-title").textContent = shot.dataset.title;
    setFit(false);
    zoom.showModal();
    body.focus();
    // The place that was clicked comes to the middle.
    body.scrollTo(x * image.width - body.clientWidth / 2, y * image.height - body.clientHeight / 2);
  });
  fit.addEventListener("click", () => {
    setFit(!body.classList.contains("fit"));
    body.scrollTo(0, 0);
  });
  document.getElementById("zoom-close").addEventListener("click", () => zoom.close());
  zoom.addEventListener("close", () => body.replaceChildren());
}

// ---------------------------------------------------------------- news
const PAUSE = { running: 2000, reading: 300 };
const REST = 5000;

// Fetches again and again; what has not changed is not sent again (ETag).
function follow(place, url, pick) {
  let last = place.dataset.mark ? `"${place.dataset.mark}"` : null;
  async function look() {
    let pause = REST;
    if (!document.hidden) {
      try {
        const reply = await fetch(url, { cache: "no-cache" });
        if (!reply.ok) throw new Error(String(reply.status));
        place.classList.remove("gone");
        const mark = reply.headers.get("etag");
        if (mark !== last) pick(await reply.text());
        last = mark;
      } catch {
        place.classList.add("gone"); // the server has ended, or the run is there no more
      }
      const state = place.matches("[data-state]") ? place : place.querySelector("[data-state]");
      pause = PAUSE[state.dataset.state] || REST;
    }
    setTimeout(look, pause);
  }
  setTimeout(look, 300);
}

function put(place, nodes) {
  const at = document.activeElement;
  const id = place.contains(at) && at.getAttribute("aria-labelledby");
  const href = place.contains(at) && at.getAttribute("href");
  const scrolled = [...place.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  place.replaceChildren(...nodes);
  place.querySelectorAll(".scroll").forEach((one, k) => { one.scrollLeft = scrolled[k] || 0; });
  const again = (href && place.querySelector(`a[href="${CSS.escape(href)}"]`)) ||
    (id && place.querySelector(`[tabindex][aria-labelledby="${CSS.escape(id)}"]`));
  if (again) again.focus({ preventScroll: true });
}

const parse = (text) => new DOMParser().parseFromString(text, "text/html");

const live = document.querySelector("[data-live]");
if (live) follow(live, live.dataset.live, (text) => put(live, parse(text).body.childNodes));

const start = document.querySelector("[data-reload]");
if (start) {
  const hint = start.querySelector("[data-few]");
  start.addEventListener("submit", (event) => {
    const count = start.querySelectorAll("input:checked").length;
    if (count > 1 && count < 7) return;
    event.preventDefault();
    hint.textContent = hint.dataset.few;
    hint.classList.add("wanted");
  });
  follow(start, start.dataset.reload, (text) => {
    const section = parse(text).querySelector("[data-reload]");
    if (!section) return;
    start.dataset.state = section.dataset.state;
    const fresh = section.querySelector("tbody");
    const body = start.querySelector("tbody");
    const chosen = new Set([...body.querySelectorAll("input:checked")].map((one) => one.value));
    fresh.querySelectorAll("input").forEach((one) => { one.checked = chosen.has(one.value); });
    put(body, fresh.childNodes);
    start.querySelector(".legend").replaceWith(section.querySelector(".legend"));
  });
}
