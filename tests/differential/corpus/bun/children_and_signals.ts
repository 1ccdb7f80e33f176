import { spawn } from "node:child_process";

const counts: Record<string, number> = {};
for (const signal of ["SIGUSR2", "SIGCONT", "SIGHUP"] as const) process.on(signal, () => (counts[signal] = 1));
const codes = await Promise.all(
  Array.from({ length: 20 }, async (_, number) => Bun.spawn(["sh", "-c", `exit ${number}`]).exited),
);
console.log(codes.join());
const script = "until grep -q '^State:.T' /proc/$1/status; do :; done; kill -CONT $1";
const ended = new Promise((resolve) => spawn("bash", ["-c", script, "bash", `${process.pid}`]).on("exit", resolve));
process.kill(process.pid, "SIGSTOP");
console.log(await ended);
process.kill(process.pid, "SIGUSR2");
process.kill(process.pid, "SIGHUP");
while (Object.keys(counts).length < 3) await Bun.sleep(5);
console.log(Object.keys(counts).sort().join());
process.exit(17);
