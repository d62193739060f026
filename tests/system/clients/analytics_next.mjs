// Drive npm @segment/analytics-next in Chromium: analytics_next.mjs URL WRITE_KEY PAGE [every|CALL...]
// Without a call, the page only makes its own page call. It stays open until standard input ends.

import { once } from 'node:events'
import { chromium } from 'playwright-core'
import { calls } from './calls.mjs'

const [url, writeKey, address, ...names] = process.argv.slice(2)
const say = (words) => console.log(JSON.stringify(words))
const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking']
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [...flags, '--disable-component-update', '--disable-sync'],
})
const page = await browser.newPage({ ignoreHTTPSErrors: true })

page.on('pageerror', (error) => say({ error: String(error) }))
page.on('console', (message) => message.type() === 'log' && console.log(message.text()))
page.on('request', (request) => say({ request: new URL(request.url()).origin }))
page.on('response', (response) => {
  const request = response.request()
  if (response.url().startsWith(url)) say({ answer: response.status(), url: response.url(), body: request.postData() })
})

const network = await page.context().newCDPSession(page)
await network.send('Network.enable')
network.on('Network.responseReceived', ({ type, response }) => {
  if (type === 'Preflight') say({ preflight: response.status, url: response.url })
})

const target = new URL(address)
target.searchParams.set('api', new URL('/v1', url).href.replace(/^https?:\/\//, ''))
target.searchParams.set('cdn', new URL(url).origin)
target.searchParams.set('key', writeKey)
const wanted = names[0] === 'every' ? Object.keys(calls) : names
for (const name of wanted) target.searchParams.append('call', name)
await page.goto(target.href)

process.stdin.resume()
await once(process.stdin, 'end')
// When the page closes, the library stores unsent events for the next page of the same origin.
await page.goto(new URL('calls.mjs', address).href)
const queue = `persisted-queue:v1:${writeKey}:dest-Segment.io:items`
const held = await page.evaluate((key) => JSON.parse(localStorage.getItem(key) ?? '[]'), queue)
say({ held: held.map(({ event }) => event.messageId) })
await browser.close()
