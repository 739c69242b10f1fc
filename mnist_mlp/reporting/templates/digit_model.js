"use strict";
// What the digit browser knows: the runs of the page, and what each of them, or a group of them, made of the digits.
// A choice is {key, label, rows}: rows are the places of its runs in the packed arrays, one for a run, several for a group.

const digitModel = (() => {
  const CLASSES = 10;

  async function unpack(text, Kind) {
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Kind(await new Response(stream).arrayBuffer());
  }

  function json(id) {
    const block = document.getElementById(id);
    return block ? JSON.parse(block.textContent) : null;
  }

  /** Groups of several runs first, then every run; ids of runs and their names come from runs-data. */
  function choices(data) {
    const known = json("runs-data") || {runs: [], groups: []};
    const row = new Map(data.runs.map((id, place) => [id, place]));
    const runs = data.runs.map(id => known.runs.find(run => run.id === id) || {id, name: `run ${id}`, group: null});
    const found = known.groups.map((group, place) => ({
      key: `group ${place}`, label: group.name || "all seeds",
      rows: runs.filter(run => run.group === place).map(run => row.get(run.id)),
    })).filter(choice => choice.rows.length > 1);
    return [...found, ...runs.map(run => ({key: `run ${run.id}`, label: run.name, rows: [row.get(run.id)]}))];
  }

  async function load() {
    const data = json("digits-data");
    if (!data) return null;
    const [predicted, matrices, probabilities] = await Promise.all([
      unpack(data.predicted, Uint8Array), unpack(data.matrices, Uint16Array), unpack(data.probabilities, Uint8Array),
    ]);
    const held = data.places.length;
    const certain = new Map(data.certain.map((row, place) => [row, place]));
    const truth = place => Number(data.truth[place]);

    /** How many of the runs say each digit. */
    function votes(choice, place) {
      const counts = new Array(CLASSES).fill(0);
      for (const row of choice.rows) counts[predicted[row * held + place]]++;
      return counts;
    }

    /** Mean probability of each digit, over the runs that have some: {values, of}; null where none has. */
    function probability(choice, place) {
      const rows = choice.rows.filter(row => certain.has(row));
      if (!rows.length) return null;
      const start = row => (certain.get(row) * held + place) * CLASSES;
      const values = Array.from({length: CLASSES}, (_, digit) =>
        rows.reduce((sum, row) => sum + probabilities[start(row) + digit], 0) / (255 * rows.length));
      return {values, of: rows.length};
    }

    /** The digit that most runs say; of equals the likelier. */
    function answer(choice, place) {
      const counts = votes(choice, place), likely = probability(choice, place)?.values || counts;
      return counts.reduce((best, count, digit) =>
        count > counts[best] || (count === counts[best] && likely[digit] > likely[best]) ? digit : best, 0);
    }

    /** Ten by ten counts in one row, their mean over the runs. */
    function matrix(choice) {
      return Array.from({length: CLASSES * CLASSES}, (_, cell) =>
        choice.rows.reduce((sum, row) => sum + matrices[row * CLASSES * CLASSES + cell], 0) / choice.rows.length);
    }

    const all = Array.from({length: held}, (_, place) => place);
    const part = (choice, place, digit) => votes(choice, place)[digit] / choice.rows.length;
    const surely = (choice, place, digit) => part(choice, place, digit) + (probability(choice, place)?.values[digit] || 0);

    function sorted(places, weight) {
      const weights = new Map(places.map(place => [place, weight(place)]));
      return places.sort((one, other) => weights.get(other) - weights.get(one));
    }

    /** The digits of a cell: mistakes from the most certain on, right ones from the least certain on. */
    function cell(choice, true_digit, said) {
      const sign = true_digit === said ? -1 : 1;
      const places = all.filter(place => truth(place) === true_digit && votes(choice, place)[said]);
      return sorted(places, place => sign * surely(choice, place, said));
    }

    /** The digits of a cell that one of two choices counts there, and the other does not or in fewer runs. */
    function difference(first, second, true_digit, said) {
      const gap = place => Math.abs(part(first, place, said) - part(second, place, said));
      return sorted(all.filter(place => truth(place) === true_digit && gap(place) > 0), gap);
    }

    /** The digits that one choice has right and the other wrong, as most of their runs say; and those wrong in two ways. */
    function flips(first, second) {
      const found = {lost: [], gained: [], other: []};
      for (const place of all) {
        const says = [answer(first, place), answer(second, place)];
        if (says[0] === says[1]) continue;
        const right = says.map(digit => digit === truth(place));
        found[right[0] ? "lost" : right[1] ? "gained" : "other"].push(place);
      }
      const gap = place => part(first, place, truth(place)) - part(second, place, truth(place));
      return {lost: sorted(found.lost, gap), gained: sorted(found.gained, place => -gap(place)), other: found.other};
    }

    return {data, choices: choices(data), truth, votes, probability, answer, matrix, cell, difference, flips,
      place: number => data.places[number]};
  }

  return {load};
})();
