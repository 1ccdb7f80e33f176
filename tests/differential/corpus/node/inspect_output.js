console.log({ a: [1, { b: { c: { d: 1 } } }], m: new Map([[1, 'x']]), s: new Set(['y']), f() {}, [Symbol('s')]: 1n, d: new Date(0) });
console.table([{ a: 1, b: 2 }]);
console.error('%s %d %j %o', 'text', 42, { x: 1 }, [1]);
console.group('group'); console.log('indented'); console.groupEnd();
console.assert(false, 'asserted'); console.dir({ deep: { er: { est: {} } } }, { depth: 0 }); console.count();
console.log(new Intl.DateTimeFormat('de-CH', { dateStyle: 'full', timeZone: 'Europe/Zurich' }).format(0), new Date(0).toString());
console.log((1234567.891).toLocaleString('de-DE'), Intl.DateTimeFormat().resolvedOptions());
