"use strict";
/* Parallel coordinates: a line for each run through its settings and its accuracy; what is dragged over is selected. */
Charts.register("parallel", element => {
  const {data, make} = Report;
  const MOST_AXES = 10, measure = data.ranked_by;
  const done = data.runs.filter(run => Number.isFinite(run.measures[measure]));
  const keys = Object.keys(data.settings).filter(key => key !== "seed" && new Set(done.map(run => String(run.settings[key]))).size > 1).slice(0, MOST_AXES);
  const axes = [...keys.map(key => ({name: data.settings[key], of: run => run.settings[key]})),
    {name: data.measures[measure], of: run => run.measures[measure], measured: true}];
  const range = Charts.range(done.map(run => run.measures[measure]), measure);
  const wide = make("div", {style: `min-width: ${80 * axes.length}px`});
  element.append(make("div", {class: "wide", tabindex: "0", role: "region", "aria-label": element.dataset.label}, wide));
  const one = Charts.plot(wide, element.dataset.label, 440);
  const inside = value => Math.min(Math.max(value, range[0]), range[1]);
  const part = run => (inside(run.measures[measure]) - range[0]) / (range[1] - range[0] || 1);
  let brushing = false;

  function draw() {
    if (brushing) return;
    const theme = Report.theme(), chosen = Report.selection().length;
    const mix = share => echarts.color.lerp(share, [theme.grey, theme.group(0)]);
    one.chart.setOption({
      animation: false,
      parallel: {left: 60, right: 70, top: 44, bottom: 24, parallelAxisDefault: {z: 10, nameTextStyle: {color: theme.fg, fontSize: 12}, nameTruncate: {maxWidth: Math.min(150, one.canvas.clientWidth / axes.length), ellipsis: "…"},
        axisLine: {lineStyle: {color: theme.muted}}, axisTick: {lineStyle: {color: theme.muted}}, axisLabel: {color: theme.fg, fontSize: 11, textBorderColor: theme.bg, textBorderWidth: 3, formatter: Charts.number},
        areaSelectStyle: {width: 22, borderColor: theme.accent, color: theme.accent, opacity: 0.25}}},
      parallelAxis: axes.map((axis, dim) => {
        const values = done.map(axis.of);
        if (axis.measured) return {dim, name: axis.name, type: "value", min: range[0], max: range[1], axisLabel: {showMinLabel: false, showMaxLabel: false}};
        if (values.every(value => typeof value === "number")) return {dim, name: axis.name, type: Charts.isWide(values) ? "log" : "value", scale: true};
        const names = [...new Set(values.map(String))].sort((first, second) => first.localeCompare(second, "en", {numeric: true}));
        return {dim, name: axis.name, type: "category", data: names, axisLabel: {formatter: name => name.length > 12 ? `${name.slice(0, 11)}…` : name}};
      }),
      series: {type: "parallel", smooth: false, inactiveOpacity: 0.05, activeOpacity: 0.9, data: done.map(run => {
        const lit = Report.isSelected(run.id);
        return {value: axes.map(axis => axis.measured ? inside(axis.of(run)) : typeof axis.of(run) === "number" ? axis.of(run) : String(axis.of(run))), name: run.name,
          lineStyle: {color: lit ? theme.group(1) : mix(part(run)), width: lit ? 3 : 1.4, opacity: chosen && !lit ? 0.08 : lit ? 1 : 0.35 + 0.5 * part(run)}};
      })},
    }, {replaceMerge: ["series"]});
  }
  const tell = (event, found) => one.show([event.event.offsetX, event.event.offsetY], found.name, axes.map(axis => `${axis.name}: ${Charts.number(axis.of(found))}`));
  one.chart.on("mouseover", {seriesType: "parallel"}, event => tell(event, done[event.dataIndex]));
  one.chart.on("mouseout", {seriesType: "parallel"}, one.hide);
  one.chart.on("click", {seriesType: "parallel"}, event => Report.toggle([done[event.dataIndex].id]));
  one.chart.on("axisareaselected", () => {
    const series = one.chart.getModel().getSeriesByIndex(0);
    const brushed = done.length > series.getRawIndicesByActiveState("normal").length;
    brushing = true; // the chart shows its own choice, and drawing again would end it
    Report.select(brushed ? series.getRawIndicesByActiveState("active").map(place => done[place].id) : []);
    brushing = false;
  });
  draw();
  return draw;
});
