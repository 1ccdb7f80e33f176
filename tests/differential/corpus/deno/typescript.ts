interface Point { x: number }
const point: Point = { x: 1 };
console.log(point, import.meta.url, import.meta.main, import.meta.filename, Deno.mainModule, Deno.args, Deno.cwd());
console.log(Deno.execPath(), Object.keys(Deno.env.toObject()).sort(), Deno.uid() !== 0, Deno.stdin.isTerminal());
for (const name of ["read", "write", "net", "env", "run", "sys", "ffi"] as const) {
  console.log(name, (await Deno.permissions.query({ name })).state);
}
console.log(await Promise.resolve("top level await"), typeof require, typeof window);
