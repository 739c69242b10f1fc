"use strict";
/* Shared by all charts: created after the first paint, or when their tab is opened; redrawn when theme, selection or print mode changes. */
const Charts = (() => {
  const {make} = Report;
  const {classes} = Report.data, LOG_RATIO = 30;
  const CHANCE_ACCURACY = Math.min(200 / classes, 60), CHANCE_LOSS = 0.9 * Math.log(classes);
  const built = [], waiting = new Map();

  function register(kind, build) {
    for (const element of document.querySelectorAll(`.chart[data-chart="${kind}"]`)) waiting.set(element, build);
  }
  /* The compressed library keeps the page small and is parsed only after the first paint. */
  async function unpack() {
    const packed = document.querySelector("[data-library=echarts]");
    const bytes = Uint8Array.from(atob(packed.textContent), character => character.charCodeAt(0));
    packed.remove();
    const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    document.head.append(make("script", {}, text));
  }
  function start(element) {
    const build = waiting.get(element);
    if (!build) return;
    waiting.delete(element);
    built.push(build(element));
    keepControls(element);
  }
  /* Keep what the reader has chosen in the controls of a chart in the address of the page. */
  function keepControls(element) {
    const controls = [...element.querySelectorAll("select, input")], {chart} = element.dataset;
    const property = control => control.type === "checkbox" ? "checked" : "value";
    const initial = controls.map(control => control[property(control)]);
    const names = controls.map(({name}, index) => name + "'".repeat(controls.slice(0, index).filter(control => control.name === name).length));
    const restore = () => {
      const chosen = new Map(State.get(chart).split(",").map(pair => pair.split(/:(.*)/)));
      controls.forEach((control, index) => {
        const value = chosen.get(names[index]) ?? initial[index];
        const isUnknown = control.options && ![...control.options].some(option => option.value === value); // in an old link
        if (isUnknown || String(value) === String(control[property(control)])) return;
        control[property(control)] = control.type === "checkbox" ? String(value) === "true" : value;
        for (const name of ["input", "change"]) control.dispatchEvent(new Event(name));
      });
    };
    element.addEventListener("change", () => State.set(chart, controls.map((control, index) => [names[index], control[property(control)]])
      .filter(([, value], index) => value !== initial[index]).map(pair => pair.join(":")).join(",")));
    document.addEventListener("restore-state", restore);
    restore();
  }
  /* The static picture of the noscript element stands in for a chart that is not drawn, or not yet. */
  const showPicture = element => element.append(make("div", {class: "fallback"}, document.createRange().createContextualFragment(element.querySelector("noscript").textContent)));
  const hidePicture = element => element.querySelector(".fallback")?.remove();
  const startAll = () => [...waiting.keys()].forEach(start);
  const redraw = () => built.forEach(draw => draw());

  addEventListener("load", async () => {
    await new Promise(painted => setTimeout(painted));
    try {
      await unpack();
    } catch (error) {
      for (const element of waiting.keys()) {
        showPicture(element);
        element.append(make("p", {class: "note"}, `This browser cannot draw the charts (${error.message}); the tables list their values.`));
      }
      waiting.clear();
    }
    const observer = new IntersectionObserver(entries => entries.filter(entry => entry.isIntersecting).forEach(entry => {
      observer.unobserve(entry.target);
      setTimeout(() => start(entry.target));
    }), {rootMargin: "1000000px"}); // all, as a screenshot of the whole page shows them, but not those in a hidden tab
    for (const element of waiting.keys()) observer.observe(element);
    document.documentElement.dataset.charts = "ready";
  });
  for (const name of ["select-runs", "show-runs"]) document.addEventListener(name, redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.addEventListener("paper", ({detail: {on}}) => {
    if (on && window.echarts) startAll();
    [...waiting.keys()].forEach(on ? showPicture : hidePicture);
    resizeAll();
    redraw();
  });
  matchMedia("print").addEventListener("change", resizeAll);
  function resizeAll() {
    for (const element of document.querySelectorAll(".canvas")) window.echarts?.getInstanceByDom(element)?.resize();
  }

  /* Create a plot with its tooltip and its marker. */
  function plot(parent, label, height) {
    const canvas = make("div", {class: "canvas", role: "img", "aria-label": label, ...(height ? {style: `height: ${height}px`} : {})});
    const tip = make("div", {class: "tip", hidden: true}), dot = make("div", {class: "dot", hidden: true});
    const frame = make("div", {class: "plot"}, canvas, tip, dot);
    parent.append(frame);
    const chart = echarts.init(canvas, null, {renderer: Report.data.runs.length <= 60 ? "svg" : "canvas", devicePixelRatio: Math.max(2, devicePixelRatio)});
    new ResizeObserver(() => { if (canvas.clientWidth) chart.resize(); }).observe(canvas); // not in a hidden tab
    const hide = () => { tip.hidden = dot.hidden = true; };
    canvas.addEventListener("mouseleave", hide);
    function show([x, y], title, lines) {
      tip.replaceChildren(make("b", {}, title), ...lines.map(line => make("div", {}, line)));
      tip.hidden = dot.hidden = false;
      dot.style.left = `${x}px`;
      dot.style.top = `${y}px`;
      const right = x > canvas.clientWidth / 2, low = y > canvas.clientHeight / 2;
      Object.assign(tip.style, {left: right ? "auto" : `${x + 12}px`, right: right ? `${canvas.clientWidth - x + 12}px` : "auto",
        top: low ? "auto" : `${y + 10}px`, bottom: low ? `${canvas.clientHeight - y + 10}px` : "auto"});
    }
    return {chart, canvas, show, hide};
  }

  /* Show a tooltip for the point nearest to the pointer, and select its runs on click. points(): [{x, y, ...}] in data coordinates. */
  function respond(plot, points, describe, runsOf, reach = 30) {
    const nearest = event => {
      let best = null, smallest = reach ** 2;
      for (const point of points()) {
        const pixel = plot.chart.convertToPixel({gridIndex: 0}, [point.x, point.y]);
        if (!pixel) continue;
        const distance = (pixel[0] - event.offsetX) ** 2 + (pixel[1] - event.offsetY) ** 2;
        if (distance < smallest) [best, smallest] = [{...point, pixel}, distance];
      }
      return best;
    };
    plot.chart.getZr().on("mousemove", event => {
      const point = nearest(event);
      if (point) plot.show(point.pixel, ...describe(point));
      else plot.hide();
      plot.chart.getZr().setCursorStyle(point ? "pointer" : "default");
    });
    plot.chart.getZr().on("click", event => {
      const point = nearest(event);
      if (point) Report.pick(runsOf(point), event.event);
    });
  }

  /* A run as a point of a scatter series; a triangle at the edge if its value is out of range. */
  const dot = (theme, {run, x, y, low, high}, color, size, symbol = "circle") => {
    const isSelected = Report.isSelected(run.id), opacity = Report.selection().length && !isSelected ? 0.14 : 0.8;
    return {value: [x, y], symbol: low || high ? "triangle" : symbol, symbolRotate: low ? 180 : 0, symbolSize: isSelected ? size + 6 : size,
      itemStyle: {color, opacity, borderColor: isSelected ? theme.fg : undefined, borderWidth: isSelected ? 1.5 : undefined}};
  };
  const quantile = (sorted, fraction) => {
    const position = (sorted.length - 1) * fraction, low = Math.floor(position);
    return sorted[low] + (position - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
  };
  const clamp = (value, range) => range ? Math.min(Math.max(value, range[0]), range[1]) : value;
  /* Mean and standard deviation, which is 0 for one value. */
  function moments(values) {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return [mean, Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(values.length - 1, 1))];
  }
  /* The padded range of the values; if robust, without runs at chance level and values beyond three interquartile ranges. */
  function range(values, name, robust = true) {
    let kept = values.filter(Number.isFinite);
    if (!kept.length) return null;
    if (robust) {
      const aboveChance = kept.filter(/accuracy/.test(name) ? value => value >= CHANCE_ACCURACY : /loss/.test(name) ? value => value < CHANCE_LOSS : () => true);
      if (aboveChance.length) kept = aboveChance;
      kept.sort((a, b) => a - b);
      const first = quantile(kept, 0.25), third = quantile(kept, 0.75), reach = Math.max(3 * (third - first), 1e-9);
      kept = kept.filter(value => value >= first - reach && value <= third + reach);
    }
    const low = kept.reduce((a, b) => Math.min(a, b)), high = kept.reduce((a, b) => Math.max(a, b));
    const pad = 0.06 * (high - low || Math.abs(high) * 0.1 || 1);
    const bounds = [low - pad, high + pad];
    if (/accuracy/.test(name)) bounds[1] = Math.min(bounds[1], Math.max(100, high));
    if (low >= 0) bounds[0] = Math.max(bounds[0], 0);
    return bounds;
  }
  const needsLog = values => {
    const finite = values.filter(Number.isFinite);
    return finite.length > 1 && Math.min(...finite) > 0 && Math.max(...finite) > LOG_RATIO * Math.min(...finite);
  };

  function number(value) {
    if (value === null || value === undefined) return "-";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value)) return Math.abs(value) >= 1e4 ? value.toLocaleString("en") : String(value);
    return Math.abs(value) >= 1 ? String(Number(value.toFixed(3))) : String(Number(value.toPrecision(3)));
  }
  function axis(theme, extra) {
    const isFitted = extra.type === "value" && Number.isFinite(extra.max); // the ends of a fitted range are not round numbers
    return {
      nameLocation: "middle", nameTextStyle: {color: theme.muted, fontSize: 12}, axisLine: {show: true, onZero: false, lineStyle: {color: theme.line}},
      axisTick: {lineStyle: {color: theme.line}}, axisLabel: {color: theme.muted, fontSize: 11, hideOverlap: true, formatter: number, showMinLabel: !isFitted, showMaxLabel: !isFitted},
      splitLine: {lineStyle: {color: theme.line, opacity: 0.6}}, minorSplitLine: {show: false}, ...extra,
    };
  }

  /* Add a legend of groups as buttons, best first, up to a readable number. */
  function legend(parent) {
    const MAX_ENTRIES = 40, groups = Report.data.groups;
    if (groups.length < 2) return;
    const buttons = groups.slice(0, MAX_ENTRIES).map((group, index) => make("button", {type: "button", "aria-pressed": String(group.runs.some(Report.isSelected)), title: group.name,
      "data-runs": group.runs.join(" ")}, make("i", {style: `--color: ${Report.cssColor(index)}`}), make("span", {}, group.name)));
    const remaining = groups.length - buttons.length;
    parent.append(make("ul", {class: "legend", "aria-label": "Groups, best first", tabindex: "0"}, ...buttons.map(button => make("li", {}, button)),
      remaining ? make("li", {class: "note"}, `and ${remaining} more in the table`) : null));
  }
  function choice(label, options, chosen, onchange) {
    const select = make("select", {name: label, onchange: () => onchange(select.value)},
      ...Object.entries(options).map(([value, text]) => make("option", {value, selected: value === chosen}, text)));
    return make("label", {}, `${label} `, select);
  }
  const check = (label, checked, onchange) =>
    make("label", {}, make("input", {type: "checkbox", name: label, checked, onchange: event => onchange(event.target.checked)}), label);

  /* A categorical axis with the labels at 0, 1, ... */
  function names(theme, labels, extra) {
    const positions = labels.map((_, position) => position);
    const crowded = labels.map(String).join("").length > 34;
    const base = axis(theme, {type: "value", min: -0.5, max: labels.length - 0.5, splitLine: {show: false}, ...extra});
    return {...base, axisTick: {...base.axisTick, customValues: positions}, axisLabel: {color: theme.muted, fontSize: 11, customValues: positions, hideOverlap: true,
      rotate: crowded ? 30 : 0, width: 110, overflow: "truncate", formatter: position => labels[position] === undefined ? "" : number(labels[position])}};
  }

  return {register, plot, names, respond, dot, clamp, moments, range, needsLog, number, axis, legend, choice, check};
})();
