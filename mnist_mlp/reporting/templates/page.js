"use strict";
/* The runs of the page, the selection that all views share, and the colours of the theme. */
const Report = (() => {
  const data = JSON.parse(document.getElementById("runs-data").textContent);
  const status = document.getElementById("selection");
  const COLOURS = 10, SHOWN = 8;
  const SYMBOLS = ["circle", "triangle", "rect", "diamond", "roundRect", "emptyCircle", "emptyTriangle", "emptyRect", "emptyDiamond", "arrow"];
  let selected = [];

  const same = (one, other) => one.length === other.length && one.every(run => other.includes(run));
  const select = runs => document.dispatchEvent(new CustomEvent("select-runs", {detail: {runs}}));
  const toggle = runs => select(same(runs, selected) ? [] : runs);

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
    const group = data.groups.find(one => same(one.runs, runs));
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

  const colourName = group => data.groups.length <= COLOURS || group < SHOWN ? `--group-${group}` : "--grey";
  function theme() {
    const style = getComputedStyle(document.documentElement);
    const of = name => style.getPropertyValue(name).trim();
    return {
      bg: of("--bg"), surface: of("--surface"), fg: of("--fg"), muted: of("--muted"), line: of("--line"), accent: of("--accent"),
      grey: of("--grey"), group: group => of(colourName(group)),
    };
  }

  return {
    data, make, select, toggle, nameOf, theme,
    selection: () => selected,
    isSelected: run => selected.includes(run),
    symbol: group => data.groups.length <= COLOURS || group < SHOWN ? SYMBOLS[group] : "circle",
    cssColour: group => `var(${colourName(group)})`,
    settingOf: key => data.settings[key] ?? key,
  };
})();
