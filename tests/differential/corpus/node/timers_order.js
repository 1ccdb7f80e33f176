// Only orders that Node promises: a short timer and an immediate may overtake each other on a slow machine.
setImmediate(() => {
  console.log('immediate');
  setTimeout(() => { console.log('timeout'); setImmediate(() => console.log('immediate 2')); process.nextTick(() => console.log('tick 3')); }, 1);
  setTimeout(() => console.log('later timeout'), 300);
});
process.nextTick(() => console.log('tick'));
Promise.resolve().then(() => { console.log('micro'); process.nextTick(() => console.log('tick 2')); });
queueMicrotask(() => console.log('micro 2'));
console.log('sync');
