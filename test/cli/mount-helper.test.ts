// The mount(8) helper, run by the real mount and umount: in a mount namespace of its own /sbin gets the two links, so that
// the machine never sees them. The kernel, which `mount -i` asks without a helper, says what is right.
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { beforeEach, expect, it } from 'vitest';
import { describePrivileged } from '../support/needs.ts';
import { type Layers, type Scratch, scratchOn } from '../support/scratch.ts';
import { main, makeExecutable, type Ran, run } from './run.ts';

const prologue = `
sbin=$(readlink -f /sbin)
mount -i -t overlay -o "lowerdir=$1:$sbin" links "$sbin"
# What the kernel shows of the overlay here: mount flags, source, superblock.
shown() { grep " $PWD/merged " /proc/self/mountinfo | tail -n 1 | sed -E 's/^([^ ]+ ){5}([^ ]+) .*- (.*)/\\2 \\3/'; }
`;

describePrivileged('the mount(8) helper', () => {
  const scratch = scratchOn('ext4');
  let layers: Layers;
  beforeEach(() => {
    makeExecutable();
    layers = scratch.layers();
    scratch.file('other/there', '');
    scratch.directory('links');
    for (const name of ['mount', 'umount']) symlinkSync(main, scratch.path('links', `${name}.overlay`));
  });
  const shell = (script: string, directory = '.'): Ran => inNamespace(scratch, script, directory);

  it('mounts for `mount -t overlay` and unmounts for `umount`', () => {
    const { lower, upper, work, target } = layers;
    const ran = shell(`
      mount -v -t overlay box merged -o lowerdir=lower,upperdir=upper,workdir=work
      ls merged; echo new > merged/new; shown; umount -v merged; shown`);
    expect({ status: ran.status, stderr: ran.stderr }).toEqual({ status: 0, stderr: '' });
    expect(ran.stdout.split('\n')).toEqual([
      `mount.overlay: ${target} mounted by layer-fds`,
      'hello',
      expect.stringMatching(
        `^rw,relatime overlay box rw,lowerdir\\+=${lower},upperdir=${upper},workdir=${work}`,
      ),
      `umount.overlay: ${target} unmounted`,
      '',
    ]);
    expect(readFileSync(`${upper}/new`, 'utf8')).toBe('new\n');
  });

  const sameAsKernel: readonly string[] = [
    'lowerdir=lower:other',
    'ro,lowerdir=lower,upperdir=upper,workdir=work',
    'nosuid,nodev,noexec,noatime,lowerdir=lower:other',
    'nodiratime,strictatime,lowerdir=lower:other',
    'noatime,strictatime,lowerdir=lower:other',
    'lazytime,sync,dirsync,mand,iversion,silent,lowerdir=lower:other',
    'nosymfollow,lowerdir=lower:other',
    'nosuid,suid,nodev,dev,lowerdir=lower:other',
    'user,lowerdir=lower:other',
    'user,exec,lowerdir=lower:other',
    'defaults,_netdev,nofail,noauto,x-foo=1,X-bar,comment=hi,lowerdir=lower:other',
    'lowerdir=lower:other,index=on,upperdir=upper,workdir=work',
    'lowerdir=lower:other,index=on,index=off,xino=auto,upperdir=upper,workdir=work',
    'lowerdir=lower,upperdir=upper,workdir=work,volatile',
    'lowerdir=lower,upperdir=upper,workdir=work,userxattr',
    'lowerdir=lower,upperdir=upper,workdir=work,fsync=strict',
    'lowerdir=lower::other,upperdir=upper,workdir=work,metacopy=on',
    'lowerdir+=lower,lowerdir+=other',
    'lowerdir+=lower,lowerdir+=other,datadir+=third',
    'lowerdir+=lower,lowerdir=other:third',
    'lowerdir=a\\,b:lower',
    'lowerdir=a\\:b:lower',
    'lowerdir=a\\\\b:lower',
    'lowerdir=lower:other\\',
    'lowerdir=quo"te:lower',
    'lowerdir="a,b":lower',
    'lowerdir=lower,upperdir=up\\,per,workdir=wo\\,rk',
    'lowerdir=lower,upperdir=up\\:per,workdir=work',
    'lowerdir+=a\\,b,lowerdir+=lower',
    'lowerdir+=a\\\\b,lowerdir+=lower',
    'lowerdir=lower:other,workdir=work',
    'lowerdir=lower',
    'lowerdir=',
    'lowerdir=lower:',
    'lowerdir=:lower',
    'lowerdir=lower:::other',
    'lowerdir=lower::other:third',
    'lowerdir=lower,lowerdir+=other',
    'lowerdir+=lower,datadir+=other,lowerdir+=third',
    'lowerdir+=lower,lowerdir+=',
    'lowerdir=lower:missing',
    'lowerdir=lower:lower',
    'lowerdir=lower,upperdir=upper',
    'lowerdir=lower,upperdir=,workdir=work',
    'lowerdir=lower:other,no_such_option',
    'lowerdir=lower:other,volatile=',
    'lowerdir=lower:other,index=maybe',
    'lowerdir=lower:other,metacopy=on,redirect_dir=nofollow',
    'lowerdir=lower,upperdir=lower/inside/upper,workdir=lower/inside/work',
    'lowerdir=lower,upperdir=upper,workdir=upper/inside',
    'lowerdir=lower,upperdir=upper,workdir=full',
  ];
  it.each(sameAsKernel)('does with %s what the kernel does', (options) => {
    const attempt = (kind: string, helper: string) => {
      scratch.layers(kind);
      for (const name of ['other', 'third', 'a,b', 'a:b', 'a\\b', 'quo"te', 'up,per', 'up:per'])
        scratch.file(`${kind}/${name}/in-${name}`);
      // The kernel cleans two levels below work/work; with more the overlay comes up read-only, and stays.
      for (const name of ['wo,rk', 'lower/inside/upper', 'lower/inside/work', 'full/work/a/b/c/d'])
        scratch.directory(kind, name);
      const mount = `mount ${helper} -t overlay box merged -o '${options}'`;
      return shell(`if ${mount}; then ls merged; shown; else echo refused; fi`, kind);
    };
    const asked = attempt('asked', '-i');
    const ours = attempt('ours', '');
    // Layers are shown in the form in which the kernel was given them.
    const layersApart = (text: string) =>
      text.replace(/,(lowerdir\+?|datadir\+|upperdir|workdir)=[^,\n]*/g, '');
    expect(layersApart(ours.stdout)).toBe(layersApart(asked.stdout));
    expect(ours.stdout).not.toBe('');
    if (ours.stdout === 'refused\n') {
      expect(ours.stderr).toMatch(
        /^mount\.overlay: .*\/merged not mounted \(ERR_OVERLAY_[A-Z_]+\)\n {2}why: .*\n {2}fix: .*\n$/,
      );
    }
  });

  it('names the reason that mount(8) does not know, and exits with 32', () => {
    const refusal = (options: string) => shell(`mount -t overlay box merged -o '${options}' || exit $?`);
    const cases: Record<string, string> = {
      'lowerdir=lower:missing': 'ERR_OVERLAY_LAYER_NOT_FOUND',
      'lowerdir=lower:lower/hello': 'ERR_OVERLAY_LAYER_NOT_DIRECTORY',
      'lowerdir=lower': 'ERR_OVERLAY_SINGLE_LOWER',
      'lowerdir=lower:': 'ERR_OVERLAY_OPTION_VALUE',
      'lowerdir=lower,upperdir=upper': 'ERR_OVERLAY_WORK_MISSING',
      'lowerdir=lower:other,no_such_option': 'ERR_OVERLAY_OPTION_UNKNOWN',
      'lowerdir=lower:other,index=maybe': 'ERR_OVERLAY_OPTION_VALUE',
      '': 'ERR_OVERLAY_NO_LOWER',
    };
    for (const [options, code] of Object.entries(cases)) {
      const { status, stderr } = refusal(options);
      expect({ options, status, code: /\((ERR_\w+)\)/.exec(stderr)?.[1] }).toEqual({
        options,
        status: 32,
        code,
      });
    }
  });

  it('takes option strings of more than a page, which mount(2) cuts in silence', () => {
    const names = Array.from({ length: 150 }, (_, i) => `layer-with-a-name-of-some-length-${i}`);
    for (const name of names) scratch.file(`${name}/in-${name}`);
    const options = `lowerdir=${names.map((name) => scratch.path(name)).join(':')}`;
    expect(options.length).toBeGreaterThan(4096);
    const { status, stdout, stderr } = shell(
      `mount -t overlay box merged -o '${options}'; ls merged | wc -l; umount merged`,
    );
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '150\n', stderr: '' });
    const asked = shell(`mount -i -t overlay box merged -o '${options}' && ls merged | wc -l`);
    expect(asked.stdout).not.toBe('150\n');
  });

  it('goes through mount(2), with the same outcome, where fsconfig(2) takes no value of that length', () => {
    const source = 'x'.repeat(300);
    const options = 'ro,nosuid,nosymfollow,lazytime,sync,lowerdir=lower:other';
    const mounted = (how: string) =>
      shell(`${how} -t overlay ${source} merged -o ${options}; shown; umount -i merged`);
    const ours = mounted('mount -v');
    expect(ours.stdout).toMatch(/ mounted by mount\n/);
    const shown = (text: string) =>
      text.replace(/^mount\.overlay: .*\n/, '').replaceAll(`${scratch.root}/`, '');
    expect(shown(ours.stdout)).toBe(mounted('mount -i').stdout);
  });

  it('mounts a line of fstab', () => {
    const { target } = layers;
    const line = `box ${target} overlay lowerdir=${scratch.path('lower')}:${scratch.path('sp\\040ace')},noauto,nofail,x-systemd.requires=/srv,nosuid 0 0`;
    scratch.file('sp ace/spaced');
    writeFileSync(scratch.path('fstab'), `${line}\n`);
    const { status, stdout, stderr } = shell(`mount -T fstab ${target}; ls merged; shown; umount merged`);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^hello\nspaced\nrw,nosuid,relatime overlay box ro,lowerdir/);
  });

  it('remounts read-only and writable, with the flags of the mount', () => {
    const ran = shell(`
      mount -t overlay box merged -o nosuid,lowerdir=lower,upperdir=upper,workdir=work
      mount -o remount,ro merged; shown
      mount -o remount,rw,noatime merged; shown
      exec 5> merged/open; mount -o remount,ro merged; echo $?; exec 5>&-
      umount merged`);
    expect(ran.stdout).toMatch(
      /^ro,nosuid,relatime overlay box ro,.*\nrw,nosuid,noatime overlay box rw,.*\n32\n$/,
    );
    expect(ran.stderr).toMatch(
      /^mount\.overlay: .* not remounted \(ERR_OVERLAY_REMOUNT_FAILED\)\n {2}why: files .* open for writing\n/,
    );
  });

  it('unmounts as it is told: busy is 32, -l detaches, -r makes read-only', () => {
    const ran = shell(`
      again() { mount -t overlay box merged -o nodev,lowerdir=lower,upperdir=upper,workdir=work; }
      again; cd merged
      umount ../merged; echo $?
      umount -r ../merged; echo $?; cd ..; shown
      cd merged; umount -l ../merged; echo $?; cd ..; shown; echo gone
      umount merged; echo $?
      umount.overlay merged; echo $?`);
    expect(ran.stdout).toMatch(/^32\n0\nro,nodev,relatime overlay box ro,.*\n0\ngone\n32\n32\n$/);
    expect(ran.stderr).toMatch(/^umount\.overlay: .* not unmounted \(ERR_OVERLAY_BUSY\)/);
    expect(ran.stderr).toMatch(/^umount\.overlay: .* is busy, and has been made read-only$/m);
    expect(ran.stderr).toMatch(/^umount\.overlay: merged not unmounted \(ERR_OVERLAY_NOT_AN_OVERLAY\)$/m);
  });

  it('mounts nothing for -f, and leaves out what is unknown for -s', () => {
    const ran = shell(`
      mount -f -v -t overlay box merged -o lowerdir=lower:missing; shown
      mount -s -t overlay box merged -o lowerdir=lower:other,no_such_option,metacopy=on; shown; umount merged`);
    expect(ran.stdout).toMatch(
      /^mount\.overlay: .* would be mounted\nrw,relatime overlay box ro,.*metacopy=on\n$/,
    );
    expect({ status: ran.status, stderr: ran.stderr }).toEqual({ status: 0, stderr: '' });
  });

  it('leaves propagation to the parent mount, and sets it where it is told', () => {
    const ran = shell(`
      peers() { grep " $PWD/merged " /proc/self/mountinfo | grep -c ' shared:' || true; }
      mount -i --bind . . && cd . && mount -i --make-shared . && cd "$PWD"
      mount.overlay box merged -o lowerdir=lower:other; peers; umount merged
      mount.overlay box merged -o lowerdir=lower:other,private; peers; umount merged
      mount -t overlay box merged -o lowerdir=lower:other,rprivate; peers; umount merged`);
    expect(ran).toEqual({ status: 0, stdout: '1\n0\n0\n', stderr: '' });
  });

  it('works in another mount namespace for -N, which is a path or a pid', () => {
    const ran = shell(`
      exec 3>&-; mkfifo ready
      unshare -m --propagation private sh -c 'echo > ready; exec sleep 60' & read _ < ready
      there() { nsenter --mount=/proc/$!/ns/mnt grep -c " $PWD/merged " /proc/self/mountinfo; }
      mount -N $! -t overlay box "$PWD/merged" -o "lowerdir=$PWD/lower:$PWD/other"; echo $?; there; shown
      umount -N $! "$PWD/merged"; echo $?; there
      mount.overlay box merged -o "lowerdir=$PWD/lower:$PWD/missing" -N $!; echo $?
      kill $!`);
    expect(ran.stdout).toBe('0\n1\n0\n0\n32\n');
    expect(ran.stderr).toMatch(/ERR_OVERLAY_LAYER_NOT_FOUND/);
  });

  it('is told by its exit code what was wrong: 1 for the call or the privilege', () => {
    const ran = shell(`
      mount.overlay; echo $?
      mount.overlay a b c; echo $?
      mount.overlay a merged -Q; echo $?
      umount.overlay; echo $?
      chmod 755 .; setpriv --reuid 65534 --clear-groups mount.overlay box merged -o lowerdir=lower:other; echo $?`);
    expect(ran.stdout).toBe('1\n1\n1\n1\n1\n');
    expect(ran.stderr).toMatch(/^mount\.overlay: usage: /);
    expect(ran.stderr).toMatch(/\(ERR_OVERLAY_NO_PRIVILEGE\)/);
  });

  it('says that a namespace cannot be entered', () => {
    const { status, stderr } = shell(
      'PATH=$PWD/nothing:$(dirname "$(command -v node)"); node links/mount.overlay a merged -N /nowhere',
    );
    expect(status).toBeGreaterThan(0);
    expect(stderr).toMatch(/^(nsenter|mount\.overlay): cannot/);
  });
});

/** Runs a script in a directory of the test, in a mount namespace in which /sbin has the links. */
function inNamespace(scratch: Scratch, script: string, directory: string): Ran {
  const shell = ['sh', '-uc', `${prologue}${script}`, 'sh', scratch.path('links')];
  return run('unshare', ['--mount', '--propagation', 'private', ...shell], { cwd: scratch.path(directory) });
}
