function inner() {
  console.log(new Error('here').stack);
  console.trace('traced');
}
inner();
setTimeout(() => { inner(); Error.stackTraceLimit = 50; inner(); }, 1);
Promise.resolve().then(function later() { inner(); });
