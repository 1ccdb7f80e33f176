console.log(process.execArgv, process.env.NODE_OPTIONS, Error.stackTraceLimit, process.env.NODE_ENV);
throw new Error('with a longer stack');
