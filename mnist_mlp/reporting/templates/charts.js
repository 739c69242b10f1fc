"use strict";
/* What the charts share: made when they come near the window, redrawn with theme, selection and paper. */
const Charts = (() => {
  const {make} = Report;
  const NOTHING_LEARNT = 20, GUESSING = 0.9 * Math.log(10), WIDE = 30, NEAR = "600px";
  const built = [], waiting = new Map();

  function register(kind, build) {
    for (const element of document.querySelectorAll(`.chart[data-chart="${kind}"]`)) waiting.set(element, build);
  }
  /* The library is packed, so that the page is small and is painted before a megabyte of script is read. */
  async function unpack() {
    const packed = document.querySelector("[data-library=echarts]");
    const bytes = Uint8Array.from(atob(packed.textContent), letter => letter.charCodeAt(0));
    packed.remove();
    const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    document.head.append(make("script", {}, text));
  }
  function start(element) {
    const build = waiting.get(element);
    if (!build) return;
    waiting.delete(element);
    built.push(build(element));
  }
  /* The picture that is there for want of scripts, where a chart is not drawn, or not yet. */
  const showPicture = element => element.append(make("div", {class: "instead"}, document.createRange().createContextualFragment(element.querySelector("noscript").textContent)));
  const hidePicture = element => element.querySelector(".instead")?.remove();
  const startAll = () => [...waiting.keys()].forEach(start);
  const redraw = () => built.forEach(draw => draw());

  addEventListener("load", async () => {
    await new Promise(painted => setTimeout(painted));
    try {
      await unpack();
    } catch (error) {
      for (const element of waiting.keys()) {
        showPicture(element);
        element.append(make("p", {class: "note"}, `This browser cannot draw the charts (${error.message}); the tables have their figures.`));
      }
      waiting.clear();
    }
    const near = new IntersectionObserver(found => found.filter(one => one.isIntersecting).forEach(one => {
      near.unobserve(one.target);
      start(one.target);
    }), {rootMargin: NEAR});
    for (const element of waiting.keys()) near.observe(element);
    document.documentElement.dataset.charts = "ready";
  });
  document.addEventListener("select-runs", redraw);
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

  /* A plot with its tip and its dot. */
  function plot(parent, label, height) {
    const canvas = make("div", {class: "canvas", role: "img", "aria-label": label, ...(height ? {style: `height: ${height}px`} : {})});
    const tip = make("div", {class: "tip", hidden: true}), dot = make("div", {class: "dot", hidden: true});
    const frame = make("div", {class: "plot"}, canvas, tip, dot);
    parent.append(frame);
    const chart = echarts.init(canvas, null, {renderer: Report.data.runs.length <= 60 ? "svg" : "canvas", devicePixelRatio: Math.max(2, devicePixelRatio)});
    new ResizeObserver(() => chart.resize()).observe(canvas);
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

  /* What is nearest to the pointer answers to it. points(): [{x, y, ...}] in the chart's coordinates. */
  function respond(one, points, describe, pick, reach = 30) {
    const nearest = event => {
      let best = null, least = reach ** 2;
      for (const point of points()) {
        const place = one.chart.convertToPixel(point.at ?? {gridIndex: 0}, [point.x, point.y]);
        if (!place) continue;
        const away = (place[0] - event.offsetX) ** 2 + (place[1] - event.offsetY) ** 2;
        if (away < least) [best, least] = [{...point, place}, away];
      }
      return best;
    };
    one.chart.getZr().on("mousemove", event => {
      const found = nearest(event);
      if (found) one.show(found.place, ...describe(found));
      else one.hide();
      one.chart.getZr().setCursorStyle(found ? "pointer" : "default");
    });
    one.chart.getZr().on("click", event => {
      const found = nearest(event);
      if (found) Report.toggle(pick(found));
    });
  }

  const quantile = (sorted, part) => {
    const place = (sorted.length - 1) * part, low = Math.floor(place);
    return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
  };
  /* The range that shows the differences: without collapsed runs and what lies far outside of the middle half. */
  function range(values, name, robust = true) {
    let kept = values.filter(Number.isFinite);
    if (!kept.length) return null;
    if (robust) {
      const learnt = kept.filter(/accuracy/.test(name) ? value => value >= NOTHING_LEARNT : /loss/.test(name) ? value => value < GUESSING : () => true);
      if (learnt.length) kept = learnt;
      kept.sort((one, other) => one - other);
      const first = quantile(kept, 0.25), third = quantile(kept, 0.75), reach = Math.max(3 * (third - first), 1e-9);
      kept = kept.filter(value => value >= first - reach && value <= third + reach);
    }
    const low = kept.reduce((one, other) => Math.min(one, other)), high = kept.reduce((one, other) => Math.max(one, other));
    const pad = 0.06 * (high - low || Math.abs(high) * 0.1 || 1);
    const bounds = [low - pad, high + pad];
    if (/accuracy/.test(name)) bounds[1] = Math.min(bounds[1], Math.max(100, high));
    if (low >= 0) bounds[0] = Math.max(bounds[0], 0);
    return bounds;
  }
  const isWide = values => {
    const known = values.filter(Number.isFinite);
    return known.length > 1 && Math.min(...known) > 0 && Math.max(...known) > WIDE * Math.min(...known);
  };

  function number(value) {
    if (value === null || value === undefined) return "-";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value)) return Math.abs(value) >= 1e4 ? value.toLocaleString("en") : String(value);
    return Math.abs(value) >= 1 ? String(Number(value.toFixed(3))) : String(Number(value.toPrecision(3)));
  }
  function axis(theme, extra) {
    const ends = extra.type === "value" && Number.isFinite(extra.max); // the ends of a fitted range are no round numbers
    return {
      nameLocation: "middle", nameTextStyle: {color: theme.muted, fontSize: 12}, axisLine: {show: true, onZero: false, lineStyle: {color: theme.line}},
      axisTick: {lineStyle: {color: theme.line}}, axisLabel: {color: theme.muted, fontSize: 11, hideOverlap: true, formatter: number, showMinLabel: !ends, showMaxLabel: !ends},
      splitLine: {lineStyle: {color: theme.line, opacity: 0.6}}, minorSplitLine: {show: false}, ...extra,
    };
  }

  /* A legend of groups as buttons; the best first, as many as can be read. */
  function legend(parent) {
    const MOST = 40, groups = Report.data.groups;
    if (groups.length < 2) return () => {};
    const buttons = groups.slice(0, MOST).map((group, place) => make("button", {type: "button", "aria-pressed": "false", title: group.name,
      onclick: () => Report.toggle(group.runs)}, make("i", {style: `--colour: ${Report.cssColour(place)}`}), make("span", {}, group.name)));
    const rest = groups.length - buttons.length;
    parent.append(make("ul", {class: "legend", "aria-label": "Groups, best first", tabindex: "0"}, ...buttons.map(button => make("li", {}, button)),
      rest ? make("li", {class: "note"}, `and ${rest} more, in the table`) : null));
    return () => buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(groups[place].runs.some(Report.isSelected))));
  }
  function choice(label, options, chosen, onchange) {
    const select = make("select", {onchange: () => onchange(select.value)},
      ...Object.entries(options).map(([value, text]) => make("option", {value, selected: value === chosen}, text)));
    return make("label", {}, `${label} `, select);
  }
  const check = (label, checked, onchange) =>
    make("label", {}, make("input", {type: "checkbox", checked, onchange: event => onchange(event.target.checked)}), label);

  /* An axis of names in a row, positions 0, 1, ... */
  function names(theme, labels, extra) {
    const places = labels.map((_, place) => place);
    const crowded = labels.map(String).join("").length > 34;
    const base = axis(theme, {type: "value", min: -0.5, max: labels.length - 0.5, splitLine: {show: false}, ...extra});
    return {...base, axisTick: {...base.axisTick, customValues: places}, axisLabel: {color: theme.muted, fontSize: 11, customValues: places, hideOverlap: true,
      rotate: crowded ? 30 : 0, width: 110, overflow: "truncate", formatter: place => labels[place] === undefined ? "" : number(labels[place])}};
  }

  return {register, plot, names, respond, range, isWide, number, axis, legend, choice, check};
})();
