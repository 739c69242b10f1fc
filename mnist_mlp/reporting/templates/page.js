"use strict";
/* The runs of the page; which of them are selected and shown, in all views and in its address; the colors of the theme. */
const Report = (() => {
  const data = JSON.parse(document.getElementById("runs-data").textContent);
  const status = document.getElementById("selection");
  const MAX_COLORS = 10, MAX_COLORED = 8; // with more groups than colors, the best few have one and the others are grey
  const SYMBOLS = ["circle", "triangle", "rect", "diamond", "roundRect", "emptyCircle", "emptyTriangle", "emptyRect", "emptyDiamond", "arrow"];
  const excluded = new Map(); // sets of runs by the filter that hides them
  let selected = [], start = null; // start: of a range of rows

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter(child => child !== null && child !== undefined));
    return element;
  };

  const equal = (a, b) => a.length === b.length && a.every(run => b.includes(run));
  const runsOf = element => element.dataset.runs.split(" ").map(Number);
  const isShown = run => ![...excluded.values()].some(runs => runs.has(run));
  const select = runs => document.dispatchEvent(new CustomEvent("select-runs", {detail: {runs}}));

  /* Select these runs only; with Ctrl or Command, or with Shift in a chart, add or remove them; with Shift, the rows from the last one to this. */
  function pick(runs, event, element = null) {
    const siblings = [...element?.parentElement.children ?? []].filter(sibling => sibling.dataset.runs && !sibling.classList.contains("off"));
    const ends = [start, element].map(end => siblings.indexOf(end)).sort((a, b) => a - b);
    if (event.shiftKey && ends[0] >= 0) return select([...new Set(siblings.slice(ends[0], ends[1] + 1).flatMap(runsOf))]);
    start = element;
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) return select(equal(runs, selected) ? [] : runs);
    select(runs.every(run => selected.includes(run)) ? selected.filter(run => !runs.includes(run)) : [...new Set([...selected, ...runs])]);
  }
  /* Hide these runs; filter: a table, or "others", which replaces what it has hidden before. */
  function exclude(filter, runs) {
    const isSame = equal(runs, [...excluded.get(filter) ?? []]);
    excluded.set(filter, new Set(runs));
    mark();
    if (!isSame) document.dispatchEvent(new Event("show-runs"));
  }
  function showOnly(runs) {
    State.set("only", numbersOf(runs));
    exclude("others", runs.length ? data.runs.map(run => run.id).filter(run => !runs.includes(run)) : []);
  }

  function nameOf(runs) {
    if (runs.length === 1) return data.runs[runs[0]].name;
    const group = data.groups.find(group => equal(group.runs, runs));
    return group ? `${group.name} (${runs.length} runs)` : `${runs.length} runs`;
  }
  /* Mark the elements of selected runs, hide those of hidden runs, and describe both at the bottom of the window. */
  function mark() {
    for (const element of document.querySelectorAll("[data-runs]")) {
      const runs = runsOf(element), isSelected = runs.some(run => selected.includes(run));
      element.classList.toggle("selected", isSelected);
      element.classList.toggle("off", Boolean(element.isFiltered) || !runs.some(isShown));
      (element.querySelector(".pick") ?? element).setAttribute("aria-pressed", String(isSelected));
    }
    const shown = data.runs.filter(run => isShown(run.id)).length, text = selected.length ? nameOf(selected) : "";
    const note = shown < data.runs.length ? `${shown} of ${data.runs.length} runs shown` : "";
    const button = (label, act) => make("button", {type: "button", onclick: () => { act(); status.querySelector("button")?.focus(); }}, label);
    status.hidden = !text && !note;
    status.replaceChildren(...text ? [make("span", {title: text}, text), button("hide others", () => { showOnly(selected); select([]); }), button("clear", () => select([]))] : [],
      ...note ? [make("span", {}, note), button("show all", () => { showOnly([]); document.dispatchEvent(new Event("show-all")); })] : []);
  }
  document.addEventListener("select-runs", event => {
    selected = event.detail.runs.filter(run => data.runs[run]);
    State.set("runs", numbersOf(selected));
    mark();
  });
  document.addEventListener("keydown", event => {
    if (event.key === "Escape" && selected.length) select([]);
  });
  document.addEventListener("click", event => {
    const element = event.target.closest("[data-runs]"), control = event.target.closest("a, button:not(.pick, [data-runs]), input");
    if (event.shiftKey) getSelection().removeAllRanges(); // browsers select the text in between
    if (element && !control && !String(getSelection())) pick(runsOf(element), event, element);
  });

  /* In the address, runs are numbered in the order of their starts, which new runs do not change. */
  const numbersOf = runs => runs.map(run => data.runs[run].order + 1).sort((a, b) => a - b).join(",");
  const runsAt = key => data.runs.filter(run => State.get(key).split(",").includes(String(run.order + 1))).map(run => run.id);
  function restore() {
    showOnly(runsAt("only"));
    select(runsAt("runs"));
  }
  document.addEventListener("restore-state", restore);
  addEventListener("DOMContentLoaded", restore);

  const colorVariable = group => data.groups.length <= MAX_COLORS || group < MAX_COLORED ? `--group-${group}` : "--grey";
  function theme() {
    const style = getComputedStyle(document.documentElement);
    const color = name => style.getPropertyValue(name).trim();
    return {
      bg: color("--bg"), surface: color("--surface"), fg: color("--fg"), muted: color("--muted"), line: color("--line"), accent: color("--accent"),
      grey: color("--grey"), group: group => color(colorVariable(group)),
    };
  }

  return {
    data, make, select, pick, exclude, isShown, runsOf, theme,
    runs: () => data.runs.filter(run => isShown(run.id)),
    selection: () => selected.filter(isShown),
    isSelected: run => selected.includes(run),
    symbol: group => data.groups.length <= MAX_COLORS || group < MAX_COLORED ? SYMBOLS[group] : "circle",
    cssColor: group => `var(${colorVariable(group)})`,
  };
})();
