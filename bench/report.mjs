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
const times = (fact) => spread(fact, (value) => `${value < 0.1 ? value.toPrecision(2) : value.toFixed(2)}x`);
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

function memoryTable(rows) {
  return table(
    ['memory', 'peak before, MiB', 'growth, MiB', 'target'],
    rows.map(({ name, before, growth, targets }) => [
      name,
      before.toFixed(0),
      growth.toFixed(1),
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
export function printed({ rows, fixed, inFlight, inspections, memory }) {
  return [
    machine(),
    ...(rows.length > 0 ? [mountTable(rows)] : []),
    ...(fixed.length > 0 ? [fixedTable(fixed)] : []),
    ...(inFlight.length > 0 ? [inFlightTable(inFlight)] : []),
    ...(inspections.length > 0 ? [inspectionTable(inspections)] : []),
    ...(memory.length > 0 ? [memoryTable(memory)] : []),
  ].join('\n\n');
}

/** Puts it between the marks in RESULTS.md; of a run of some rows alone only those rows. */
export function writeResults(results, calls) {
  let text = readFileSync(resultsFile, 'utf8');
  const put = (mark, make) => {
    const between = new RegExp(`(<!-- ${mark} -->\n)([^]*?)\n(<!-- /${mark} -->)`);
    text = text.replace(between, (_, begin, old, end) => `${begin}${make(old)}\n${end}`);
  };
  put('measured', (old) => (calls === undefined ? merged(old, printed(results)) : printed(results)));
  if (calls !== undefined) put('calls', () => calls);
  writeFileSync(resultsFile, text);
}

function merged(old, measured) {
  const blocks = old.split('\n\n');
  for (const block of measured.split('\n\n').slice(1)) {
    const [head, rows] = cellsOf(block);
    const at = blocks.findIndex((one) => cellsOf(one)[0].join() === head.join());
    if (at < 0) blocks.push(block);
    else blocks[at] = table(head, withRows(head, cellsOf(blocks[at])[1], rows));
  }
  return blocks.join('\n\n');
}

function cellsOf(block) {
  const [head = [], , ...rows] = block.split('\n').map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
  return [head, rows];
}

// A row is the same if what was measured, where and beside what are.
function withRows(head, old, measured) {
  const names = head.flatMap((title, column) =>
    column === 0 || ['on', 'unmounts on', 'beside'].includes(title) ? [column] : [],
  );
  const key = (row) => names.map((column) => row[column]).join('|');
  const rows = new Map([...old, ...measured].map((row) => [key(row), row]));
  return [...rows.values()];
}
