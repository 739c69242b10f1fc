"use strict";
// The data of the image browser: predictions of each run, or group of runs, for the images included in the page.
// A choice is {key, label, rows}: rows are indices of its runs in the packed arrays, one for a run, several for a group.

const digitModel = (() => {
  async function unpack(text, ArrayType) {
    const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new ArrayType(await new Response(stream).arrayBuffer());
  }

  /** Groups of several runs, followed by all runs. */
  function choices(data) {
    const row = new Map(data.runs.map((id, index) => [id, index]));
    const runs = data.runs.map(id => Report.data.runs[id]);
    const groups = Report.data.groups.map((group, index) => ({
      key: `group ${index}`, label: group.name || "all seeds",
      rows: runs.filter(run => run.group === index).map(run => row.get(run.id)),
    })).filter(choice => choice.rows.length > 1);
    return [...groups, ...runs.map(run => ({key: `run ${run.id}`, label: run.name, rows: [row.get(run.id)]}))];
  }

  async function load() {
    const block = document.getElementById("digits-data"), data = block && JSON.parse(block.textContent);
    if (!data) return null;
    const [predicted, matrices, probabilities] = await Promise.all([
      unpack(data.predicted, Uint8Array), unpack(data.matrices, Uint16Array), unpack(data.probabilities, Uint8Array),
    ]);
    const imageCount = data.indices.length, names = data.classes, classCount = names.length;
    const certain = new Map(data.certain.map((row, index) => [row, index]));
    const truth = index => data.truth[index];

    /** The number of runs that predict each class. */
    function votes(choice, index) {
      const counts = new Array(classCount).fill(0);
      for (const row of choice.rows) counts[predicted[row * imageCount + index]]++;
      return counts;
    }

    /** Mean probability of each class over the runs with probabilities: {values, runs}; null without any. */
    function probability(choice, index) {
      const rows = choice.rows.filter(row => certain.has(row));
      if (!rows.length) return null;
      const start = row => (certain.get(row) * imageCount + index) * classCount;
      const values = Array.from({length: classCount}, (_, label) =>
        rows.reduce((sum, row) => sum + probabilities[start(row) + label], 0) / (255 * rows.length));
      return {values, runs: rows.length};
    }

    /** The class that most runs predict; ties are broken by mean probability. */
    function prediction(choice, index) {
      const counts = votes(choice, index), likely = probability(choice, index)?.values || counts;
      return counts.reduce((best, count, label) =>
        count > counts[best] || (count === counts[best] && likely[label] > likely[best]) ? label : best, 0);
    }

    /** The flattened confusion matrix, mean over the runs. */
    function matrix(choice) {
      return Array.from({length: classCount ** 2}, (_, cell) =>
        choice.rows.reduce((sum, row) => sum + matrices[row * classCount ** 2 + cell], 0) / choice.rows.length);
    }

    const all = Array.from({length: imageCount}, (_, index) => index);
    const share = (choice, index, label) => votes(choice, index)[label] / choice.rows.length;
    const confidence = (choice, index, label) => share(choice, index, label) + (probability(choice, index)?.values[label] || 0);

    function sortByWeight(indices, weight) {
      const weights = new Map(indices.map(index => [index, weight(index)]));
      return indices.sort((a, b) => weights.get(b) - weights.get(a));
    }

    /** The images of a cell: mistakes with the most confident first, correct predictions with the least confident first. */
    function cell(choice, trueLabel, predictedLabel) {
      const sign = trueLabel === predictedLabel ? -1 : 1;
      const indices = all.filter(index => truth(index) === trueLabel && votes(choice, index)[predictedLabel]);
      return sortByWeight(indices, index => sign * confidence(choice, index, predictedLabel));
    }

    /** The images that the two choices assign to a cell in different fractions of their runs. */
    function difference(first, second, trueLabel, predictedLabel) {
      const gap = index => Math.abs(share(first, index, predictedLabel) - share(second, index, predictedLabel));
      return sortByWeight(all.filter(index => truth(index) === trueLabel && gap(index) > 0), gap);
    }

    /** Images with different majority predictions: correct only in the first choice, only in the second, or in neither. */
    function flips(first, second) {
      const flipped = {onlyFirst: [], onlySecond: [], neither: []};
      for (const index of all) {
        const labels = [prediction(first, index), prediction(second, index)];
        if (labels[0] === labels[1]) continue;
        const correct = labels.map(label => label === truth(index));
        flipped[correct[0] ? "onlyFirst" : correct[1] ? "onlySecond" : "neither"].push(index);
      }
      const gap = index => share(first, index, truth(index)) - share(second, index, truth(index));
      return {onlyFirst: sortByWeight(flipped.onlyFirst, gap), onlySecond: sortByWeight(flipped.onlySecond, index => -gap(index)), neither: flipped.neither};
    }

    return {data, names, choices: choices(data), truth, votes, probability, prediction, matrix, cell, difference, flips,
      imageNumber: index => data.indices[index]};
  }

  return {load};
})();
