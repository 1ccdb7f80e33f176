console.log('never');
function f( {
  return 1;
}
