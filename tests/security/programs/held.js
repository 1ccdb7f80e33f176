const fs = require("fs");
const read = (name) => fs.readFileSync(`/proc/self/${name}`, "utf8");
const links = (name) => fs.readdirSync(`/proc/self/${name}`).map((each) => { try { return [each, fs.readlinkSync(`/proc/self/${name}/${each}`).replace(/(pipe:)\[\d+/, "$1[")]; } catch (error) { return [each, error.code]; } });
console.log(JSON.stringify({
  status: Object.fromEntries(read("status").split("\n").filter(Boolean).map((line) => line.split(":\t"))),
  limits: read("limits"), cgroup: read("cgroup"), mounts: read("mountinfo"), score: read("oom_score_adj"),
  namespaces: links("ns"), descriptors: links("fd").filter(([, target]) => !/^\/proc/.test(target)),
  environment: read("environ"), command: read("cmdline"), executable: fs.readlinkSync("/proc/self/exe"),
  maps: read("maps").trim().split("\n").map((line) => line.split(/\s+/)).filter((fields) => fields[5]).map((fields) => `${fields[1]} ${fields[2]} ${fields[5]}`).sort(),
  anonymous: read("maps").trim().split("\n").map((line) => line.split(/\s+/)).filter((fields) => !fields[5]).map((fields) => fields[1]).filter((kind) => kind[3] === "s" || kind === "r-xp"),
  kept: read("smaps").split("VmFlags:").filter((each) => / dc/.test(each.split("\n")[0])).length,
  users: [process.getuid(), process.getgid(), process.getgroups()], umask: process.umask(), cwd: process.cwd(),
  auxiliary: [11, 12, 13, 14].map((wanted) => { const words = new BigUint64Array(new Uint8Array(fs.readFileSync("/proc/self/auxv")).buffer); for (let i = 0; ; i += 2) if (Number(words[i]) === wanted) return Number(words[i + 1]) === process.getuid(); }),
  streams: [0, 1, 2].map((fd) => { const { uid, gid, mode } = fs.fstatSync(fd); return [uid, gid, mode]; }), parent: process.ppid, session: read("stat").replace(/.*\) /, "").split(" ").slice(2, 4).map((each) => Number(each) === process.pid),
}));
