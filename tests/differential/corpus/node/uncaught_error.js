process.on('exit', (code) => console.log('exit handler', code));
class Custom extends Error {
  constructor(message, options) { super(message, options); this.extra = { deep: [1, 2] }; this.name = 'Custom'; }
}
function fail() { throw new Custom('uncaught', { cause: new RangeError('the cause') }); }
setTimeout(fail, 1);
console.log('before');
