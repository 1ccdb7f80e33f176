const fs = require("fs");
console.log(JSON.stringify({
  sockets: fs.readdirSync("/proc/self/fd").map((fd) => { try { return fs.readlinkSync(`/proc/self/fd/${fd}`); } catch { return ""; } }).filter((target) => /socket|pidfd|landlock|^\/proc\/\d+\/ns/.test(target)),
  processes: fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => pid !== process.pid),
  exe: (() => { try { return fs.readdirSync("/proc/self/exe/../.."); } catch (error) { return error.code; } })(),
}));
