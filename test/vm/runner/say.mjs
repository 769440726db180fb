// What the runner itself has to say, and its exit status for what is not the command's affair.

/** The command was not run to its end. */
export const failed = 125;

/** Something went wrong that the command cannot be blamed for. */
export class RunnerError extends Error {}

/** Tells the person who waits. */
export function say(message) {
  process.stderr.write(`overlayfs-vm: ${message}\n`);
}
