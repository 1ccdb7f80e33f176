import fs from 'node:fs';
import { createRequire } from 'node:module';
import part, { named } from './part.mjs';

const answer = await Promise.resolve(42);
console.log(answer, part, named, import.meta.url, import.meta.filename, import.meta.dirname, import.meta.main);
console.log(typeof require, typeof module, typeof __filename, this === undefined);
console.log(createRequire(import.meta.url)('./data.json'), fs.readdirSync('.').sort());
const { default: again } = await import('./part.mjs');
console.log(again === part);
