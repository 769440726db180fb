// The file systems that the rows run on, and the directories of one row. Everything hangs in our own mount namespace
// and goes with it: image files are unlinked and loop devices released as soon as they are mounted.
import { execFileSync } from 'node:child_process';
import { mkdirSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const makers = {
  ext4: ['mkfs.ext4', '-q'],
  xfs: ['mkfs.xfs', '-q', '-m', 'reflink=1'],
  btrfs: ['mkfs.btrfs', '-q'],
};
const IMAGE_SIZE = 4 * 1024 ** 3; // sparse: two files of a gibibyte must fit

const run = (command, ...args) => execFileSync(command, args, { encoding: 'utf8' }).trim();

export class Rooms {
  #scratch;
  #mounted = new Map();
  #count = 0;

  constructor(scratch) {
    this.#scratch = scratch;
  }

  /** Makes the directories of a row: lowers l0 …, and for each of its mounts u<i>, w<i> and m<i>. */
  make(fileSystem, { lowers = 2, count = 1 }) {
    const room = join(this.#fileSystem(fileSystem), `room${this.#count++}`);
    const directories = [
      ...Array.from({ length: lowers }, (_, i) => `l${i}`),
      ...Array.from({ length: count }, (_, i) => [`u${i}`, `w${i}`, `m${i}`]).flat(),
    ];
    for (const name of directories) mkdirSync(join(room, name), { recursive: true });
    return room;
  }

  #fileSystem(type) {
    let point = this.#mounted.get(type);
    if (point === undefined) {
      point = join(this.#scratch, type);
      mkdirSync(point);
      if (type === 'tmpfs') run('mount', '-t', 'tmpfs', '-o', 'nr_inodes=0', 'overlayfs-bench', point);
      else this.#mountImage(type, point);
      this.#mounted.set(type, point);
    }
    return point;
  }

  #mountImage(type, point) {
    const image = `${point}.img`;
    writeFileSync(image, '');
    truncateSync(image, IMAGE_SIZE);
    const [maker, ...flags] = makers[type];
    run(maker, ...flags, image);
    const device = run('losetup', '--direct-io=on', '--find', '--show', image);
    run('mount', '-t', type, device, point);
    run('losetup', '--detach', device);
    unlinkSync(image);
  }
}
