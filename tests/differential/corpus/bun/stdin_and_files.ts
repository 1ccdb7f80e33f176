console.log(JSON.stringify(await Bun.stdin.text()));
await Bun.write('out/deep.txt', 'written');
console.log(await Bun.file('/sandbox/out/deep.txt').text(), require('fs').readdirSync('.').sort());
import { part } from './part';
console.log(part);
