console.log('before');
process.on('SIGTERM', () => { console.log('handled'); process.kill(process.pid, 'SIGUSR2'); });
process.kill(process.pid, 'SIGTERM');
setTimeout(() => {}, 10000);
