"use strict";
/* Parallel coordinates: one line per run through its settings and its accuracy; brushing an axis selects runs. */
Charts.register("parallel", element => {
  const {data, make} = Report;
  const MAX_AXES = 10, measure = data.ranked_by;
  const done = data.runs.filter(run => Number.isFinite(run.measures[measure]));
  const keys = Object.keys(data.settings).filter(key => key !== "seed" && new Set(done.map(run => String(run.settings[key]))).size > 1).slice(0, MAX_AXES);
  const axes = [...keys.map(key => ({name: data.settings[key], of: run => run.settings[key]})),
    {name: data.measures[measure], of: run => run.measures[measure], measured: true}];
  let range, shown;
  const content = make("div", {style: `min-width: ${80 * axes.length}px`});
  element.append(make("div", {class: "wide", tabindex: "0", role: "region", "aria-label": element.dataset.label}, content));
  const plot = Charts.plot(content, element.dataset.label, 440);
  const fraction = run => (Charts.clamp(run.measures[measure], range) - range[0]) / (range[1] - range[0] || 1);
  let brushing = false;

  function draw() {
    if (brushing) return;
    const theme = Report.theme(), hasSelection = Report.selection().length > 0;
    shown = done.filter(run => Report.isShown(run.id));
    range = Charts.range(shown.map(run => run.measures[measure]), measure) ?? [0, 1];
    const mix = fraction => echarts.color.lerp(fraction, [theme.grey, theme.group(0)]);
    plot.chart.setOption({
      animation: false,
      parallel: {left: 60, right: 70, top: 44, bottom: 24, parallelAxisDefault: {z: 10, nameTextStyle: {color: theme.fg, fontSize: 12}, nameTruncate: {maxWidth: Math.min(150, plot.canvas.clientWidth / axes.length), ellipsis: "…"},
        axisLine: {lineStyle: {color: theme.muted}}, axisTick: {lineStyle: {color: theme.muted}}, axisLabel: {color: theme.fg, fontSize: 11, textBorderColor: theme.bg, textBorderWidth: 3, formatter: Charts.number},
        areaSelectStyle: {width: 22, borderColor: theme.accent, color: theme.accent, opacity: 0.25}}},
      parallelAxis: axes.map((axis, dim) => {
        const values = done.map(axis.of);
        if (axis.measured) return {dim, name: axis.name, type: "value", min: range[0], max: range[1], axisLabel: {showMinLabel: false, showMaxLabel: false}};
        if (values.every(value => typeof value === "number")) return {dim, name: axis.name, type: Charts.needsLog(values) ? "log" : "value", scale: true};
        const names = [...new Set(values.map(String))].sort((a, b) => a.localeCompare(b, "en", {numeric: true}));
        return {dim, name: axis.name, type: "category", data: names, axisLabel: {formatter: name => name.length > 12 ? `${name.slice(0, 11)}…` : name}};
      }),
      series: {type: "parallel", smooth: false, inactiveOpacity: 0.05, activeOpacity: 0.9, data: shown.map(run => {
        const isSelected = Report.isSelected(run.id);
        return {value: axes.map(axis => axis.measured ? Charts.clamp(axis.of(run), range) : typeof axis.of(run) === "number" ? axis.of(run) : String(axis.of(run))), name: run.name,
          lineStyle: {color: isSelected ? theme.group(1) : mix(fraction(run)), width: isSelected ? 3 : 1.4, opacity: hasSelection && !isSelected ? 0.08 : isSelected ? 1 : 0.35 + 0.5 * fraction(run)}};
      })},
    }, {replaceMerge: ["series"]});
  }
  const showTip = (event, run) => plot.show([event.event.offsetX, event.event.offsetY], run.name, axes.map(axis => `${axis.name}: ${Charts.number(axis.of(run))}`));
  plot.chart.on("mouseover", {seriesType: "parallel"}, event => showTip(event, shown[event.dataIndex]));
  plot.chart.on("mouseout", {seriesType: "parallel"}, plot.hide);
  plot.chart.on("click", {seriesType: "parallel"}, event => Report.pick([shown[event.dataIndex].id], event.event.event));
  plot.chart.on("axisareaselected", () => {
    const series = plot.chart.getModel().getSeriesByIndex(0);
    const brushed = shown.length > series.getRawIndicesByActiveState("normal").length;
    brushing = true; // a redraw would clear the brush
    Report.select(brushed ? series.getRawIndicesByActiveState("active").map(index => shown[index].id) : []);
    brushing = false;
  });
  draw();
  return draw;
});
