// @module-tag vm
/**
 * The doctor tells beforehand what the kernel would say, and changes nothing by asking.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type ErrorCode, errorCodes } from '../../lib/errors.ts';
import { doctor, type Finding, mountOverlay, type OverlayOptions } from '../../lib/index.ts';
import { kernelFeatures } from '../../lib/inspect/kernel.ts';
import { checkOptions } from '../../lib/overlay/options.ts';
import { draftPlan } from '../../lib/overlay/plan.ts';
import { planContext } from '../../lib/overlay/plan-context.ts';
import { mount, umount } from '../support/commands.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, type Layers, type Scratch, scratchOn } from '../support/scratch.ts';
import { sequences } from '../support/sequences.ts';
import { snapshot } from '../support/snapshot.ts';

const codes = (findings: readonly Finding[], severity?: Finding['severity']) =>
  findings
    .filter((finding) => severity === undefined || finding.severity === severity)
    .map(({ code }) => code);

function mountForThisTest(...args: string[]): void {
  mount(...args);
  afterThisTest(() => umount('--lazy', args.at(-1) ?? ''));
}

function succeeds(attempt: () => void): boolean {
  try {
    attempt();
    return true;
  } catch {
    return false;
  }
}

describePrivileged('doctor()', () => {
  const scratch = scratchOn();

  it('finds nothing that prevents a good mount', async () => {
    expect(codes(await doctor(scratch.layers()), 'error')).toEqual([]);
  });

  it('tells everything that is wrong, not just the first', async () => {
    const { work } = scratch.layers();
    const found = await doctor({
      lower: [scratch.path('missing'), scratch.path('lower'), scratch.path('lower')],
      upper: scratch.directory('lower/upper'),
      work,
      target: scratch.path('nowhere'),
      metacopy: true,
      redirectDir: 'nofollow',
    });
    expect(codes(found, 'error')).toEqual([
      'ERR_OVERLAY_OPTIONS_CONFLICT',
      'ERR_OVERLAY_LAYER_NOT_FOUND',
      'ERR_OVERLAY_UPPER_IN_LOWER',
      'ERR_OVERLAY_LOWER_TWICE',
      'ERR_OVERLAY_TARGET_NOT_FOUND',
    ]);
    for (const { detail, fix } of found)
      expect([detail, fix]).toEqual([expect.stringMatching(/./), expect.stringMatching(/./)]);
  });

  it('leaves upper, work and everything else as they were', async () => {
    const layers = scratch.layers();
    const before = await snapshot(scratch.root);
    await doctor({ ...layers, index: true });
    expect(await snapshot(scratch.root)).toEqual(before);
  });

  it('knows that a target can be made one level deep', async () => {
    const layers = scratch.layers();
    const found = async (name: string) =>
      codes(await doctor({ ...layers, target: scratch.path(name), mkdirTarget: true }), 'error');
    expect(await found('new')).toEqual([]);
    expect(await found('no/new')).toEqual(['ERR_OVERLAY_TARGET_NOT_FOUND']);
  });

  it('reports an empty path as a finding, and rejects for a wrong type', async () => {
    expect(codes(await doctor({ ...scratch.layers(), upper: '' }))).toEqual(['ERR_OVERLAY_EMPTY_PATH']);
    await expect(doctor({ lower: 7 as never })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  });

  it('tells of an upper in use, of what cannot be cleaned and of options that the kernel lacks, before they fail', async () => {
    const layers = scratch.layers();
    const dirty = scratch.directory('dirty');
    mkdirSync(join(dirty, 'work/a/b/c'), { recursive: true });
    expect(codes(await doctor({ ...layers, work: dirty }), 'error')).toEqual([
      'ERR_OVERLAY_CAME_UP_READONLY',
    ]);
    expect(codes(await doctor({ ...layers, kernelOptions: { bogus: '1' } }), 'error')).toEqual([
      'ERR_OVERLAY_OPTION_UNKNOWN',
    ]);
    expect(codes(await doctor({ ...layers, kernelOptions: { default_permissions: 'no' } }), 'error')).toEqual(
      ['ERR_OVERLAY_OPTION_VALUE'],
    );
    await using _ = await mountOverlay(layers);
    expect(codes(await doctor(layers), 'error')).toEqual(['ERR_OVERLAY_UPPER_IN_USE']);
    expect(codes(await doctor({ ...layers, checkInUse: false }), 'error')).toEqual([]);
  });

  it('tells a volatile marker from what cannot be cleaned', async () => {
    const layers = scratch.layers();
    await (await mountOverlay({ ...layers, volatile: true })).unmount();
    expect(codes(await doctor(layers), 'error')).toEqual(['ERR_OVERLAY_VOLATILE_MARKER']);
    expect(codes(await doctor({ ...layers, removeVolatileMarker: true }), 'error')).toEqual([]);
  });

  it('leaves to the report what only the mount tells: an index dropped for want of file handles', async () => {
    const { upper, work, target } = scratch.layers();
    const [a, b, merged] = ['a', 'b', 'o'].map((name) => scratch.directory(name));
    mountForThisTest('-t', 'overlay', 'o', '-o', `lowerdir=${a}:${b}`, merged ?? '');
    await using overlay = await mountOverlay({ lower: merged ?? '', upper, work, target, index: true });
    expect(overlay.report.degradations.map(({ code }) => code)).toEqual(['WARN_OVERLAY_OPTION_IGNORED']);
  });
});

type Arrange = (layers: Layers, scratch: Scratch) => OverlayOptions;
const worthKnowing: readonly (readonly [title: string, code: string, arrange: Arrange])[] = [
  ['a lower that others may change', 'WARN_OVERLAY_LOWER_WRITABLE', (l) => l],
  ['an upper on a tmpfs', 'WARN_OVERLAY_UPPER_ON_TMPFS', (l) => l],
  ['hard links without index', 'WARN_OVERLAY_HARD_LINKS_BREAK', (l) => l],
  ['inode numbers without xino', 'WARN_OVERLAY_INODES_CHANGE', (l) => l],
  ['a volatile upper', 'WARN_OVERLAY_VOLATILE', (l) => ({ ...l, volatile: true })],
  [
    'something mounted below a lower',
    'WARN_OVERLAY_SUBMOUNT_HIDDEN',
    (l, s) => {
      mountForThisTest('-t', 'tmpfs', 'x', s.directory('lower/sub'));
      return l;
    },
  ],
  [
    'a lower that is itself an overlay',
    'WARN_OVERLAY_LOWER_ON_OVERLAY',
    (l, s) => {
      mountForThisTest(
        '-t',
        'overlay',
        'o',
        '-o',
        `lowerdir=${s.directory('a')}:${s.directory('b')}`,
        s.directory('o'),
      );
      return { ...l, lower: s.path('o') };
    },
  ],
  [
    'a copy-up between file systems',
    'WARN_OVERLAY_NO_REFLINK',
    (l, s) => {
      mountForThisTest('-t', 'tmpfs', 'x', s.directory('other'));
      return { ...l, lower: s.path('other') };
    },
  ],
  [
    'more layers than other tools take',
    'WARN_OVERLAY_MANY_LAYERS',
    (l, s) => ({ ...l, lower: Array.from({ length: 129 }, (_, i) => s.directory(`layer-${i}`)) }),
  ],
  [
    'an option that the kernel ignores',
    'WARN_OVERLAY_OPTION_IGNORED',
    (l, s) => ({ lower: [l.lower, s.directory('b')], index: true }),
  ],
];

describePrivileged('doctor() tells what is no error but worth knowing', () => {
  const scratch = scratchOn();
  it.each(worthKnowing)('%s: %s', async (_, code, arrange) => {
    const options = arrange(scratch.layers(), scratch);
    const found = await doctor(options);
    expect(codes(found)).toContain(code);
    expect(codes(found, 'error')).toEqual([]);
  });

  it('says nothing of these where they do not apply', async () => {
    const silent = codes(await doctor({ lower: ['/sys', '/dev'], scratch: true, xino: 'auto' }));
    for (const [, code] of worthKnowing.slice(0, 2))
      if (code !== 'WARN_OVERLAY_LOWER_WRITABLE') expect(silent).not.toContain(code);
  });
});

describePrivileged('doctor() and the kernel', () => {
  const scratch = scratchOn();
  let run = 0;

  // Good and bad ingredients, made anew for each run below one directory.
  const ingredients = [
    'a',
    'b',
    'a/in',
    'up',
    'work',
    'up/in',
    'work/in',
    'missing',
    'file',
    'overlay',
    'proc',
    'readonly',
    'bind-a',
  ] as const;
  const layer = fc.constantFrom<(typeof ingredients)[number]>(...ingredients);
  const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 2 });
  const recipes = fc.record({
    lower: fc.array(
      fc.oneof(
        { weight: 5, arbitrary: fc.constantFrom('a' as const, 'b' as const, 'overlay' as const) },
        layer,
      ),
      { minLength: 1, maxLength: 3 },
    ),
    upper: maybe(fc.oneof({ weight: 4, arbitrary: fc.constant('up' as const) }, layer)),
    work: maybe(fc.oneof({ weight: 4, arbitrary: fc.constant('work' as const) }, layer)),
    index: maybe(fc.boolean()),
    metacopy: maybe(fc.boolean()),
    nfsExport: maybe(fc.boolean()),
    userxattr: maybe(fc.boolean()),
    redirectDir: maybe(fc.constantFrom('on' as const, 'follow' as const, 'nofollow' as const)),
    xino: maybe(fc.constantFrom('on' as const, 'off' as const, 'auto' as const)),
    volatile: maybe(fc.boolean()),
    bogus: fc.nat(9).map((n) => n === 0),
  });

  function prepare(root: string): void {
    for (const name of ['a', 'b', 'a/in', 'up/in', 'work/in', 'base', 'readonly', 'bind-a', 'overlay'])
      mkdirSync(join(root, name), { recursive: true });
    writeFileSync(join(root, 'file'), '');
    mountForThisTest('--bind', join(root, 'a'), join(root, 'bind-a'));
    mountForThisTest(
      '-t',
      'overlay',
      'o',
      '-o',
      `lowerdir=${root}/base:${root}/readonly`,
      join(root, 'overlay'),
    );
    mountForThisTest('-t', 'tmpfs', '-o', 'ro', 'x', join(root, 'readonly'));
  }

  /** What the kernel itself makes of it, by mount(2): `ok`, `refused` or `degraded`. */
  async function kernelSays(options: OverlayOptions, target: string): Promise<'ok' | 'refused' | 'degraded'> {
    const checked = checkOptions(options);
    const { plan } = draftPlan(checked, await planContext(checked, await kernelFeatures())).prepared;
    const data = Object.entries(plan.options).map(([key, value]) =>
      value === true ? key : `${key}=${value}`,
    );
    data.push(`lowerdir=${plan.lower.join(':')}`);
    if (plan.upper !== undefined) data.push(`upperdir=${plan.upper}`);
    if (plan.work !== undefined) data.push(`workdir=${plan.work}`);
    if (!succeeds(() => mount('-t', 'overlay', 'o', '-o', data.join(','), target))) return 'refused';
    const writable = succeeds(() => writeFileSync(join(target, 'new'), ''));
    umount('--lazy', target);
    return plan.upper === undefined || writable ? 'ok' : 'degraded';
  }

  it('agree, whatever the ingredients', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(recipes, async ({ lower, upper, work, bogus, ...rest }) => {
        const root = scratch.directory(`run-${run++}`);
        prepare(root);
        const path = (name: string) => (name === 'proc' ? '/proc' : join(root, name));
        const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
        const options: OverlayOptions = {
          lower: lower.map(path),
          ...(upper === undefined ? {} : { upper: path(upper) }),
          ...(work === undefined ? {} : { work: path(work) }),
          ...given,
          ...(bogus ? { kernelOptions: { bogus: '1' } } : {}),
        };
        const errors = (await doctor(options)).filter(({ severity }) => severity === 'error');
        const kinds = errors.map(({ code }) => errorCodes[code as ErrorCode]);
        const says = await kernelSays(options, scratch.directory(`target-${run}`));
        if (errors.length === 0) expect(says).toBe('ok');
        if (kinds.includes('kernel')) expect(says).not.toBe('ok');
      }),
      { numRuns: sequences(60) },
    );
  });
});
