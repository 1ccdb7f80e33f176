const child = Bun.spawnSync(['sh', '-c', 'echo out; exit 3']);
console.log(child.exitCode, child.stdout.toString());
const server = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: (q) => new Response('served ' + new URL(q.url).pathname) });
console.log(await (await fetch(`http://127.0.0.1:${server.port}/x`)).text());
server.stop(true);
const self = Bun.spawnSync([process.execPath, '-e', 'console.log(1 + 1)']);
console.log(self.stdout.toString());
