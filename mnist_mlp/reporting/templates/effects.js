"use strict";
/* Runs at each level of each factor, a panel each, on one scale. */
Charts.register("effects", element => {
  const {data, make} = Report;
  const MOST_LEVELS = 12;
  const means = JSON.parse(document.getElementById("effects-data").textContent).means, measure = data.ranked_by;
  const done = data.runs.filter(run => Number.isFinite(run.measures[measure]));
  const keys = Object.keys(means);
  const range = Charts.range(done.map(run => run.measures[measure]), measure);
  const box = make("div", {class: "panels"});
  element.append(box);
  const panels = keys.map(key => {
    const name = data.settings[key], values = done.map(run => run.settings[key]), levels = [...new Set(values)];
    const isNumber = values.every(value => typeof value === "number");
    levels.sort((one, other) => isNumber ? one - other : String(one).localeCompare(String(other), "en", {numeric: true}));
    const one = {key, name, values, levels, continuous: isNumber && levels.length > MOST_LEVELS, dots: [], ...Charts.plot(box, `${name}: ${element.dataset.label}`)};
    Charts.respond(one, () => one.dots, found => [found.run.name, [`${data.measures[measure]}: ${Charts.number(found.run.measures[measure])}`, `${name}: ${Charts.number(found.run.settings[key])}`]], found => [found.run.id]);
    return one;
  });

  function deviation(numbers) {
    const middle = numbers.reduce((one, other) => one + other, 0) / numbers.length;
    const square = numbers.reduce((one, other) => one + (other - middle) ** 2, 0);
    return numbers.length > 1 ? Math.sqrt(square / (numbers.length - 1)) : 0;
  }
  function drawOne(one, theme) {
    const chosen = Report.selection().length;
    one.dots = done.map(run => {
      const value = run.settings[one.key], own = run.measures[measure];
      const x = one.continuous ? value : one.levels.indexOf(value) - 0.12 + ((run.id * 0.618) % 1 - 0.5) * 0.2;
      return {run, x, y: Math.min(Math.max(own, range[0]), range[1]), low: own < range[0]};
    });
    const learnt = level => done.filter(run => run.settings[one.key] === level && run.measures[measure] >= range[0]).map(run => run.measures[measure]);
    const centres = one.continuous ? [] : one.levels.map((level, place) => [place + 0.16, means[one.key].find(pair => pair[0] === level)?.[1], deviation(learnt(level))]).filter(point => point[1] >= range[0]);
    const crowded = one.levels.map(String).join("").length > 34, named = {name: one.name, nameGap: crowded ? 48 : 26};
    one.chart.setOption({
      animation: false, grid: {left: 56, right: 12, top: 12, bottom: crowded ? 66 : 44},
      xAxis: one.continuous ? Charts.axis(theme, {...named, type: Charts.isWide(one.values) ? "log" : "value", scale: true, splitLine: {show: false}})
        : Charts.names(theme, one.levels, named),
      yAxis: Charts.axis(theme, {type: "value", name: data.measures[measure], nameGap: 42, min: range[0], max: range[1]}),
      series: [
        {type: "scatter", silent: true, clip: false, data: one.dots.map(dot => {
          const lit = Report.isSelected(dot.run.id);
          return {value: [dot.x, dot.y], symbol: dot.low ? "triangle" : "circle", symbolRotate: dot.low ? 180 : 0, symbolSize: lit ? 12 : 7,
            itemStyle: {color: dot.low ? theme.group(1) : theme.group(0), opacity: chosen && !lit ? 0.12 : 0.7, borderColor: lit ? theme.fg : undefined, borderWidth: lit ? 1.5 : undefined}};
        })},
        {type: "line", silent: true, data: centres.map(point => point.slice(0, 2)), symbol: "diamond", symbolSize: 11, itemStyle: {color: theme.fg},
          lineStyle: {color: theme.muted, width: one.levels.every(level => typeof level === "number") ? 1 : 0}, z: 5},
        {type: "custom", silent: true, clip: true, z: 4, data: centres, renderItem: (_, api) => {
          const [x, middle, spread] = [api.value(0), api.value(1), api.value(2)], top = api.coord([x, middle + spread]), end = api.coord([x, middle - spread]);
          return {type: "line", shape: {x1: top[0], y1: top[1], x2: end[0], y2: end[1]}, style: {stroke: theme.fg, lineWidth: 1.4}};
        }},
      ],
    }, {replaceMerge: ["series", "xAxis", "yAxis"]});
  }
  const draw = () => { const theme = Report.theme(); panels.forEach(one => drawOne(one, theme)); };
  draw();
  return draw;
});
