console.log("before");
globalThis.addEventListener("unload", () => console.log("unload"));
function fail(): never {
  throw new TypeError("uncaught", { cause: new Error("the cause") });
}
fail();
