// Drive npm @segment/analytics-next in Chromium: drive_browser.mjs, and commands on standard input, one JSON object a
// line. The page at $SITE, which makes the calls, is of another origin than the tracklog.

import readline from 'node:readline'
import { chromium } from 'playwright-core'

const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking']
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: flags })
const page = await browser.newPage()
const say = (words) => console.log(JSON.stringify(words))
await page.exposeFunction('say', say)
await page.goto(process.env.SITE)
await page.addScriptTag({ path: 'node_modules/@segment/analytics-next/dist/umd/index.js' })

function connect({ url, key }) {
  const [protocol, apiHost] = `${url}/v1`.split('://')
  const integrations = { 'Segment.io': { apiKey: key, apiHost, protocol } }
  window.client = new AnalyticsNext.AnalyticsBrowser()
  window.client.load({ writeKey: key, cdnSettings: { integrations } })
  window.client.on('error', ({ reason }) => say({ failed: String(reason) }))
}

function make({ call, userId, previousId, event, groupId, category, name, properties, traits, ...options }) {
  const positional = {
    identify: [userId, traits, options],
    track: [event, properties, { userId, ...options }],
    page: [category, name, properties, { userId, ...options }],
    screen: [category, name, properties, { userId, ...options }],
    group: [groupId, traits, { userId, ...options }],
    alias: [userId, previousId, options],
  }
  return window.client[call](...positional[call])
}

let calls = []
for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  if (command.url) await page.evaluate(connect, command)
  if (command.call) calls.push(page.evaluate(make, command))
  if (command.flush) {
    await Promise.all(calls)
    calls = []
    say({ flushed: true })
  }
}
await browser.close()
