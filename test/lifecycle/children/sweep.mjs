// Runs unmountOrphans() with the options in argv[2] and prints what it came to, by target.
import { unmountOrphans } from '../../../dist/index.js';

const results = await unmountOrphans(JSON.parse(process.argv[2]));
console.log(
  JSON.stringify(
    Object.fromEntries(
      results.map(({ target, state, error }) => [
        target,
        error === undefined ? state : `${state}: ${error.code}`,
      ]),
    ),
  ),
);
