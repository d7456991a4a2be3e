// What a child process of Node sees: by execFile, by a shell, and the program's own asynchronous view.
const { execFileSync, execSync } = require('child_process');
const fs = require('fs/promises');
(async () => {
  console.log('file', execFileSync('cat', ['/etc/shop/shop.toml']).toString().split('\n')[1]);
  console.log('shell', execSync('echo $SERVICE | tr a-z A-Z').toString().trim());
  console.log('own', (await fs.readFile('/run/secrets/shop/password')).toString());
  console.log('host', require('os').hostname() === process.env.POD_NAME);
})();
