// Tiers of both compilers, and the collector's threads.
const add = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 7, 1, 3, 97, 100, 100, 0, 0, 10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11]);
WebAssembly.instantiate(add).then(({ instance }) => {
  let sum = 0;
  for (let i = 0; i < 3e5; i++) sum = instance.exports.add(sum, i) | 0;
  console.log("wasm", sum);
});
function fibonacci(n) {
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}
console.log(fibonacci(27));
let kept = [];
for (let i = 0; i < 2e6; i++) {
  kept.push({ i, text: `${i}` });
  if (kept.length > 1e5) kept = kept.slice(5e4);
}
console.log(kept.at(-1));
const memory = new SharedArrayBuffer(16);
console.log(Atomics.wait(new Int32Array(memory), 0, 0, 10));
console.log(require("v8").deserialize(require("v8").serialize(new Map([[1, { a: [2n] }]]))));
