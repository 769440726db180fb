// qemu from its start to the command's exit status, or to what went wrong instead.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { tail } from './command.mjs';
import { kernels, machines } from './kernels.mjs';
import { listenForLines, listenForOutput } from './ports.mjs';
import { RunnerError } from './say.mjs';

const bootSeconds = 300; // the slowest took 20, beside three others on two processors
const consoleLines = 60;

/** Returns the command's exit status; throws a RunnerError when there is none. */
export async function boot(settings, parts, disk) {
  const machine = machines[kernels[settings.kernel].arch];
  const outputs = [
    await listenForOutput('out', process.stdout),
    await listenForOutput('errors', process.stderr),
  ];
  const children = [];
  const start = (program, args, stdio) => {
    const child = spawn('chroot', [parts.tools, program, ...args], { stdio, cwd: '/' });
    children.push(child);
    return child;
  };
  let over = false;
  try {
    return await new Promise((resolve, reject) => {
      const fail = (reason) => reject(new RunnerError(reason));
      let timer = setTimeout(() => fail(`it did not start within ${bootSeconds} s`), bootSeconds * 1000);
      const onStatus = (line) => {
        const [, word, rest] = /^(\S+) ?(.*)$/.exec(line) ?? [];
        if (word === 'exit') resolve(Number(rest));
        if (word === 'failed') fail(rest);
        if (word !== 'started') return;
        clearTimeout(timer);
        timer = setTimeout(
          () => fail(`the command did not end within ${settings.timeout} s`),
          settings.timeout * 1000,
        );
      };
      const watch = (name, child) => {
        let errors = '';
        child.stderr.on('data', (text) => {
          errors = tail(errors + text, 10);
        });
        child.once('error', (error) => fail(`${name}: ${error.message}`));
        child.once('close', async (code, signal) => {
          // With the guest both end, in either order: qemu is the one that matters.
          if (name !== 'qemu') await sleep(2000);
          if (over) return;
          const status = signal ?? `exit ${code}`;
          if (name === 'qemu' && code === 0)
            fail(consoleText().includes('Kernel panic') ? 'it panicked' : 'it was shut down or restarted');
          else fail(`${name} ended (${status})${errors && `: ${errors.trim()}`}`);
        });
      };
      (async () => {
        await listenForLines('status', onStatus);
        await listenForLines(
          'monitor',
          (line) => {
            const { event, data } = JSON.parse(line);
            if (event === 'BLOCK_IO_ERROR')
              fail(`no room for the guest's disk in ${parts.cache} (${data.reason})`);
          },
          (socket) => socket.write('{"execute":"qmp_capabilities"}\n'),
        );
        watch('virtiofsd', start('/usr/lib/qemu/virtiofsd', virtiofsd, ['ignore', 'ignore', 'pipe']));
        while (!existsSync('share.sock')) await sleep(10);
        watch('qemu', start(machine.program, qemu(settings, machine), ['ignore', 'ignore', 'pipe', disk]));
      })().catch(reject);
    });
  } catch (error) {
    throw error instanceof RunnerError ? new RunnerError(explained(error, settings, parts)) : error;
  } finally {
    over = true;
    for (const child of children) child.kill('SIGKILL');
    await Promise.all(outputs.map((handedOver) => handedOver()));
  }
}

const virtiofsd = [
  '--socket-path=/mnt/share.sock',
  ...['-o', 'source=/mnt/share', '-o', 'sandbox=chroot', '-o', 'cache=always', '-o', 'log_level=err'],
];

function qemu({ accel, cpus, memory }, { machine, cpu, console }) {
  const port = (name) => [
    ...['-chardev', `socket,id=${name},path=/mnt/${name}`],
    ...['-device', `virtserialport,chardev=${name},name=${name}`],
  ];
  const append = `console=${console} quiet loglevel=4 panic=-1 oops=panic mitigations=off`;
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-machine', `${machine},memory-backend=memory`],
    ...(accel === 'kvm' ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg,thread=multi', '-cpu', cpu]),
    ...['-smp', String(cpus), '-m', `${memory}M`],
    ...['-object', `memory-backend-memfd,id=memory,size=${memory}M,share=on`],
    ...['-kernel', '/mnt/kernel', '-initrd', '/mnt/initrd', '-append', append],
    ...['-chardev', 'file,id=console,path=/mnt/console', '-serial', 'chardev:console'],
    ...['-chardev', 'socket,id=monitor,path=/mnt/monitor', '-mon', 'chardev=monitor,mode=control'],
    ...['-device', 'virtio-serial-pci', ...['status', 'out', 'errors'].flatMap(port)],
    ...['-chardev', 'socket,id=share,path=/mnt/share.sock'],
    ...['-device', 'vhost-user-fs-pci,chardev=share,tag=share'],
    ...['-add-fd', 'fd=3,set=1'],
    ...['-blockdev', 'driver=file,node-name=disk,filename=/dev/fdset/1,locking=off,cache.no-flush=on'],
    ...['-device', 'virtio-blk-pci,drive=disk'],
  ];
}

function explained(error, { kernel }, { release }) {
  const console = tail(consoleText(), consoleLines);
  const shown = console === '' ? 'The console is empty.' : `The console's last lines:\n${console}`;
  return `the VM failed (${kernel}, Linux ${release}), not the command: ${error.message}\n${shown}`;
}

const consoleText = () =>
  existsSync('console') ? readFileSync('console', 'latin1').replaceAll('\r', '') : '';
