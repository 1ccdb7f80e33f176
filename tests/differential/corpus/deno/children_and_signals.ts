const seen = new Set<string>();
for (const signal of ["SIGUSR2", "SIGHUP"] as const) Deno.addSignalListener(signal, () => seen.add(signal));
const codes = await Promise.all(
  Array.from({ length: 20 }, async (_, number) =>
    (await new Deno.Command("sh", { args: ["-c", `exit ${number}`] }).output()).code),
);
console.log(codes.join());
const script = "until grep -q '^State:.T' /proc/$1/status; do :; done; kill -CONT $1";
const child = new Deno.Command("bash", { args: ["-c", script, "bash", `${Deno.pid}`] }).spawn();
Deno.kill(Deno.pid, "SIGSTOP");
console.log((await child.status).code);
Deno.kill(Deno.pid, "SIGUSR2");
Deno.kill(Deno.pid, "SIGHUP");
while (seen.size < 2) await new Promise((resolve) => setTimeout(resolve, 5));
console.log([...seen].sort().join());
Deno.exit(17);
