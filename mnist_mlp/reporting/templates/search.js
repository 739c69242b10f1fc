"use strict";
/* Search progress: each trial in the order of their starts, and the best so far. */
Charts.register("search", element => {
  const {data} = Report, measure = data.ranked_by;
  const done = JSON.parse(document.getElementById("search-data").textContent).order.map(run => data.runs[run]);
  const plot = Charts.plot(element, element.dataset.label, 320);
  let dots = [];
  Charts.respond(plot, () => dots, dot => [dot.run.name, [`trial ${dot.x}, ${data.measures[measure]}: ${Charts.number(dot.run.measures[measure])}`]], dot => [dot.run.id]);
  function draw() {
    const theme = Report.theme();
    const shown = done.filter(run => Report.isShown(run.id)), range = Charts.range(shown.map(run => run.measures[measure]), measure) ?? [0, 1];
    dots = shown.map(run => ({run, x: done.indexOf(run) + 1, y: Charts.clamp(run.measures[measure], range), low: run.measures[measure] < range[0]}));
    let best = -Infinity;
    const line = dots.map(dot => [dot.x, best = Math.max(best, dot.y)]);
    plot.chart.setOption({
      animation: false, grid: {left: 62, right: 16, top: 12, bottom: 44},
      xAxis: Charts.axis(theme, {type: "value", name: "trial", nameGap: 26, min: 0, max: done.length + 1, minInterval: 1, splitLine: {show: false}}),
      yAxis: Charts.axis(theme, {type: "value", name: data.measures[measure], nameGap: 46, min: range[0], max: range[1]}),
      series: [
        {type: "line", step: "end", silent: true, showSymbol: false, data: line, lineStyle: {color: theme.group(0), width: 2}},
        {type: "scatter", silent: true, clip: false, data: dots.map(dot => Charts.dot(theme, dot, dot.low ? theme.group(1) : theme.muted, 8))},
      ],
    }, {replaceMerge: ["series"]});
  }
  draw();
  return draw;
});
