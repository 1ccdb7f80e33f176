const { spawn } = require("child_process");
let continued = 0;
process.on("SIGCONT", () => continued++);
for (const signal of ["STOP", "STOP"]) {
  const script = `until grep -q '^State:.T' /proc/$1/status; do :; done; kill -CONT $1`;
  spawn("bash", ["-c", script, "bash", process.pid]).on("exit", (...end) => console.log(signal, end));
  process.kill(process.pid, `SIG${signal}`);
}
process.on("exit", () => {
  console.log(continued > 0);
  process.exitCode = 9;
});
