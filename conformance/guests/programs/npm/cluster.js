// The same by three workers, which share the primary's listener.
const cluster = require("cluster");
if (cluster.isPrimary) for (let worker = 0; worker < 3; worker++) cluster.fork();
else require("./server.js");
