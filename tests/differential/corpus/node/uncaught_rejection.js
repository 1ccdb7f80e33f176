process.on('exit', (code) => console.log('exit', code));
async function fail() { await null; throw new Error('rejected'); }
fail();
setTimeout(() => console.log('never'), 1000);
