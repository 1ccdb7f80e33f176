const vm = require("vm");
const crypto = require("crypto");
const { Worker } = require("worker_threads");
const found = {
  random: Math.random(), context: vm.runInNewContext("Math.random()"), bytes: crypto.randomBytes(8).toString("hex"),
  uuid: crypto.randomUUID(), integer: crypto.randomInt(2 ** 47), key: crypto.generateKeyPairSync("x25519").publicKey.export({ type: "spki", format: "der" }).toString("hex"),
  web: Buffer.from(globalThis.crypto.getRandomValues(new Uint8Array(8))).toString("hex"),
};
const worker = new Worker("require('worker_threads').parentPort.postMessage([Math.random(), require('crypto').randomUUID()])", { eval: true });
worker.on("message", ([random, uuid]) => console.log(JSON.stringify({ ...found, workerRandom: random, workerUuid: uuid })));
