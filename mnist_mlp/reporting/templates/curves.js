"use strict";
/* Learning curves: each run, or mean and deviation over seeds; smoothing, and a range that shows the differences. */
Charts.register("curves", element => {
  const {data, make} = Report;
  const DRAWN = {best: 40, worst: 10, between: 10};
  const SPLITS = {train: "training", val: "validation", test: "test (never chosen by)"};
  const tags = [...new Set(data.runs.flatMap(run => Object.keys(run.curves)))];
  const metrics = [...new Set(tags.map(tag => tag.split("/").pop()))];
  const splits = Object.keys(SPLITS).filter(split => tags.some(tag => tag.startsWith(`${split}/`)));
  const held = splits.includes("val") ? "val" : splits.at(-1);
  const seeds = data.groups.some(group => group.runs.filter(run => Object.keys(data.runs[run].curves).length).length > 1);
  const state = {lines: seeds ? "mean" : "runs", smoothing: 0, range: "differences", splits: new Set(splits.filter(split => split !== "test" || held === "test"))};

  const update = (key, value) => { state[key] = value; draw(); };
  const shown = make("output", {}, "0");
  const controls = make("div", {class: "controls"},
    seeds ? Charts.choice("lines", {mean: "mean ± standard deviation over seeds", runs: "each run"}, state.lines, value => update("lines", value)) : null,
    Charts.choice("range", {differences: "differences", everything: "everything"}, "differences", value => update("range", value)),
    make("label", {}, "smoothing ", make("input", {type: "range", min: 0, max: 0.95, step: 0.05, value: 0, oninput: event => {
      shown.textContent = event.target.value;
      update("smoothing", Number(event.target.value));
    }}), shown),
    ...splits.map(split => Charts.check(`${SPLITS[split]} ${split === held ? "(solid)" : "(dashed)"}`, state.splits.has(split), on => {
      state.splits[on ? "add" : "delete"](split);
      draw();
    })));
  element.append(controls);
  const press = Charts.legend(element);
  const panels = make("div", {class: "panels", style: "grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr))"});
  const note = make("p", {class: "note"});
  element.append(panels, note);
  const names = Object.fromEntries(metrics.map(metric => [metric, metric === "lr" ? "learning rate" : metric]));
  const plots = metrics.slice(0, 2).map((metric, place) => {
    const box = make("div");
    const one = {metric: ["accuracy", "loss"].filter(name => metrics.includes(name))[place] ?? metric, drawn: []};
    box.append(make("div", {class: "controls"}, Charts.choice("show", names, one.metric, value => { one.metric = value; draw(); }),
      Charts.check("logarithmic", false, on => { one.log = on; draw(); })));
    panels.append(box);
    Object.assign(one, Charts.plot(box, element.dataset.label, 360));
    const points = () => one.drawn.flatMap(line => line.points.map(([x, y]) => ({x, y, line})));
    Charts.respond(one, points, found => [found.line.name, [`${SPLITS[found.line.split] ?? ""} ${names[one.metric]} at epoch ${found.x}: ${Charts.number(found.y)}`,
      ...(found.line.runs.length > 1 ? [`mean of ${found.line.runs.length} runs`] : [])]], found => found.line.runs);
    return one;
  });

  const scale = metric => metric.endsWith("accuracy") ? 100 : 1;
  function curve(run, split, metric) {
    const values = run.curves[split ? `${split}/${metric}` : metric];
    return values?.map((value, place) => [run.epochs?.[place] ?? place + 1, value === null ? null : scale(metric) * value]) ?? [];
  }
  /* An exponential moving average without the pull of its start, as TensorBoard has it. */
  function smooth(points) {
    let sum = 0, weight = 0;
    return points.map(([x, y]) => {
      if (y === null) return [x, y];
      sum = state.smoothing * sum + (1 - state.smoothing) * y;
      weight = state.smoothing * weight + (1 - state.smoothing);
      return [x, sum / weight];
    });
  }
  function mean(curves) {
    const columns = new Map();
    curves.flat().forEach(([x, y]) => { if (y !== null) columns.set(x, [...(columns.get(x) ?? []), y]); });
    return [...columns].sort((one, other) => one[0] - other[0]).map(([x, values]) => {
      const middle = values.reduce((one, other) => one + other) / values.length;
      const square = values.reduce((one, other) => one + (other - middle) ** 2, 0);
      return [x, middle, values.length > 1 ? Math.sqrt(square / (values.length - 1)) : 0];
    });
  }

  function lines(metric) {
    const found = [];
    const parts = tags.includes(metric) ? [""] : splits.filter(split => state.splits.has(split));
    for (const place of groupsDrawn()) {
      const group = data.groups[place];
      for (const split of parts) {
        const curves = group.runs.map(run => [run, smooth(curve(data.runs[run], split, metric))]).filter(one => one[1].length);
        if (!curves.length) continue;
        if (state.lines === "mean" && curves.length > 1) {
          const points = mean(curves.map(one => one[1]));
          found.push({name: group.name, group: place, split, runs: group.runs, points, band: split === held || !split});
        } else curves.forEach(([run, points]) => found.push({name: data.runs[run].name, group: place, split, runs: [run], points: points.filter(point => point[1] !== null)}));
      }
    }
    return found;
  }
  function groupsDrawn() {
    const count = data.groups.length, most = DRAWN.best + DRAWN.worst + DRAWN.between;
    if (count <= most) return data.groups.map((_, place) => place);
    const step = (count - DRAWN.best - DRAWN.worst) / DRAWN.between;
    const between = Array.from({length: DRAWN.between}, (_, place) => DRAWN.best + Math.floor(step * place));
    const ends = data.groups.map((_, place) => place).filter(place => place < DRAWN.best || place >= count - DRAWN.worst);
    const chosen = Report.selection().slice(0, 200).map(run => data.runs[run].group);
    return [...new Set([...ends, ...between, ...chosen])];
  }

  function bounds(one) {
    const last = Math.max(...one.drawn.flatMap(line => line.points.map(point => point[0])), 1);
    const skipped = state.range === "differences" && last > 3 ? Math.ceil(last / 4) : 0;
    const values = one.drawn.flatMap(line => line.points.filter(point => point[0] > skipped).map(point => point[1]));
    return Charts.range(values, one.metric, state.range === "differences") ?? Charts.range(one.drawn.flatMap(line => line.points.map(point => point[1])), one.metric);
  }

  function drawOne(one, theme) {
    one.drawn = lines(one.metric);
    const chosen = Report.selection(), unit = one.metric.endsWith("accuracy") ? " (%)" : one.metric === "loss" ? " (nats per image)" : "";
    const range = bounds(one), log = one.log && range;
    const low = log ? Math.min(...one.drawn.flatMap(line => line.points.map(point => point[1])).filter(value => value > 0)) : null;
    const series = one.drawn.flatMap((line, place) => {
      const lit = line.runs.some(Report.isSelected), pale = chosen.length && !lit, colour = theme.group(line.group);
      const z = lit ? 1000 : data.groups.length - line.group + 2;
      const main = {type: "line", data: line.points.map(point => point.slice(0, 2)), silent: true, z, showSymbol: line.points.length === 1, symbolSize: 6,
        lineStyle: {color: colour, width: lit ? 3.2 : line.split === held ? 1.8 : 1.2, type: line.split && line.split !== held ? "dashed" : "solid", opacity: pale ? 0.12 : 1},
        itemStyle: {color: colour, opacity: pale ? 0.12 : 1}};
      if (!line.band || pale || line.points.length < 2) return [main];
      const edge = sign => line.points.map(([x, y, spread]) => [x, Math.max(y + sign * spread, log ? low : -Infinity)]);
      const outline = [...edge(1), ...edge(-1).reverse()];
      return [{type: "custom", silent: true, clip: true, z: 1, data: [line.points[0].slice(0, 2)], renderItem: (_, api) => ({
        type: "polygon", shape: {points: outline.map(point => api.coord(point))}, style: {fill: colour, opacity: lit ? 0.3 : 0.14}})}, main];
    });
    one.chart.setOption({
      animation: false, grid: {left: 58, right: 14, top: 12, bottom: 44},
      xAxis: Charts.axis(theme, {type: "value", name: "epoch", nameGap: 26, min: one.drawn.some(line => line.points.length > 1) ? 1 : 0, max: "dataMax", minInterval: 1, splitLine: {show: false}}),
      yAxis: Charts.axis(theme, {type: log ? "log" : "value", name: `${names[one.metric]}${unit}`, nameGap: 42, min: log ? low : range?.[0], max: range?.[1]}),
      series,
    }, {replaceMerge: ["series", "xAxis", "yAxis"]});
  }
  function draw() {
    const theme = Report.theme();
    plots.forEach(one => drawOne(one, theme));
    const drawn = groupsDrawn().length;
    note.textContent = drawn < data.groups.length ? `Drawn are ${drawn} of ${data.groups.length} groups: the best, the worst, some in between, and what is selected.` : "";
    press();
  }
  draw();
  return draw;
});
