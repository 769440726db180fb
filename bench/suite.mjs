// The benchmark itself, inside the mount namespace that run.mjs has made for it.
import { callTable } from './calls.mjs';
import { changesMemory } from './changes.mjs';
import { makeContenders } from './contenders.mjs';
import { fixedCosts } from './fixed.mjs';
import { statInFlight } from './in-flight.mjs';
import { inspections, measureInspection } from './inspect.mjs';
import { interleave, present, ratio, summary } from './measure.mjs';
import { printed, writeResults } from './report.mjs';
import { Rooms } from './rooms.mjs';
import { rows } from './rows.mjs';

const [scratch, given] = process.argv.slice(2);
const options = JSON.parse(given);
const rooms = new Rooms(scratch);
const bench = { scratch, rooms, seconds: options.quick ? 0.4 : 4 };
const wanted = (...names) => names.join(', ').includes(options.filter);
const progress = (name) => process.stderr.isTTY && process.stderr.write(`\r\x1b[K${name}`);

if (options.calls) {
  console.log(await callTable(bench));
  process.exit();
}

const results = { rows: [], fixed: [], inFlight: [], inspections: [], memory: [] };
for (const row of rows) {
  if (!wanted(row.name, row.on)) continue;
  progress(`${row.name}, ${row.on}`);
  results.rows.push(await measureRow(row));
}
if (wanted('fixed costs')) {
  progress('fixed costs');
  results.fixed = await fixedCosts(bench);
}
if (wanted('stat in flight')) {
  progress('stat in flight');
  results.inFlight = await statInFlight(bench);
}
for (const inspection of inspections) {
  if (!wanted('inspection and command line', inspection.name)) continue;
  progress(inspection.name);
  results.inspections.push(await measureInspection(inspection, bench));
}
if (wanted('memory of changes()')) {
  progress('memory');
  results.memory = await changesMemory(bench);
}
progress('');
console.log(options.json ? JSON.stringify(results, null, 2) : printed(results));
if (options.write) writeResults(results, options.filter ? undefined : await callTable(bench));
process.exit();

async function measureRow({ name, on, shape, contenders: names, targets }) {
  const room = rooms.make(on, shape);
  const contenders = makeContenders(names, { scratch, room, shape });
  const samples = await interleave(contenders, bench.seconds);
  for (const { end } of Object.values(contenders)) end();
  const { ours, ...others } = samples;
  const perMount = (values) => summary(present(values).map((value) => value / (shape.count ?? 1)));
  const ratios = Object.fromEntries(
    Object.entries(others).map(([column, values]) => [column, ratio(ours, values)]),
  );
  return {
    name,
    on,
    nanoseconds: Object.fromEntries(
      Object.entries(samples).map(([column, values]) => [column, perMount(values)]),
    ),
    ratios,
    targets: targets.map(({ column, text, met }) => ({ text, met: met(ratios[column].median) })),
  };
}
