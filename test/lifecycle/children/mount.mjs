// Mounts with each of the options in argv[2], says so, and keeps the mounts until it is killed or its input ends.
import { mountOverlay } from '../../../dist/index.js';

for (const options of JSON.parse(process.argv[2])) await mountOverlay(options);
console.log('mounted');
process.stdin.resume();
