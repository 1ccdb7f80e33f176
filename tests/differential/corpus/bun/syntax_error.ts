console.log('never');
const x: = 5;
