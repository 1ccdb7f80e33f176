process.on('exit', (code) => console.log('exit', code));
process.exitCode = 6;
console.error('on stderr');
