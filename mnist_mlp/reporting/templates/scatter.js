"use strict";
/* A dot per run: any measure or setting against any other. */
Charts.register("scatter", element => {
  const {data, make} = Report;
  const axes = {...data.measures, ...Object.fromEntries(Object.entries(data.settings).map(([key, name]) => [`=${key}`, name])), order: "order of start"};
  const of = (run, key) => key === "order" ? run.order + 1 : key.startsWith("=") ? run.settings[key.slice(1)] : run.measures[key];
  const state = {x: "fit_seconds", y: data.ranked_by, logs: {}, robust: true};
  const numeric = key => data.runs.every(run => [undefined, null, "-"].includes(of(run, key)) || typeof of(run, key) === "number");
  const values = key => data.runs.map(run => of(run, key));
  const wide = key => numeric(key) && Charts.isWide(values(key));
  const update = (side, value) => {
    state[side] = value;
    logs[side].querySelector("input").checked = state.logs[side] = wide(value);
    draw();
  };
  const logs = Object.fromEntries(["x", "y"].map(side => [side, Charts.check(`${side} logarithmic`, wide(state[side]), on => { state.logs[side] = on; draw(); })]));
  state.logs = {x: wide(state.x), y: wide(state.y)};
  element.append(make("div", {class: "controls"}, Charts.choice("x", axes, state.x, value => update("x", value)), logs.x,
    Charts.choice("y", axes, state.y, value => update("y", value)), logs.y,
    Charts.check("whole range", false, on => { state.robust = !on; draw(); })));
  const press = data.groups.length <= 10 ? Charts.legend(element) : () => {};
  const one = Charts.plot(element, element.dataset.label);
  let dots = [];
  Charts.respond(one, () => dots, found => [found.run.name, [state.x, state.y].map(key => `${axes[key]}: ${Charts.number(of(found.run, key))}`)], found => [found.run.id]);

  /* Positions along an axis: numbers as they are, names in a row with the runs of one name spread a little. */
  function side(key, log) {
    const isNumber = numeric(key), known = values(key).filter(value => value !== undefined && value !== null && value !== "-");
    if (isNumber) {
      const range = log ? null : Charts.range(known, key, state.robust && !key.startsWith("="));
      return {place: run => typeof of(run, key) === "number" && !(log && of(run, key) <= 0) ? of(run, key) : null, range,
        axis: (theme, named) => Charts.axis(theme, {...named, type: log ? "log" : "value", min: range?.[0], max: range?.[1], scale: true})};
    }
    const names = [...new Set(known.map(String))].sort((first, second) => first.localeCompare(second, "en", {numeric: true}));
    const place = run => names.indexOf(String(of(run, key))) + ((run.id * 0.618) % 1 - 0.5) * 0.35;
    return {place, range: null, axis: (theme, named) => Charts.names(theme, names, named)};
  }
  function draw() {
    const theme = Report.theme(), chosen = Report.selection().length;
    const x = side(state.x, state.logs.x), y = side(state.y, state.logs.y);
    const inside = (value, range) => range ? Math.min(Math.max(value, range[0]), range[1]) : value;
    dots = data.runs.flatMap(run => {
      const own = [x.place(run), y.place(run)];
      return own.some(value => value === null || !Number.isFinite(value)) || (of(run, state.x) ?? of(run, state.y)) === undefined ? []
        : [{run, x: inside(own[0], x.range), y: inside(own[1], y.range), low: y.range && own[1] < y.range[0], high: y.range && own[1] > y.range[1]}];
    });
    const outside = dots.some(dot => dot.low || dot.high);
    const series = {type: "scatter", silent: true, clip: false, data: dots.map(dot => {
      const lit = Report.isSelected(dot.run.id), best = data.groups[dot.run.group].best;
      return {value: [dot.x, dot.y], symbol: dot.low || dot.high ? "triangle" : Report.symbol(dot.run.group), symbolRotate: dot.low ? 180 : 0,
        symbolSize: lit ? 15 : best ? 12 : 9, itemStyle: {color: theme.group(dot.run.group), opacity: chosen && !lit ? 0.15 : 0.85, borderColor: lit ? theme.fg : undefined, borderWidth: lit ? 1.5 : undefined}};
    })};
    one.chart.setOption({
      animation: false, grid: {left: numeric(state.y) ? 66 : 120, right: 20, top: 14, bottom: 48},
      xAxis: x.axis(theme, {name: axes[state.x], nameGap: 28}),
      yAxis: y.axis(theme, {name: axes[state.y] + (outside ? "; triangles lie outside" : ""), nameGap: numeric(state.y) ? 50 : 100}), series,
    }, {replaceMerge: ["series", "xAxis", "yAxis"]});
    press();
  }
  draw();
  return draw;
});
