"use strict";
/* Scatter plot of the runs: any metric or setting against any other. */
Charts.register("scatter", element => {
  const {data, make} = Report;
  const axes = {...data.measures, ...Object.fromEntries(Object.entries(data.settings).map(([key, name]) => [`=${key}`, name])), order: "start order"};
  const valueOf = (run, key) => key === "order" ? run.order + 1 : key.startsWith("=") ? run.settings[key.slice(1)] : run.measures[key];
  const state = {x: "fit_seconds", y: data.ranked_by, logs: {}, robust: true};
  const isNumeric = key => data.runs.every(run => [undefined, null, "-"].includes(valueOf(run, key)) || typeof valueOf(run, key) === "number");
  const values = key => Report.runs().map(run => valueOf(run, key));
  const needsLog = key => isNumeric(key) && Charts.needsLog(values(key));
  const update = (side, value) => {
    state[side] = value;
    logs[side].querySelector("input").checked = state.logs[side] = needsLog(value);
    draw();
  };
  const logs = Object.fromEntries(["x", "y"].map(side => [side, Charts.check(`${side} logarithmic`, needsLog(state[side]), on => { state.logs[side] = on; draw(); })]));
  state.logs = {x: needsLog(state.x), y: needsLog(state.y)};
  element.append(make("div", {class: "controls"}, Charts.choice("x", axes, state.x, value => update("x", value)), logs.x,
    Charts.choice("y", axes, state.y, value => update("y", value)), logs.y,
    Charts.check("full range", false, on => { state.robust = !on; draw(); })));
  if (data.groups.length <= 10) Charts.legend(element);
  const plot = Charts.plot(element, element.dataset.label);
  let dots = [];
  Charts.respond(plot, () => dots, dot => [dot.run.name, [state.x, state.y].map(key => `${axes[key]}: ${Charts.number(valueOf(dot.run, key))}`)], dot => [dot.run.id]);

  /* Positions along an axis: numbers unchanged, categories at integers with jitter. */
  function side(key, log) {
    const known = values(key).filter(value => value !== undefined && value !== null && value !== "-");
    if (isNumeric(key)) {
      const range = log ? null : Charts.range(known, key, state.robust && !key.startsWith("="));
      return {position: run => typeof valueOf(run, key) === "number" && !(log && valueOf(run, key) <= 0) ? valueOf(run, key) : null, range,
        axis: (theme, options) => Charts.axis(theme, {...options, type: log ? "log" : "value", min: range?.[0], max: range?.[1], scale: true})};
    }
    const names = [...new Set(known.map(String))].sort((a, b) => a.localeCompare(b, "en", {isNumeric: true}));
    const position = run => names.indexOf(String(valueOf(run, key))) + ((run.id * 0.618) % 1 - 0.5) * 0.35;
    return {position, range: null, axis: (theme, options) => Charts.names(theme, names, options)};
  }
  function draw() {
    const theme = Report.theme();
    const x = side(state.x, state.logs.x), y = side(state.y, state.logs.y);
    dots = Report.runs().flatMap(run => {
      const point = [x.position(run), y.position(run)];
      return point.some(value => value === null || !Number.isFinite(value)) || (valueOf(run, state.x) ?? valueOf(run, state.y)) === undefined ? []
        : [{run, x: Charts.clamp(point[0], x.range), y: Charts.clamp(point[1], y.range), low: y.range && point[1] < y.range[0], high: y.range && point[1] > y.range[1]}];
    });
    const hasOutliers = dots.some(dot => dot.low || dot.high);
    const series = {type: "scatter", silent: true, clip: false, data: dots.map(dot =>
      Charts.dot(theme, dot, theme.group(dot.run.group), data.groups[dot.run.group].best ? 12 : 9, Report.symbol(dot.run.group)))};
    plot.chart.setOption({
      animation: false, grid: {left: isNumeric(state.y) ? 66 : 120, right: 20, top: 14, bottom: 48},
      xAxis: x.axis(theme, {name: axes[state.x], nameGap: 28}),
      yAxis: y.axis(theme, {name: axes[state.y] + (hasOutliers ? "; triangles: out of range" : ""), nameGap: isNumeric(state.y) ? 50 : 100}), series,
    }, {replaceMerge: ["series", "xAxis", "yAxis"]});
  }
  draw();
  return draw;
});
