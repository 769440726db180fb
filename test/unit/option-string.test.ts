// The option string of a mount(8) helper: read as util-linux and the kernel read it, and planned without anything of ours.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { KernelFeatures } from '../../lib/native/binding.ts';
import {
  exactPlan,
  layerProblems,
  type OptionString,
  readOptionString,
} from '../../lib/overlay/option-string.ts';

const features: KernelFeatures = {
  fsopenErrno: 0,
  nativeParser: true,
  layerFds: 'path',
  lowerdirAppend: true,
  detachedLayers: true,
  statmount: true,
  initialUserNamespace: true,
  sysAdmin: true,
  options: ['index', 'xino'],
  filtered: [],
};
const read = (text: string) => readOptionString(Buffer.from(text));
const plan = (text: string, source = 'none') =>
  exactPlan(read(text), { source: Buffer.from(source), target: Buffer.from('/m'), features });
const shown = ({ lower, dataOnlyLower, upper, work, options, malformed }: OptionString) => ({
  ...(lower.length > 0 ? { lower: lower.map(String) } : {}),
  ...(dataOnlyLower.length > 0 ? { data: dataOnlyLower.map(String) } : {}),
  ...(upper ? { upper: String(upper) } : {}),
  ...(work ? { work: String(work) } : {}),
  ...(options.length > 0
    ? { options: options.map(([key, value]) => (value === null ? key : `${key}=${value}`)) }
    : {}),
  ...(malformed ? { malformed } : {}),
});

describe('the layers of an option string', () => {
  it.each<[string, object]>([
    ['lowerdir=/a:/b', { lower: ['/a', '/b'] }],
    ['lowerdir=/a::/c::/d', { lower: ['/a'], data: ['/c', '/d'] }],
    ['lowerdir=/a\\,b:/c\\:d:/e\\\\f:/g\\h', { lower: ['/a,b', '/c:d', '/e\\f', '/gh'] }],
    ['lowerdir=/a:/b\\', { lower: ['/a', '/b'] }],
    ['lowerdir="/a":/b', { lower: [`${process.cwd()}/"/a"`, '/b'] }],
    ['lowerdir=l:.', { lower: [`${process.cwd()}/l`, process.cwd()] }],
    ['lowerdir=/a,lowerdir=/b:/c', { lower: ['/b', '/c'] }],
    ['lowerdir+=/a:b,lowerdir+=/c\\,d,datadir+=/e', { lower: ['/a:b', '/c\\,d'], data: ['/e'] }],
    ['lowerdir+=/a,lowerdir=/b:/c', { lower: ['/b', '/c'] }],
    ['upperdir=/u\\,v\\:w\\\\x,workdir=/w:w', { upper: '/u,v:w\\x', work: '/w:w' }],
    ['upperdir=/u,upperdir=/v,workdir=/w', { upper: '/v', work: '/w' }],
    ['lowerdir=', {}],
  ])('%s', (text, expected) => {
    expect(shown(read(text))).toEqual(expected);
  });

  it.each([
    'lowerdir=/a:',
    'lowerdir=:/a',
    'lowerdir=/a:::/b',
    'lowerdir=/a::/b:/c',
    'lowerdir',
    'lowerdir=/a,lowerdir+=/b',
    'lowerdir=/a,datadir+=/b',
    'lowerdir+=/a,datadir+=/b,lowerdir+=/c',
    'lowerdir+=/a,lowerdir+=',
  ])('%s is left for the kernel to refuse', (text) => {
    expect(shown(read(text))).toEqual({ options: text.split(','), malformed: true });
    expect(layerProblems(read(text), features)).toMatchObject([{ code: 'ERR_OVERLAY_OPTION_VALUE' }]);
  });

  it('an empty upperdir is left for the kernel too', () => {
    expect(shown(read('upperdir=,workdir'))).toEqual({ options: ['upperdir=', 'workdir'] });
  });

  it('are what escaping them makes of any names', () => {
    const name = fc.string({ minLength: 1 }).filter((text) => !text.includes('\0'));
    const escaped = (text: string) => text.replace(/[\\:,]/g, '\\$&');
    fc.assert(
      fc.property(fc.array(name, { minLength: 1 }), name, (lowers, upper) => {
        const text = `lowerdir=${lowers.map((one) => escaped(`/${one}`)).join(':')},upperdir=${escaped(`/${upper}`)},ro`;
        const found = read(text);
        expect(shown(found)).toEqual({ lower: lowers.map((one) => `/${one}`), upper: `/${upper}` });
        expect(found.readonly).toBe(true);
      }),
    );
  });

  it.each([
    ['', 'ERR_OVERLAY_NO_LOWER'],
    ['lowerdir=/a', 'ERR_OVERLAY_SINGLE_LOWER'],
    ['lowerdir=/a,upperdir=/u', 'ERR_OVERLAY_WORK_MISSING'],
    ['datadir+=/a,upperdir=/u,workdir=/w', 'ERR_OVERLAY_NO_REGULAR_LOWER'],
  ])('%s: what the kernel says nothing of has a reason', (text, code) => {
    expect(layerProblems(read(text), features)[0]?.code).toBe(code);
  });

  it('no reason is what the kernel takes: a work directory without an upper', () => {
    expect(layerProblems(read('lowerdir=/a:/b,workdir=/w'), features)).toEqual([]);
  });
});

describe('the other words', () => {
  it('leaves out what is not for the kernel', () => {
    const text =
      'defaults,rw,auto,noauto,user,user=root,nouser,users,owner,group,_netdev,nofail,iversion,silent,loud,comment=x,x-systemd.y=1,X-mount.mkdir,uhelper=z,,=foo';
    expect(read(text)).toEqual({
      remount: false,
      flags: [],
      readonly: false,
      lower: [],
      dataOnlyLower: [],
      malformed: false,
      options: [],
    });
  });

  it('hands on everything else, known to us or not, in order and as often as it is given', () => {
    expect(shown(read('index=on,volatile,new=1\\,2,index=off,empty=,constructor')).options).toEqual([
      'index=on',
      'volatile',
      'new=1\\,2',
      'index=off',
      'empty=',
      'constructor',
    ]);
  });

  it('reads quotation marks in security contexts, and nowhere else', () => {
    expect(shown(read('context="u:r:t:s0:c1,c2",a="b,c"')).options).toEqual([
      'context=u:r:t:s0:c1,c2',
      'a="b',
      'c"',
    ]);
  });

  it('the later of two that contradict counts', () => {
    expect(read('nosuid,nodev,noexec,noatime,sync,ro,exec,suid,async,atime,rw').flags).toEqual(['nodev']);
    expect(read('rw,ro')).toMatchObject({ readonly: true, flags: ['readonly'] });
  });

  it('ro=vfs is the mount, ro=fs the superblock', () => {
    expect(read('ro=vfs')).toMatchObject({ readonly: false, flags: ['readonly'] });
    expect(read('ro=fs')).toMatchObject({ readonly: true, flags: [] });
    expect(read('ro=recursive')).toMatchObject({ readonly: true, flags: ['readonly'] });
    expect(shown(read('ro=other')).options).toEqual(['ro=other']);
  });

  it.each(['private', 'slave', 'shared', 'unbindable'])('takes %s, recursive or not', (word) => {
    expect(read(word).propagation).toBe(word);
    expect(read(`r${word}`).propagation).toBe(word);
  });

  it('remount keeps its flags', () => {
    expect(read('ro,relatime,remount,bind,lowerdir=/a:/b')).toMatchObject({
      remount: true,
      flags: ['readonly', 'relatime', 'bind'],
    });
  });
});

describe('the plan', () => {
  it('has nothing of ours in it', () => {
    expect(plan('lowerdir=/a:/b,upperdir=/u,workdir=/w,index=on')).toEqual({
      policy: false,
      lower: [Buffer.from('/a'), Buffer.from('/b')],
      dataOnlyLower: [],
      upper: Buffer.from('/u'),
      work: Buffer.from('/w'),
      scratch: false,
      emptyLower: false,
      options: [['index', Buffer.from('on')]],
      source: Buffer.from('none'),
      readonly: false,
      mountFlags: [],
      target: Buffer.from('/m'),
      mkdirTarget: false,
      rungs: ['layer-fds', 'layer-names', 'mount', 'mount-fd-names'],
      detachedLayers: true,
      checkInUse: false,
      removeVolatileMarker: false,
      requireXattrs: false,
      xattrPrefix: 'trusted.overlay.',
      keepUpperForSync: false,
      needsFileHandles: false,
      canTellInUse: false,
      keepOnExit: true,
    });
  });

  it('sends flags of the mount as such, those of every superblock as options', () => {
    const { mountFlags, readonly, options } = plan('ro,nosuid,nosymfollow,noatime,nodiratime,lazytime,sync');
    expect({ mountFlags, readonly, options }).toEqual({
      mountFlags: ['readonly', 'nosuid', 'noatime', 'nodiratime', 'nosymfollow'],
      readonly: true,
      options: [
        ['sync', null],
        ['lazytime', null],
      ],
    });
    expect(plan('noatime,strictatime').mountFlags).toEqual(['strictatime']);
  });

  it('goes through mount(2) where fsconfig(2) takes no value of that length', () => {
    const long = 'x'.repeat(256);
    expect(plan(`context=${long}`).rungs).toEqual(['mount', 'mount-fd-names']);
    expect(plan('', long).rungs).toEqual(['mount', 'mount-fd-names']);
    expect(plan(`lowerdir=/${long}:/b`).rungs[0]).toBe('layer-fds');
  });
});
