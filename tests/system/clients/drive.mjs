// Drive a Node.js library: drive.mjs PACKAGE, and commands on standard input, one JSON object a line.

import readline from 'node:readline'

const library = await import(process.argv[2])
const say = (words) => console.log(JSON.stringify(words))
let client
let calls = []

function connect(url, key) {
  // The first releases export the class itself, and take the key and the host as two arguments.
  if (library.Analytics) return new library.Analytics({ host: url, writeKey: key })
  return new library.default(key, { host: url, dataPlaneUrl: url, errorHandler: () => {} })
}

function make(method, fields) {
  const message = { ...fields, timestamp: new Date(fields.timestamp) }
  const answered = (resolve) => (error) => {
    if (error) say({ failed: String(error.reason ?? error) })
    resolve()
  }
  calls.push(new Promise((resolve) => client[method](message, answered(resolve))))
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { url, key, call, flush, ...fields } = JSON.parse(line)
  if (url) client = connect(url, key)
  if (call) make(call, fields)
  if (flush) {
    client.flush()
    await Promise.all(calls)
    calls = []
    say({ flushed: true })
  }
}
process.exit()
