// The tables: the same text on the terminal and in RESULTS.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';

const resultsFile = new URL('RESULTS.md', import.meta.url);

const microseconds = (nanoseconds) => {
  const us = nanoseconds / 1000;
  return us.toFixed(us < 100 ? 1 : 0);
};
const spread = (fact, show) => (fact ? `${show(fact.median)} (${show(fact.q1)}–${show(fact.q3)})` : '');
const time = (fact) => spread(fact, microseconds);
const times = (fact) => spread(fact, (value) => `${value.toFixed(2)}x`);
const fasterThan = (fact) => (fact ? `${(1 / fact.median).toFixed(0)}x` : '');
const verdict = ({ text, met }) => `${text}: ${met ? 'met' : 'MISSED'}`;

function table(head, rows) {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i].length)));
  const line = (cells) => `| ${cells.map((cell, i) => cell.padEnd(widths[i])).join(' | ')} |`;
  return [line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)].join(
    '\n',
  );
}

function mountTable(rows) {
  return table(
    [
      'mount + unmount',
      'on',
      'ours, µs',
      'raw twin, µs',
      '÷ raw',
      '÷ mount(2)',
      'as fast as mount(8)',
      'target',
    ],
    rows.map(({ name, on, nanoseconds, ratios, targets }) => [
      name,
      on,
      time(nanoseconds.ours),
      time(nanoseconds.raw),
      times(ratios.raw),
      times(ratios.mount),
      fasterThan(ratios.spawn),
      targets.map(verdict).join('; '),
    ]),
  );
}

function fixedTable(rows) {
  return table(
    ['fixed cost', 'µs', 'beside', 'ratio'],
    rows.map((row) => [row.name, time(row), row.beside ?? '', times(row.ratio)]),
  );
}

function inFlightTable(tables) {
  return table(
    ['fs.promises.stat', 'unmounts on', 'median, µs', 'p99, µs', '÷ idle', 'samples', 'target'],
    tables.flatMap(({ on, rows }) =>
      rows.map(({ name, median, p99, count, targets }) => [
        name,
        on,
        microseconds(median),
        microseconds(p99),
        `${(median / rows[0].median).toFixed(2)}x`,
        String(count),
        targets.map(verdict).join('; '),
      ]),
    ),
  );
}

function inspectionTable(rows) {
  return table(
    ['inspection and command line', 'ours, µs', 'beside', 'beside, µs', 'ratio', 'target'],
    rows.map(({ name, ours, besideName, beside, ratio, targets }) => [
      name,
      time(ours),
      besideName,
      time(beside),
      times(ratio),
      targets.map(verdict).join('; '),
    ]),
  );
}

function machine() {
  const [{ model }] = cpus();
  const memory = Math.round(totalmem() / 1024 ** 3);
  const kernel = release().split('-')[0];
  const load = loadavg()[1].toFixed(1);
  return `${model}, ${cpus().length} cores, ${memory} GiB; Linux ${kernel}; Node ${process.version}. Load average over the last five minutes: ${load}.`;
}

/** Everything that was measured, as text. */
export function printed({ rows, fixed, inFlight, inspections }) {
  return [
    machine(),
    ...(rows.length > 0 ? [mountTable(rows)] : []),
    ...(fixed.length > 0 ? [fixedTable(fixed)] : []),
    ...(inFlight.length > 0 ? [inFlightTable(inFlight)] : []),
    ...(inspections.length > 0 ? [inspectionTable(inspections)] : []),
  ].join('\n\n');
}

/** Puts it between the marks in RESULTS.md. */
export function writeResults(results, calls) {
  let text = readFileSync(resultsFile, 'utf8');
  for (const [mark, content] of Object.entries({ measured: printed(results), calls })) {
    text = text.replace(
      new RegExp(`(<!-- ${mark} -->\n)[^]*?(<!-- /${mark} -->)`),
      (_, begin, end) => `${begin}${content}\n${end}`,
    );
  }
  writeFileSync(resultsFile, text);
}
