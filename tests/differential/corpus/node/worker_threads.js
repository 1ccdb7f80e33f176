const { Worker, isMainThread, parentPort, workerData, threadId } = require('worker_threads');
if (isMainThread) {
  const worker = new Worker(__filename, { workerData: 5 });
  worker.on('message', (m) => {
    console.log('from worker', m);
    worker.postMessage('now'); // a message and an error have no order of their own
  });
  worker.on('error', (e) => console.log('worker failed', e.message));
  worker.on('exit', (code) => console.log('worker exit', code, threadId));
} else {
  parentPort.postMessage([workerData, threadId, process.argv.length, require.main === module]);
  parentPort.once('message', () => {
    throw new Error('in worker');
  });
}
