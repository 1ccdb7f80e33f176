console.log(process.argv, process.argv0, process.execArgv, process.execPath, process.title);
console.log(process.cwd(), process.exitCode, process.env.HOME, process.env.LANG, Object.keys(process.env).sort());
console.log(process.version, process.versions.v8, process.arch, process.platform, process.release.name);
console.log(process.stdin.isTTY, process.stdout.isTTY, process.stdin.fd, process.stdout.constructor.name, process.stderr.fd);
console.log(process.getuid() === process.geteuid() && process.getuid() > 0, process.umask(), process.ppid > 0, process.connected);
console.log(process.features, process.config.variables.napi_build_version, process.allowedNodeEnvironmentFlags.size > 100);
console.log(process.listenerCount('exit'), process.eventNames(), process.getActiveResourcesInfo(), process.debugPort);
console.log(process.hasUncaughtExceptionCaptureCallback(), process.throwDeprecation, process.noDeprecation, process.traceDeprecation);
