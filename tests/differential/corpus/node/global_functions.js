(async () => {
  console.log(structuredClone({ a: new Date(0) }), atob(btoa('x')), new URL('http://a/b?c').search, new TextDecoder().decode(new Uint8Array([0xff, 65])));
  const server = require('http').createServer((q, r) => r.end('served ' + q.url)).listen(0, '127.0.0.1', async () => {
    const answer = await fetch(`http://127.0.0.1:${server.address().port}/x`);
    console.log(answer.status, await answer.text());
    server.close(); server.closeAllConnections();
  });
  const { performance } = require('perf_hooks');
  console.log(performance.now() >= 0, performance.timeOrigin > 0, process.uptime() >= 0, typeof gc, typeof WebAssembly);
})();
