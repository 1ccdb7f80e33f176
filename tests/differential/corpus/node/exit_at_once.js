process.stdout.write('x'.repeat(50000));
process.stderr.write('y'.repeat(30000));
process.exit(4);
