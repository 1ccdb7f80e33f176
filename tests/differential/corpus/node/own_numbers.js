// What a process is called by the kernel, by node, and by the threads of both.
const fs = require("fs");
const { Worker, isMainThread } = require("worker_threads");
if (isMainThread) {
  const look = () => fs.readdirSync("/proc/self/task").map((id) => fs.readFileSync(`/proc/self/task/${id}/comm`, "utf8").trim());
  // A thread that has only just begun has the first one's name.
  const patience = Date.now() + 60000;
  let names = look();
  while (names.filter((name) => name === "MainThread").length > 1 && Date.now() < patience) names = look();
  console.log(names.sort());
  console.log(process.pid === Number(fs.readlinkSync("/proc/self")), process.pid === Object.getOwnPropertyDescriptor(process, "pid").value);
  console.log(fs.readlinkSync("/proc/self/exe") === process.execPath, fs.existsSync("/proc/self/exe"));
  console.log(fs.readFileSync("/proc/self/cmdline", "utf8").split("\0"));
  console.log(fs.readFileSync("/proc/self/stat", "utf8").replace(/.*\) /, "").split(" ").slice(0, 1));
  const child = require("child_process").spawnSync(process.execPath, ["-p", "process.ppid"]);
  console.log(Number(child.stdout) === process.pid, child.status);
  new Worker(__filename).on("exit", (code) => console.log("worker", code));
} else {
  console.log(process.pid === Number(fs.readlinkSync("/proc/self")));
}
