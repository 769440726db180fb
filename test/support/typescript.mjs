// `node --import` of this file lets a child process or worker of a test import the TypeScript sources as they are.
import { register } from 'node:module';

register('./typescript-hooks.mjs', import.meta.url);
