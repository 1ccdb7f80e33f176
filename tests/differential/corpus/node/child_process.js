const { fork, execFileSync, spawn } = require('child_process');
if (process.argv[2] === 'child') {
  process.on('message', (m) => { process.send({ got: m, argv: process.argv.slice(2), execArgv: process.execArgv }); process.disconnect(); });
} else {
  console.log(execFileSync(process.execPath, ['-p', '1 + 1']).toString());
  const child = fork(__filename, ['child', 'x']);
  child.on('message', (m) => console.log('parent got', m));
  child.on('exit', (code, signal) => {
    console.log('fork exit', code, signal);
    spawn('sh', ['-c', 'echo out; echo err >&2; exit 3'], { stdio: 'inherit' }).on('exit', (c) => console.log('sh exit', c));
  });
  child.send({ hi: 1 });
}
