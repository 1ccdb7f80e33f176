const { AsyncLocalStorage } = require('async_hooks');
const { EventEmitter, once } = require('events');
const store = new AsyncLocalStorage();
const emitter = new EventEmitter();
store.run({ id: 1 }, async () => {
  await once(emitter, 'go');
  console.log(store.getStore());
  emitter.emit('error', new Error('nobody listens'));
});
emitter.emit('go');
for (let i = 0; i < 11; i++) emitter.on('many', () => {});
