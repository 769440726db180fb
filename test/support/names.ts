/**
 * Directories with every kind of name that option strings, mount tables and JavaScript strings have trouble with, mounted
 * as every kind of layer.
 */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import type * as library from '../../lib/index.ts';
import type { DirRef, OverlayOptions } from '../../lib/index.ts';
import { openDirectories, openings } from './directories.ts';
import type { Scratch } from './scratch.ts';

const bytes = (text: string) => Buffer.from(text, 'latin1');

/** What follows the slash; a name of several parts makes a long path. */
const names: Readonly<Record<string, Buffer>> = {
  'a comma': bytes('a,b'),
  'a colon': bytes('a:b'),
  'colons all over': bytes('::a::'),
  'a backslash': bytes('a\\b'),
  'a backslash at its end': bytes('a\\'),
  'backslashes before specials': bytes('a\\,b\\:c\\\\d'),
  'what looks like an octal escape': bytes('a\\054b'),
  'an equals sign and an option': bytes('a,index=on'),
  'a newline and a tab': bytes('a\nb\tc'),
  quotes: bytes('"a"\'b\''),
  'a space at each end': bytes(' a '),
  'a number sign': bytes('#a'),
  'nothing but a number': bytes('7'),
  'bytes that are not UTF-8': bytes('a\xff\xfe\x80'),
  'the replacement character': Buffer.from('\ufffd'),
  '255 bytes': bytes('x'.repeat(255)),
  '255 commas': bytes(','.repeat(255)),
  'a path of 4,000 bytes': bytes(`${`${'y'.repeat(250)}/`.repeat(15)}${'z'.repeat(180)}`),
};

type Form = (paths: readonly Buffer[]) => { readonly refs: readonly DirRef[] } & Disposable;
const forms: Readonly<Record<string, Form>> = {
  'by path': (refs) => ({ refs, [Symbol.dispose]: () => {} }),
  'by O_RDONLY descriptors': (paths) => openDirectories(openings.O_RDONLY, ...paths),
  'by O_PATH descriptors': (paths) => openDirectories(openings.O_PATH, ...paths),
};

/** Tests for each name and each form, with these options; `slow` are those forms that are not for every kernel. */
export function itTakesEveryName(
  scratch: Scratch,
  load: () => Promise<typeof library> | typeof library,
  {
    mountApi = 'auto',
    slow = [],
  }: Pick<OverlayOptions, 'mountApi'> & { readonly slow?: readonly (keyof typeof forms)[] } = {},
): void {
  const cases = Object.keys(names).flatMap((name) => Object.keys(forms).map((form) => [name, form] as const));
  const isSlow = ([, form]: (typeof cases)[number]) => slow.includes(form);
  const title = 'takes directories named with %s, %s';
  it.each(cases.filter((one) => !isSlow(one)))(title, take);
  it.each(cases.filter(isSlow))(title, { tags: ['slow'] }, take);

  async function take(name: string, form: string): Promise<void> {
    const { listOverlays, mountOverlay } = await load();
    const path = (role: string) => {
      const full = Buffer.concat([bytes(`${scratch.root}/${role}/`), names[name] ?? bytes('')]);
      mkdirSync(full, { recursive: true });
      return full;
    };
    const [lower, upper, work, target] = ['lower', 'upper', 'work', 'merged'].map(path) as Four<Buffer>;
    mkdirSync(Buffer.concat([lower, bytes('/in-lower')]));
    using layers = (forms[form] as Form)([lower, upper, work]);
    const [one, two, three] = layers.refs as Four<DirRef>;

    const overlay = await mountOverlay({
      lower: [one, scratch.directory('plain')],
      upper: two,
      work: three,
      target,
      mountApi,
    });
    try {
      expect(readdirSync(target)).toEqual(['in-lower']);
      writeFileSync(Buffer.concat([target, bytes('/new')]), '');
      expect(readdirSync(upper)).toEqual(['new']);
      const [listed] = (await listOverlays()).filter(({ owner }) => owner === 'own');
      expect(listed?.targetBytes).toEqual(target);
      // Where the table tells a layer's name at all, it is that layer's.
      for (const [layer, real] of [
        [listed?.lower[0], lower],
        [listed?.upper, upper],
        [listed?.work, work],
      ] as const) {
        if (layer?.unresolved === undefined) expect(layer?.pathBytes).toEqual(real);
      }
    } finally {
      await overlay.unmount();
    }
    expect(readdirSync(target)).toEqual([]);
  }
}

type Four<T> = [T, T, T, T];
