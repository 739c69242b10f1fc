"use strict";
/* The runs of the page, the selection shared by all views, and the colors of the theme. */
const Report = (() => {
  const data = JSON.parse(document.getElementById("runs-data").textContent);
  const status = document.getElementById("selection");
  const MAX_COLORS = 10, MAX_COLORED = 8; // with more groups than colors, the best few have one and the others are grey
  const SYMBOLS = ["circle", "triangle", "rect", "diamond", "roundRect", "emptyCircle", "emptyTriangle", "emptyRect", "emptyDiamond", "arrow"];
  let selected = [];

  const equal = (a, b) => a.length === b.length && a.every(run => b.includes(run));
  const select = runs => document.dispatchEvent(new CustomEvent("select-runs", {detail: {runs}}));
  const toggle = runs => select(equal(runs, selected) ? [] : runs);

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter(child => child !== null && child !== undefined));
    return element;
  };

  function nameOf(runs) {
    if (runs.length === 1) return data.runs[runs[0]].name;
    const group = data.groups.find(group => equal(group.runs, runs));
    return group ? `${group.name} (${runs.length} runs)` : `${runs.length} runs`;
  }

  document.addEventListener("select-runs", event => {
    selected = event.detail.runs.filter(run => data.runs[run]);
    status.hidden = !selected.length;
    status.replaceChildren();
    if (selected.length) {
      const text = nameOf(selected);
      status.append(make("span", {title: text}, text), make("button", {type: "button", onclick: () => select([])}, "clear"));
    }
  });
  document.addEventListener("keydown", event => {
    if (event.key === "Escape" && selected.length) select([]);
  });

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
    data, make, select, toggle, nameOf, theme,
    selection: () => selected,
    isSelected: run => selected.includes(run),
    symbol: group => data.groups.length <= MAX_COLORS || group < MAX_COLORED ? SYMBOLS[group] : "circle",
    cssColor: group => `var(${colorVariable(group)})`,
  };
})();
