process.emitWarning('careful', { type: 'Custom', code: 'MY001', detail: 'some detail' });
new Buffer(5);
require('punycode');
process.on('warning', (w) => console.log(w.name, w.message));
