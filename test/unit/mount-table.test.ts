import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseOverlayOptions } from '../../lib/inspect/mount-table.ts';

const parse = (text: string) => parseOverlayOptions(Buffer.from(text, 'latin1'));
const paths = (layers: readonly { pathBytes: Buffer }[]) =>
  layers.map(({ pathBytes }) => pathBytes.toString('latin1'));

describe('the options of an overlay as the kernel shows them', () => {
  it('are split into layers and the rest', () => {
    expect(parse('lowerdir=/a:/b,upperdir=/u,workdir=/w,xino=off,volatile')).toEqual({
      lower: [
        { path: '/a', pathBytes: Buffer.from('/a') },
        { path: '/b', pathBytes: Buffer.from('/b') },
      ],
      dataOnlyLower: [],
      upper: { path: '/u', pathBytes: Buffer.from('/u') },
      work: { path: '/w', pathBytes: Buffer.from('/w') },
      options: { xino: 'off', volatile: true },
    });
  });

  it('are nothing where nothing is shown', () => {
    expect(parse('')).toEqual({ lower: [], dataOnlyLower: [], options: {} });
  });

  it.each<[string, string, string[], string[]]>([
    ['lowerdir+, one by one', 'lowerdir+=/a,lowerdir+=/b', ['/a', '/b'], []],
    ['datadir+ apart', 'lowerdir+=/a,datadir+=/d,datadir+=/e', ['/a'], ['/d', '/e']],
    ['data-only layers after a double colon', 'lowerdir=/a:/b::/d::/e', ['/a', '/b'], ['/d', '/e']],
    ['a colon in a lowerdir+, where it is plain', 'lowerdir+=/a:b', ['/a:b'], []],
    ['a backslash in a lowerdir+, where it is plain', 'lowerdir+=/a\\134b', ['/a\\b'], []],
    ['an escaped colon in lowerdir', 'lowerdir=/a\\134:b:/c', ['/a:b', '/c'], []],
    ['an escaped backslash in lowerdir', 'lowerdir=/a\\134\\134b:/c', ['/a\\b', '/c'], []],
    ['an escaped comma in lowerdir', 'lowerdir=/a\\134\\054b:/c', ['/a,b', '/c'], []],
    ['an escaped backslash before a separating colon', 'lowerdir=/a\\134\\134:/b', ['/a\\', '/b'], []],
    ['a comma in a lowerdir+', 'lowerdir+=/a\\054b', ['/a,b'], []],
    ['space, tab, newline and number sign', 'lowerdir+=/a\\040\\011\\012\\043', ['/a \t\n#'], []],
    ['quotes as they are', 'lowerdir+=/a"\'b', ['/a"\'b'], []],
    ['an equals sign in a name', 'lowerdir+=/a=b', ['/a=b'], []],
    ['bytes that are not UTF-8', 'lowerdir+=/\xff\xfe', ['/\xff\xfe'], []],
    ['digits after a backslash that the kernel did not make', 'lowerdir+=/a\\134101', ['/a\\101'], []],
    ['an option that is no layer, whatever its name begins with', 'lowerdir+=/a,lowerdirs=/b', ['/a'], []],
  ])('give back %s', (_, shown, lower, dataOnlyLower) => {
    const found = parse(shown);
    expect([paths(found.lower), paths(found.dataOnlyLower)]).toEqual([lower, dataOnlyLower]);
  });

  it('give back upper and work as they are where layers were given one by one', () => {
    const { upper, work } = parse('lowerdir+=/a,upperdir=/u:\\134\\134\\054x,workdir=/w\\134');
    expect([upper?.path, work?.path]).toEqual(['/u:\\\\,x', '/w\\']);
  });

  it('give back upper and work without the escapes of mount(2) where layers were given in one string', () => {
    const { upper, work } = parse('lowerdir=/a,upperdir=/u:\\134\\134\\054x,workdir=/w\\134\\134');
    expect([upper?.path, work?.path]).toEqual(['/u:\\,x', '/w\\']);
  });

  it('show bytes that are not UTF-8 as \\xNN beside the bytes themselves', () => {
    expect(parse('lowerdir+=/\xff').lower).toEqual([
      { path: '/\\xff', pathBytes: Buffer.from([0x2f, 0xff]) },
    ]);
  });

  it.each<[string, 'relative' | 'descriptor' | 'detached' | undefined]>([
    ['l', 'relative'],
    ['../l', 'relative'],
    ['/proc/self/fd/3', 'descriptor'],
    ['/proc/4711/fd/3', 'descriptor'],
    ['/proc/thread-self/fd/3', 'descriptor'],
    ['/dev/fd/3', 'descriptor'],
    ['17', 'descriptor'],
    ['/', 'detached'],
    ['/overlayfs-scratch-upper', 'detached'],
    ['/a', undefined],
    ['/a/17', undefined],
    ['/proc/self/fd/3/a', 'descriptor'],
    ['/proc/self/cwd/a', 'descriptor'],
  ])('mark the layer %s as unresolved: %s', (name, unresolved) => {
    for (const found of [
      parse(`lowerdir+=${name}`).lower[0],
      parse(`lowerdir=${name}:/x`).lower[0],
      parse(`upperdir=${name}`).upper,
    ]) {
      expect(found?.unresolved).toBe(unresolved);
    }
  });
});

describe('any path', () => {
  const octal = (text: string) =>
    text.replace(/[ \t\n\\#,]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`);
  const escaped = (text: string, special: RegExp) => text.replace(special, '\\$&');
  const anyPath = fc
    .uint8Array({ minLength: 1, maxLength: 60 })
    .map((bytes) => `/${Buffer.from(bytes.map((byte) => byte || 0x2c)).toString('latin1')}`);
  const special = fc
    .string({ unit: fc.constantFrom(':', ',', '\\', '=', ' ', '\n', '0', '1', 'a', '/', '"'), minLength: 1 })
    .map((text) => `/${text}`);
  const path = fc.oneof(anyPath, special);

  it('that is written for mount(2) and shown by the kernel is read back', () => {
    fc.assert(
      fc.property(
        fc.array(path, { minLength: 1, maxLength: 5 }),
        fc.array(path, { maxLength: 3 }),
        path,
        path,
        (lower, data, upper, work) => {
          const joined =
            lower.map((one) => escaped(one, /[\\:,]/g)).join(':') +
            data.map((one) => `::${escaped(one, /[\\:,]/g)}`).join('');
          // The kernel's own splitter leaves `\,` in upperdir to overlayfs, which undoes every backslash.
          const shown = `lowerdir=${octal(joined)},upperdir=${octal(escaped(upper, /[\\,]/g))},workdir=${octal(escaped(work, /[\\,]/g))},index=off`;
          const found = parse(shown);
          expect({
            ...found,
            lower: paths(found.lower),
            dataOnlyLower: paths(found.dataOnlyLower),
            upper: paths([found.upper as never]),
            work: paths([found.work as never]),
          }).toEqual({
            lower,
            dataOnlyLower: data,
            upper: [upper],
            work: [work],
            options: { index: 'off' },
          });
        },
      ),
    );
  });

  it('that is given one by one and shown by the kernel is read back', () => {
    fc.assert(
      fc.property(
        fc.array(path, { minLength: 1, maxLength: 5 }),
        fc.array(path, { maxLength: 3 }),
        (lower, data) => {
          const words = [
            ...lower.map((one) => `lowerdir+=${octal(one)}`),
            ...data.map((one) => `datadir+=${octal(one)}`),
          ];
          const found = parse(words.join(','));
          expect([paths(found.lower), paths(found.dataOnlyLower)]).toEqual([lower, data]);
        },
      ),
    );
  });
});
