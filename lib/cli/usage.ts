/**
 * What is wrong with a command line.
 * @module
 */

/** The command was not written as its `--help` says: exit code 2. */
export class UsageError extends Error {}
