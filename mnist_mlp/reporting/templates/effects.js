"use strict";
/* Main effects: one panel per factor and dataset with the runs at each level, on a shared scale per dataset. */
Charts.register("effects", element => {
  const {data, make} = Report;
  const MAX_LEVELS = 12;
  const described = JSON.parse(document.getElementById("effects-data").textContent).panels, measure = data.ranked_by;
  const done = data.runs.filter(run => Number.isFinite(run.measures[measure]));
  const box = make("div", {class: "panels"});
  element.append(box);
  const panels = described.map(({key, name, runs: ids, means}) => {
    const runs = done.filter(run => ids.includes(run.id)), values = runs.map(run => run.settings[key]), levels = [...new Set(values)];
    const isNumber = values.every(value => typeof value === "number");
    levels.sort((a, b) => isNumber ? a - b : String(a).localeCompare(String(b), "en", {numeric: true}));
    const panel = {key, name, runs, means, values, levels, continuous: isNumber && levels.length > MAX_LEVELS, dots: [], ...Charts.plot(box, `${name}: ${element.dataset.label}`)};
    Charts.respond(panel, () => panel.dots, dot => [dot.run.name, [`${data.measures[measure]}: ${Charts.number(dot.run.measures[measure])}`, `${name}: ${Charts.number(dot.run.settings[key])}`]], dot => [dot.run.id]);
    return panel;
  });

  function drawPanel(panel, theme) {
    const runs = panel.runs.filter(run => Report.isShown(run.id));
    panel.range = Charts.range(runs.map(run => run.measures[measure]), measure) ?? [0, 1];
    panel.dots = runs.map(run => {
      const value = run.settings[panel.key], measured = run.measures[measure];
      const x = panel.continuous ? value : panel.levels.indexOf(value) - 0.12 + ((run.id * 0.618) % 1 - 0.5) * 0.2;
      return {run, x, y: Charts.clamp(measured, panel.range), low: measured < panel.range[0]};
    });
    const known = (panel.continuous ? [] : panel.levels).flatMap((level, position) => {
      const all = panel.runs.filter(run => run.settings[panel.key] === level), mean = panel.means.find(pair => pair[0] === level)?.[1];
      const isKnown = Number.isFinite(mean) && all.every(run => runs.includes(run)); // the mean is over all runs, so not next to some of them
      return isKnown ? [[position + 0.16, mean, Charts.moments(all.map(run => run.measures[measure]))[1]]] : [];
    });
    const centers = known.filter(point => point[1] >= panel.range[0]), below = known.filter(point => point[1] < panel.range[0]);
    const crowded = panel.levels.map(String).join("").length > 34, axisOptions = {name: panel.name, nameGap: crowded ? 48 : 26};
    panel.chart.setOption({
      animation: false, grid: {left: 56, right: 12, top: 12, bottom: crowded ? 66 : 44},
      xAxis: panel.continuous ? Charts.axis(theme, {...axisOptions, type: Charts.needsLog(panel.values) ? "log" : "value", scale: true, splitLine: {show: false}})
        : Charts.names(theme, panel.levels, axisOptions),
      yAxis: Charts.axis(theme, {type: "value", name: data.measures[measure], nameGap: 42, min: panel.range[0], max: panel.range[1]}),
      series: [
        {type: "scatter", silent: true, clip: false, data: panel.dots.map(dot => Charts.dot(theme, dot, theme.group(dot.low ? 1 : 0), 7))},
        {type: "scatter", silent: true, clip: false, z: 5, symbol: "diamond", symbolSize: 11, data: below.map(point => [point[0], panel.range[0]]),
          itemStyle: {color: "transparent", borderColor: theme.fg, borderWidth: 1.4}, label: {show: true, position: "top", color: theme.fg, formatter: item => below[item.dataIndex][1].toFixed(1)}},
        {type: "line", silent: true, data: centers.map(point => point.slice(0, 2)), symbol: "diamond", symbolSize: 11, itemStyle: {color: theme.fg},
          lineStyle: {color: theme.muted, width: panel.levels.every(level => typeof level === "number") ? 1 : 0}, z: 5},
        {type: "custom", silent: true, clip: true, z: 4, data: centers, renderItem: (_, api) => {
          const [x, mean, spread] = [api.value(0), api.value(1), api.value(2)], top = api.coord([x, mean + spread]), bottom = api.coord([x, mean - spread]);
          return {type: "line", shape: {x1: top[0], y1: top[1], x2: bottom[0], y2: bottom[1]}, style: {stroke: theme.fg, lineWidth: 1.4}};
        }},
      ],
    }, {replaceMerge: ["series", "xAxis", "yAxis"]});
  }
  const draw = () => { const theme = Report.theme(); panels.forEach(panel => drawPanel(panel, theme)); };
  draw();
  return draw;
});
