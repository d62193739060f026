// Drive npm @segment/analytics-node: analytics_node.mjs URL WRITE_KEY every|CALL...

import { Analytics } from '@segment/analytics-node'
import { calls } from './calls.mjs'

const [url, writeKey, ...names] = process.argv.slice(2)
const say = (words) => console.log(JSON.stringify(words))

const analytics = new Analytics({ writeKey, host: url, path: '/v1/batch' })
analytics.on('http_response', ({ status, url, body }) => say({ answer: status, url, body }))
analytics.on('error', ({ code, reason, ctx }) => say({ failed: [ctx?.event.messageId], why: `${code}: ${reason}` }))

for (const name of names[0] === 'every' ? Object.keys(calls) : names) {
  const [method, fields] = calls[name]
  try {
    analytics[method](fields, (error, { event }) => say({ made: name, messageId: event.messageId }))
  } catch (error) {
    say({ barred: name, why: String(error) })
  }
}
await analytics.closeAndFlush()
say({ done: true })
