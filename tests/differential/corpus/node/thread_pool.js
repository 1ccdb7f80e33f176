const fs = require("fs/promises");
const { promisify } = require("util");
const crypto = require("crypto");
const zlib = require("zlib");
const dns = require("dns");
(async () => {
  await Promise.all([...Array(50).keys()].map((n) => fs.writeFile(`/tmp/pool-${n}`, String(n))));
  const read = await Promise.all([...Array(50).keys()].map((n) => fs.readFile(`/tmp/pool-${n}`, "utf8")));
  console.log(read.map(Number).reduce((a, b) => a + b));
  await Promise.all(read.map((n) => fs.unlink(`/tmp/pool-${n}`)));
  const keys = await Promise.all([...Array(8)].map(() => promisify(crypto.pbkdf2)("a", "b", 1000, 8, "sha256")));
  console.log(new Set(keys.map((key) => key.toString("hex"))));
  const packed = await promisify(zlib.gzip)("x".repeat(100000));
  console.log((await promisify(zlib.gunzip)(packed)).length);
  console.log((await dns.promises.lookup("127.0.0.1", { family: 4 })).address);
  console.log((await crypto.subtle.digest("SHA-256", Buffer.from("a"))).byteLength);
})();
