// Ours behind the twin's line protocol, so that strace can count the calls of a request.
import { createInterface } from 'node:readline';
import { makeOurs } from './ours.mjs';

const [room, shape] = process.argv.slice(2);
const { both } = makeOurs(room, JSON.parse(shape));
for await (const _ of createInterface({ input: process.stdin })) {
  await both();
  console.log('done');
}
