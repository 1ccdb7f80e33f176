globalThis.addEventListener("unhandledrejection", (event) => console.log("seen", event.reason.message));
Promise.reject(new Error("rejected"));
setTimeout(() => console.log("not reached"), 1000);
