const child = new Deno.Command("sh", { args: ["-c", "echo out; exit 3"] }).outputSync();
console.log(child.code, new TextDecoder().decode(child.stdout));
const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (q) => new Response("served " + new URL(q.url).pathname));
console.log(await (await fetch(`http://127.0.0.1:${server.addr.port}/x`)).text());
await server.shutdown();
Deno.kill(Deno.pid, "SIGTERM");
await new Promise((done) => setTimeout(done, 10000));
