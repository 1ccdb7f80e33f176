process.on('uncaughtException', (value, origin) => {
  console.log('caught', typeof value, value instanceof Error ? value.code : value, origin);
  if (value === 2) { process.removeAllListeners('uncaughtException'); throw { not: 'an error' }; }
});
setTimeout(() => { throw 1; }, 1);
setTimeout(() => { Promise.reject(null); }, 5);
setTimeout(() => { throw 2; }, 20);
