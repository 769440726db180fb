import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeIndexName,
  decodeOverlayXattr,
  encodeIndexName,
  encodeOverlayXattr,
  escapeOverlayXattr,
  type OverlayHandle,
  type OverlayXattrValue,
  unescapeOverlayXattr,
} from '../../lib/index.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const text = (value: string) => Buffer.from(value, 'latin1');
const decode = (name: string, value: Buffer) => decodeOverlayXattr(`trusted.overlay.${name}`, value);

const ext4 = hex('00 fb 1d 00 01 3fa85f6457174562b3fc2c963f66afa6 0c000000 9a3c77d1');
const handle: OverlayHandle = {
  flags: 0,
  type: 1,
  uuid: hex('3fa85f6457174562b3fc2c963f66afa6'),
  bytes: hex('0c000000 9a3c77d1'),
};

const samples: readonly (readonly [name: string, value: Buffer, fields: OverlayXattrValue])[] = [
  ['opaque', text('y'), { kind: 'opaque', mark: 'y' }],
  ['opaque', text('x'), { kind: 'opaque', mark: 'x' }],
  ['whiteout', text(''), { kind: 'whiteout' }],
  ['whiteout', text('anything'), { kind: 'whiteout' }],
  ['redirect', text('old name'), { kind: 'redirect', path: text('old name'), absolute: false }],
  ['redirect', text('/a/b\xff'), { kind: 'redirect', path: text('/a/b\xff'), absolute: true }],
  ['redirect', text('...'), { kind: 'redirect', path: text('...'), absolute: false }],
  ['metacopy', text(''), { kind: 'metacopy' }],
  [
    'metacopy',
    hex('00040000'),
    { kind: 'metacopy', header: { flags: 0, algorithm: 0, digest: Buffer.alloc(0) } },
  ],
  [
    'metacopy',
    Buffer.concat([hex('00240001'), Buffer.alloc(32, 7)]),
    { kind: 'metacopy', header: { flags: 0, algorithm: 1, digest: Buffer.alloc(32, 7) } },
  ],
  ['origin', ext4, { kind: 'origin', handle }],
  ['origin', text(''), { kind: 'origin' }],
  [
    'upper',
    Buffer.concat([ext4.subarray(0, 3), Buffer.of(4), ext4.subarray(4)]),
    { kind: 'upper', handle: { ...handle, flags: 4 } },
  ],
  ['nlink', text('U+0'), { kind: 'nlink', of: 'upper', difference: 0 }],
  ['nlink', text('U-1'), { kind: 'nlink', of: 'upper', difference: -1 }],
  ['nlink', text('L+2147483647'), { kind: 'nlink', of: 'lower', difference: 2 ** 31 - 1 }],
  ['impure', text('y'), { kind: 'impure' }],
  ['uuid', handle.uuid, { kind: 'uuid', uuid: handle.uuid }],
  ['protattr', text('a'), { kind: 'protattr', append: true, immutable: false }],
  ['protattr', text('i'), { kind: 'protattr', append: false, immutable: true }],
  ['protattr', text('ai'), { kind: 'protattr', append: true, immutable: true }],
];

const malformed: readonly (readonly [name: string, value: Buffer, why: RegExp])[] = [
  ['opaque', text(''), /ignores/],
  ['opaque', text('Y'), /"Y"/],
  ['opaque', text('yy'), /ignores/],
  ['redirect', text(''), /EINVAL/],
  ['redirect', text('a/b'), /EINVAL/],
  ['redirect', text('/'), /EINVAL/],
  ['redirect', text('//a'), /EINVAL/],
  ['redirect', text('/a/'), /EINVAL/],
  ['redirect', text('a\0b'), /NUL.*0x610062/],
  ['redirect', text('..'), /EACCES/],
  ['redirect', text('/a/./b'), /EACCES/],
  ['metacopy', text('abc'), /EIO/],
  ['metacopy', hex('01040000'), /version/],
  ['metacopy', hex('00050000'), /length/],
  ['metacopy', Buffer.concat([hex('00450001'), Buffer.alloc(65)]), /longer/],
  ['origin', ext4.subarray(0, 20), /short/],
  ['origin', Buffer.concat([ext4, Buffer.of(0)]), /length/],
  ['origin', Buffer.concat([Buffer.of(0, 0xfc), ext4.subarray(2)]), /begin/],
  ['origin', Buffer.concat([Buffer.of(1), ext4.subarray(1)]), /version/],
  ['upper', Buffer.concat([ext4.subarray(0, 3), Buffer.of(8), ext4.subarray(4)]), /flags/],
  ['origin', Buffer.concat([ext4.subarray(0, 3), Buffer.of(1), ext4.subarray(4)]), /byte order/],
  ['nlink', text('U0'), /number/],
  ['nlink', text('X+1'), /number/],
  ['nlink', text('U+'), /number/],
  ['nlink', text('U--1'), /number/],
  ['nlink', text('U+01'), /writes/],
  ['nlink', text('U-0'), /writes/],
  ['nlink', text('U+2147483648'), /number/],
  ['nlink', text('U+1\n'), /number/],
  ['impure', text('n'), /ignores/],
  ['uuid', text('short'), /16 bytes/],
  ['protattr', text(''), /none of/],
  ['protattr', text('ia'), /none of/],
  ['protattr', text('aa'), /none of/],
  ['protattr', text('a'.repeat(33)), /longer/],
];

describe('an overlay attribute', () => {
  it.each(samples)('%s = %j is decoded, and encoded back to the same bytes', (name, value, fields) => {
    const decoded = decode(name, value);
    expect(decoded).toEqual({ name: `trusted.overlay.${name}`, value, ...fields });
    expect(encodeOverlayXattr(decoded as OverlayXattrValue)).toEqual({
      name: `trusted.overlay.${name}`,
      value,
    });
  });

  it.each(malformed)('%s = %j is malformed, and the finding says why', (name, value, why) => {
    const decoded = decode(name, value);
    expect(decoded).toMatchObject({
      kind: 'malformed',
      value,
      finding: {
        code: 'WARN_OVERLAY_XATTR_MALFORMED',
        severity: 'warning',
        detail: expect.stringMatching(why),
      },
    });
  });

  it('shows bytes that are no text in hexadecimal, and only the first of many', () => {
    const detail = (value: Buffer) => {
      const decoded = decode('uuid', value);
      return decoded?.kind === 'malformed' ? decoded.finding.detail : '';
    };
    expect(detail(hex('00ff'))).toBe('trusted.overlay.uuid is not 16 bytes: 2 bytes, 0x00ff');
    expect(detail(Buffer.alloc(1000, 1))).toMatch(/: 1000 bytes, 0x(01){64}…$/);
  });

  it('is escaped, unknown, or none of ours, by its name', () => {
    const value = text('v');
    expect(decodeOverlayXattr('user.overlay.overlay.opaque', value)).toEqual({
      kind: 'escaped',
      name: 'user.overlay.overlay.opaque',
      shownAs: 'user.overlay.opaque',
      value,
    });
    expect(decode('new', value)).toEqual({ kind: 'unknown', name: 'trusted.overlay.new', value });
    expect(decode('overlay', value)).toMatchObject({ kind: 'unknown' });
    expect(decodeOverlayXattr('user.overlay', value)).toBeUndefined();
    expect(decodeOverlayXattr('security.capability', value)).toBeUndefined();
  });

  it('of any name and any bytes is decoded without harm; what is sound is encoded to the same bytes', () => {
    const names = [...new Set(samples.map(([name]) => name))];
    const value = fc.oneof(
      fc.uint8Array({ maxLength: 80 }),
      fc.string({ maxLength: 12 }).map((one) => Buffer.from(one)),
      fc.constantFrom(...[...samples, ...malformed].map(([, bytes]) => bytes)),
    );
    fc.assert(
      fc.property(fc.constantFrom(...names), value, (name, bytes) => {
        const decoded = decode(name, Buffer.from(bytes));
        expect(decoded?.value).toEqual(Buffer.from(bytes));
        if (decoded === undefined || decoded.kind === 'malformed') return;
        expect(encodeOverlayXattr(decoded as OverlayXattrValue).value).toEqual(Buffer.from(bytes));
      }),
      { numRuns: 2000 },
    );
  });

  it('that is encoded is decoded to the same fields', () => {
    const bytes = (minLength: number, maxLength: number) =>
      fc.uint8Array({ minLength, maxLength }).map((one) => Buffer.from(one));
    const name = fc
      .uint8Array({ minLength: 1, maxLength: 20 })
      .map((one) => Buffer.from(one).toString('latin1').replace(/[\0/]/g, '_'))
      .filter((one) => one !== '.' && one !== '..');
    const handles = fc.record({
      flags: fc.constantFrom(0, 2, 4, 6),
      type: fc.nat(255),
      uuid: bytes(16, 16),
      bytes: bytes(0, 128),
    });
    const fields: fc.Arbitrary<OverlayXattrValue> = fc.oneof(
      fc.record({
        kind: fc.constant('redirect' as const),
        path: name.map(text),
        absolute: fc.constant(false),
      }),
      fc.record({
        kind: fc.constant('redirect' as const),
        path: fc.array(name, { minLength: 1 }).map((one) => text(one.map((part) => `/${part}`).join(''))),
        absolute: fc.constant(true),
      }),
      fc.record({
        kind: fc.constant('metacopy' as const),
        header: fc.record({ flags: fc.nat(255), algorithm: fc.nat(255), digest: bytes(0, 64) }),
      }),
      fc.record({ kind: fc.constantFrom('origin' as const, 'upper' as const), handle: handles }),
      fc.record({
        kind: fc.constant('nlink' as const),
        of: fc.constantFrom('upper' as const, 'lower' as const),
        difference: fc.integer(),
      }),
    );
    fc.assert(
      fc.property(fields, fc.boolean(), (value, userxattr) => {
        const encoded = encodeOverlayXattr(value, { userxattr });
        expect(decodeOverlayXattr(encoded.name, encoded.value)).toEqual({ ...encoded, ...value });
      }),
      { numRuns: 1000 },
    );
  });

  it('that the kernel could not read is not encoded', () => {
    const wrong: readonly unknown[] = [
      { kind: 'redirect', path: text('a/b') },
      { kind: 'redirect', path: 'a string' },
      { kind: 'opaque', mark: 'z' },
      { kind: 'nlink', of: 'upper', difference: 0.5 },
      { kind: 'nlink', of: 'both', difference: 1 },
      { kind: 'protattr', append: false, immutable: false },
      { kind: 'uuid', uuid: text('short') },
      { kind: 'metacopy', header: { flags: 0, algorithm: 1, digest: Buffer.alloc(65) } },
      { kind: 'origin', handle: { ...handle, uuid: text('short') } },
      { kind: 'origin', handle: { ...handle, flags: 256 } },
      { kind: 'escaped' },
      null,
    ];
    for (const value of wrong) {
      const refused = () => encodeOverlayXattr(value as OverlayXattrValue);
      expect(refused, JSON.stringify(value)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
      );
    }
  });
});

describe('the escaping of names', () => {
  it('adds one `overlay.` for each overlay that a layer was made in, and takes one away', () => {
    expect(escapeOverlayXattr('trusted.overlay.opaque')).toBe('trusted.overlay.overlay.opaque');
    expect(escapeOverlayXattr('user.overlay.overlay.opaque')).toBe('user.overlay.overlay.overlay.opaque');
    expect(unescapeOverlayXattr('trusted.overlay.overlay.opaque')).toBe('trusted.overlay.opaque');
  });

  it('leaves every other name alone', () => {
    for (const name of ['trusted.overlay', 'user.overlayx.y', 'security.overlay.z', 'x.trusted.overlay.y']) {
      expect([escapeOverlayXattr(name), unescapeOverlayXattr(name)]).toEqual([name, name]);
    }
    expect(unescapeOverlayXattr('trusted.overlay.opaque')).toBe('trusted.overlay.opaque');
  });
});

describe('a name in the index', () => {
  it('is the handle in hexadecimal', () => {
    expect(decodeIndexName(ext4.toString('hex'))).toEqual(handle);
    expect(encodeIndexName(handle)).toBe(ext4.toString('hex'));
  });

  it('of any other kind is none', () => {
    const whole = ext4.toString('hex');
    for (const name of ['', '#5', whole.toUpperCase(), whole.slice(1), whole.slice(0, 40), `${whole}00`]) {
      expect(decodeIndexName(name), name).toBeUndefined();
    }
  });
});
