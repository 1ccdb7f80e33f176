const { spawnSync } = require('child_process');
const programs = [
  'process.exit(7)', 'process.exitCode = 8', 'process.exit()', 'throw 1', 'process.abort()', 'process.kill(process.pid, "SIGTERM"); setTimeout(()=>{}, 9999)',
  'process.on("exit", () => { process.exitCode = 9 })', 'Promise.reject(new Error("x"))', 'process.exitCode = 300', 'await 1', 'syntax error here',
];
for (const program of programs) {
  const done = spawnSync(process.execPath, ['-e', program]);
  console.log(program, done.status, done.signal);
}
process.on('beforeExit', (code) => console.log('beforeExit', code));
process.on('exit', (code) => console.log('exit', code, process.exitCode));
process.exitCode = 12;
