export const exported = 1;
console.log((await import(import.meta.url)).exported);
