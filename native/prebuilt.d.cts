import type { Binding } from '../dist/native/binding.js' with { 'resolution-mode': 'import' };

/** The compiled addon of one architecture. */
declare const binding: Binding;
export = binding;
