// Time stamps agree with each other, and with the kernel's.
const { performance } = require("perf_hooks");
const near = (a, b, ms) => Math.abs(a - b) < ms;
console.log(near(performance.timeOrigin + performance.now(), Date.now(), 1000));
console.log(near(process.uptime() * 1e3, performance.now(), 1000));
const { nodeTiming: timing } = performance;
console.log(timing.nodeStart <= timing.v8Start, timing.v8Start <= timing.environment, timing.environment <= timing.bootstrapComplete);
console.log(timing.bootstrapComplete < performance.now(), timing.loopStart, timing.startTime);
const began = process.hrtime.bigint();
setTimeout(() => console.log(process.hrtime.bigint() - began >= 19_000_000n), 20);
