console.log(typeof require, import.meta.url);
export const exported = 1;
throw new TypeError('from a module');
