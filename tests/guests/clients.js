// HTTP by http and by fetch, a raw connection, errors as Node tells them.
const http = require('http'), net = require('net');
const first = (text) => text.split('\n')[0];
const get = (url) => new Promise((done, failed) => http.get(url, (answer) => {
  let text = '';
  answer.on('data', (more) => { text += more; }).on('end', () => done(first(text)));
}).on('error', failed));
const connect = (host, port) => new Promise((done) => {
  const socket = net.connect(port, host, () => { done('connected ' + socket.remotePort); socket.destroy(); });
  socket.on('error', (error) => done(error.code));
});
(async () => {
  console.log('http', await get('http://web.default.svc.cluster.local/'));
  console.log('fetch', first(await (await fetch('http://web/')).text()));
  console.log('echo', await connect('echo', 7000));
  console.log('refused', await connect(process.argv[2], 1));
})();
