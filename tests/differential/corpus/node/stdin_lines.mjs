import readline from 'node:readline/promises';

const reader = readline.createInterface({ input: process.stdin, output: process.stdout });
console.log('answer:', await reader.question('name? '));
for await (const line of reader) console.log('line', line);
console.log('done');
