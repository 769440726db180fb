// The floors of lib/, ground first. A file imports only from its own room or from a lower floor, and nothing goes in circles.
const floors = [
  ['native'],
  [
    'types.ts',
    'errors.ts',
    'addon.ts',
    'paths.ts',
    'arguments.ts',
    'events.ts',
    'native-errors.ts',
    'cancel.ts',
  ],
  ['inspect'],
  ['layer'],
  ['changes'],
  ['overlay'],
  ['store'],
  ['cli'],
];

const pattern = (room) => (room.endsWith('.ts') ? `${room.replace('.', '\\.')}$` : `${room}/`);
const matcher = (rooms) => `^lib/(${rooms.map(pattern).join('|')})`;

export default {
  forbidden: [
    ...floors.slice(0, -1).map((rooms, floor) => ({
      name: `${rooms.join(', ')}: nothing from above`,
      severity: 'error',
      from: { path: matcher(rooms) },
      to: { path: [matcher(floors.slice(floor + 1).flat()), '^lib/index\\.ts$'] },
    })),
    { name: 'no circles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'every file is on a floor',
      severity: 'error',
      from: {},
      to: { path: '^lib/', pathNot: [matcher(floors.flat()), '^lib/index\\.ts$'] },
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    // Types are part of the architecture too.
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
  },
};
