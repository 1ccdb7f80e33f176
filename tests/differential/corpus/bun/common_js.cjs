console.log(typeof module, require.main === module, __filename, module.exports);
console.log(require('path').basename(__filename));
process.kill(process.pid, 'SIGTERM');
setTimeout(() => {}, 10000);
