console.log(Object.getOwnPropertyNames(globalThis).sort().join(' '));
console.log(Object.keys(globalThis), globalThis === global, typeof navigator, navigator.hardwareConcurrency > 0);
console.log(Reflect.ownKeys(process).map(String).sort().join(' '));
console.log(require('module').builtinModules.length, process.moduleLoadList.length > 100);
console.log(Error.stackTraceLimit, Object.getOwnPropertyNames(Error).sort(), typeof Error.prepareStackTrace);
console.log(require('v8').getHeapStatistics().number_of_native_contexts, require('events').defaultMaxListeners);
