setImmediate(() => console.log('immediate'));
setTimeout(() => { console.log('timeout'); setImmediate(() => console.log('immediate 2')); process.nextTick(() => console.log('tick 3')); }, 20);
process.nextTick(() => console.log('tick'));
Promise.resolve().then(() => { console.log('micro'); process.nextTick(() => console.log('tick 2')); });
queueMicrotask(() => console.log('micro 2'));
console.log('sync');
