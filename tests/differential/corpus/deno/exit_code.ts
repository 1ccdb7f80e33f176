console.log("out");
console.error("err");
Deno.exitCode = 4;
globalThis.addEventListener("unload", () => console.log("code", Deno.exitCode));
