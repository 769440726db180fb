// The rows of the table: what is mounted, on which file system, beside whom, and what we aim for.
const everyFileSystem = ['tmpfs', 'ext4', 'xfs', 'btrfs'];

const beside = { ours: 'ours', raw: 'raw', mount: 'mount' };
const besideSpawn = { ...beside, spawn: 'spawn' };
const alone = { ours: 'ours', raw: 'raw' };
const probe = { ours: 'oursProbe', raw: 'rawProbe' };

const atMost = (bound) => ({ column: 'raw', bound, met: (value) => value <= bound, text: `≤ ${bound}x raw` });
const atLeast = (bound) => ({
  column: 'spawn',
  bound,
  met: (value) => 1 / value >= bound,
  text: `≥ ${bound}x as fast as mount(8)`,
});

function row(name, on, shape, contenders, ...targets) {
  return { name, on, shape, contenders, targets };
}

const onEach = (make) => everyFileSystem.map(make);
const onExt4 = (on, bound) => (on === 'ext4' ? [atMost(bound)] : []);

/** Every row. `shape` is what ours and the twin both read; `count` mounts are made at once. */
export const rows = [
  row('read-only, 2 lowers', 'tmpfs', { lowers: 2 }, besideSpawn, atMost(1.6), atLeast(30)),
  row('read-only, 10 lowers', 'tmpfs', { lowers: 10 }, besideSpawn),
  row('read-only, 128 lowers', 'tmpfs', { lowers: 128 }, beside, atMost(1.15)),
  row('read-only, 500 lowers', 'tmpfs', { lowers: 500 }, beside, atMost(1.15)),
  ...onEach((on) =>
    row(
      'writable, checkInUse: false',
      on,
      { writable: true },
      besideSpawn,
      ...(on === 'tmpfs' ? [atMost(1.6)] : onExt4(on, 1.1)),
    ),
  ),
  ...onEach((on) =>
    row(
      'writable (raw + probe)',
      on,
      { writable: true, probe: true },
      { ...alone, mount: 'mount' },
      ...onExt4(on, 1.1),
    ),
  ),
  ...onEach((on) => row('the in-use probe alone', on, {}, probe)),
  ...onEach((on) => row('volatile, checkInUse: false', on, { writable: true, volatile: true }, beside)),
  row('writable, 128 lowers', 'tmpfs', { writable: true, lowers: 128 }, beside, atMost(1.15)),
  row('writable, 500 lowers', 'tmpfs', { writable: true, lowers: 500 }, beside, atMost(1.15)),
  row('detached, create and close', 'tmpfs', { detached: true }, alone),
  row('scratch', 'tmpfs', { scratch: true }, alone),
  row('64 at a time, read-only', 'tmpfs', { count: 64 }, beside),
  ...['tmpfs', 'ext4'].flatMap((on) => [
    row('64 at a time, writable, checkInUse: false', on, { count: 64, writable: true }, beside),
    row('64 at a time, writable (raw + probe)', on, { count: 64, writable: true, probe: true }, beside),
  ]),
];
