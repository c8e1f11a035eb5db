/**
 * Hospitals run as they do outside of tests. tap hands its own hooks to every process below it, through NODE_OPTIONS: a
 * thread more in each node, which every import passes, a slower start, and 60 MB. Import this before starting any.
 */
if (process.env['NODE_OPTIONS']?.includes('@tapjs/') === true) delete process.env['NODE_OPTIONS'];
