"use strict";
/* Learning curves: individual runs, or mean ± standard deviation over seeds; smoothing; robust or full range. */
Charts.register("curves", element => {
  const {data, make} = Report;
  const MAX_GROUPS = {best: 40, worst: 10, between: 10};
  const SPLITS = {train: "training", val: "validation", test: "test (not used for selection)"};
  const tags = [...new Set(data.runs.flatMap(run => Object.keys(run.curves)))];
  const metrics = [...new Set(tags.map(tag => tag.split("/").pop()))];
  const splits = Object.keys(SPLITS).filter(split => tags.some(tag => tag.startsWith(`${split}/`)));
  const heldOut = splits.includes("val") ? "val" : splits.at(-1);
  const hasSeeds = data.groups.some(group => group.runs.filter(run => Object.keys(data.runs[run].curves).length).length > 1);
  const state = {lines: hasSeeds ? "mean" : "runs", smoothing: 0, range: "robust", splits: new Set(splits.filter(split => split !== "test" || heldOut === "test"))};

  const update = (key, value) => { state[key] = value; draw(); };
  const smoothing = make("output", {}, "0");
  const controls = make("div", {class: "controls"},
    hasSeeds ? Charts.choice("lines", {mean: "mean ± standard deviation over seeds", runs: "individual runs"}, state.lines, value => update("lines", value)) : null,
    Charts.choice("range", {robust: "robust", full: "full"}, "robust", value => update("range", value)),
    make("label", {}, "smoothing ", make("input", {type: "range", name: "smoothing", min: 0, max: 0.95, step: 0.05, value: 0, oninput: event => {
      smoothing.textContent = event.target.value;
      update("smoothing", Number(event.target.value));
    }}), smoothing),
    ...splits.map(split => Charts.check(`${SPLITS[split]} ${split === heldOut ? "(solid)" : "(dashed)"}`, state.splits.has(split), on => {
      state.splits[on ? "add" : "delete"](split);
      draw();
    })));
  element.append(controls);
  Charts.legend(element);
  const panels = make("div", {class: "panels", style: "grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr))"});
  const note = make("p", {class: "note"});
  element.append(panels, note);
  const names = Object.fromEntries(metrics.map(metric => [metric, metric === "lr" ? "learning rate" : metric]));
  const plots = metrics.slice(0, 2).map((metric, index) => {
    const box = make("div");
    const plot = {metric: ["accuracy", "loss"].filter(name => metrics.includes(name))[index] ?? metric, lines: []};
    box.append(make("div", {class: "controls"}, Charts.choice("metric", names, plot.metric, value => { plot.metric = value; draw(); }),
      Charts.check("logarithmic", false, on => { plot.log = on; draw(); })));
    panels.append(box);
    Object.assign(plot, Charts.plot(box, element.dataset.label, 360));
    const points = () => plot.lines.flatMap(line => line.points.map(([x, y]) => ({x, y, line})));
    Charts.respond(plot, points, ({line, x, y}) => [line.name, [`${SPLITS[line.split] ?? ""} ${names[plot.metric]} at epoch ${x}: ${Charts.number(y)}`,
      ...(line.runs.length > 1 ? [`mean of ${line.counts.get(x)} of ${line.runs.length} runs`] : [])]], point => point.line.runs);
    return plot;
  });

  const scale = metric => metric.endsWith("accuracy") ? 100 : 1;
  function curve(run, split, metric) {
    const values = run.curves[split ? `${split}/${metric}` : metric];
    return values?.map((value, index) => [run.epochs?.[index] ?? index + 1, value === null ? null : scale(metric) * value]) ?? [];
  }
  /* Bias-corrected exponential moving average, as in TensorBoard. */
  function smooth(points) {
    let sum = 0, weight = 0;
    return points.map(([x, y]) => {
      if (y === null) return [x, y];
      sum = state.smoothing * sum + (1 - state.smoothing) * y;
      weight = state.smoothing * weight + (1 - state.smoothing);
      return [x, sum / weight];
    });
  }
  /* Epochs that are left out of a curve to keep the page small are interpolated; after its end it has no value. */
  function valueAt(points, known, x) {
    if (known.has(x)) return known.get(x);
    const next = points.findIndex(point => point[0] > x);
    if (next < 1) return null;
    const [[x0, y0], [x1, y1]] = [points[next - 1], points[next]];
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0);
  }
  function mean(curves) {
    const shown = curves.map(points => points.filter(point => point[1] !== null)), known = shown.map(points => new Map(points));
    const epochs = [...new Set(shown.flatMap(points => points.map(point => point[0])))].sort((a, b) => a - b);
    return epochs.map(x => {
      const values = shown.map((points, index) => valueAt(points, known[index], x)).filter(value => value !== null);
      return [x, ...Charts.moments(values), values.length];
    });
  }

  function buildLines(metric) {
    const lines = [];
    const shownSplits = tags.includes(metric) ? [""] : splits.filter(split => state.splits.has(split));
    for (const index of shownGroups()) {
      const group = data.groups[index];
      for (const split of shownSplits) {
        const curves = group.runs.filter(Report.isShown).map(run => [run, smooth(curve(data.runs[run], split, metric))]).filter(([, points]) => points.length);
        if (!curves.length) continue;
        if (state.lines === "mean" && curves.length > 1) {
          const points = mean(curves.map(pair => pair[1])), ends = points.findIndex(point => point[3] < curves.length);
          const counts = new Map(points.map(point => [point[0], point[3]])), runs = curves.map(pair => pair[0]);
          const line = {name: group.name, group: index, split, runs, counts, band: split === heldOut || !split};
          const shared = ends < 0 ? points : points.slice(0, ends);
          if (shared.length) lines.push({...line, points: shared});
          if (ends >= 0) lines.push({...line, points: points.slice(ends), band: false, fewer: true});
        } else curves.forEach(([run, points]) => lines.push({name: data.runs[run].name, group: index, split, runs: [run], points: points.filter(point => point[1] !== null)}));
      }
    }
    return lines;
  }
  function shownGroups() {
    const indices = [...data.groups.keys()].filter(index => data.groups[index].runs.some(Report.isShown)), {best, worst, between} = MAX_GROUPS;
    if (indices.length <= best + worst + between) return indices;
    const step = (indices.length - best - worst) / between;
    const sampled = Array.from({length: between}, (_, index) => indices[best + Math.floor(step * index)]);
    const selected = Report.selection().slice(0, 200).map(run => data.runs[run].group);
    return [...new Set([...indices.slice(0, best), ...indices.slice(-worst), ...sampled, ...selected])];
  }

  function bounds(plot) {
    const last = Math.max(...plot.lines.flatMap(line => line.points.map(point => point[0])), 1);
    const skipped = state.range === "robust" && last > 3 ? Math.ceil(last / 4) : 0;
    const values = plot.lines.flatMap(line => line.points.filter(point => point[0] > skipped).map(point => point[1]));
    return Charts.range(values, plot.metric, state.range === "robust") ?? Charts.range(plot.lines.flatMap(line => line.points.map(point => point[1])), plot.metric);
  }

  function drawPlot(plot, theme) {
    plot.lines = buildLines(plot.metric);
    const selected = Report.selection(), unit = plot.metric.endsWith("accuracy") ? " (%)" : plot.metric === "loss" ? " (nats per image)" : "";
    const range = bounds(plot), log = plot.log && range;
    const low = log ? Math.min(...plot.lines.flatMap(line => line.points.map(point => point[1])).filter(value => value > 0)) : null;
    const series = plot.lines.flatMap(line => {
      const isSelected = line.runs.some(Report.isSelected), isDimmed = selected.length && !isSelected, color = theme.group(line.group);
      const z = isSelected ? 1000 : data.groups.length - line.group + 2;
      const main = {type: "line", data: line.points.map(point => point.slice(0, 2)), silent: true, z, showSymbol: line.points.length === 1, symbolSize: 6,
        lineStyle: {color, width: isSelected ? 3.2 : line.split === heldOut ? 1.8 : 1.2, type: line.fewer ? "dotted" : line.split && line.split !== heldOut ? "dashed" : "solid", opacity: isDimmed ? 0.12 : 1},
        itemStyle: {color, opacity: isDimmed ? 0.12 : 1}};
      if (!line.band || isDimmed || line.points.length < 2) return [main];
      const edge = sign => line.points.map(([x, y, spread]) => [x, Math.max(y + sign * spread, log ? low : -Infinity)]);
      const outline = [...edge(1), ...edge(-1).reverse()];
      return [{type: "custom", silent: true, clip: true, z: 1, data: [line.points[0].slice(0, 2)], renderItem: (_, api) => ({
        type: "polygon", shape: {points: outline.map(point => api.coord(point))}, style: {fill: color, opacity: isSelected ? 0.3 : 0.14}})}, main];
    });
    plot.chart.setOption({
      animation: false, grid: {left: 58, right: 14, top: 12, bottom: 44},
      xAxis: Charts.axis(theme, {type: "value", name: "epoch", nameGap: 26, min: plot.lines.some(line => line.points.length > 1) ? 1 : 0, max: "dataMax", minInterval: 1, splitLine: {show: false}}),
      yAxis: Charts.axis(theme, {type: log ? "log" : "value", name: `${names[plot.metric]}${unit}`, nameGap: 42, min: log ? low : range?.[0], max: range?.[1]}),
      series,
    }, {replaceMerge: ["series", "xAxis", "yAxis"]});
  }
  function draw() {
    const theme = Report.theme();
    plots.forEach(plot => drawPlot(plot, theme));
    const shown = shownGroups().length, total = data.groups.filter(group => group.runs.some(Report.isShown)).length;
    note.textContent = shown < total ? `Showing ${shown} of ${total} groups: the best, the worst, a sample in between, and the selected ones.` : "";
  }
  draw();
  return draw;
});
