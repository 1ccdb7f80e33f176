const fs = require('fs');
const { pipeline } = require('stream/promises');
const zlib = require('zlib');
(async () => {
  fs.writeFileSync('a.txt', 'hello '.repeat(10000));
  await pipeline(fs.createReadStream('a.txt'), zlib.createGzip(), zlib.createGunzip(), fs.createWriteStream('b.txt'));
  console.log(fs.readFileSync('b.txt', 'utf8') === fs.readFileSync('a.txt', 'utf8'), fs.readdirSync('/sandbox').sort());
  const crypto = require('crypto');
  console.log(crypto.createHash('sha256').update('x').digest('hex'), crypto.randomBytes(4).length);
  fs.createReadStream('missing.txt').pipe(process.stdout);
})();
