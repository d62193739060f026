// Call a server without a key from pages in Chromium, in every way that a page can: prompts.mjs SITE SERVER
// Prints, as one line of JSON, the ways in which the browser would have asked its user for a password.

import { chromium } from 'playwright-core'

const [site, server] = process.argv.slice(2)
const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking']
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [...flags, '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP *.example.com 127.0.0.1'],
})

const form = `method="post" enctype="text/plain" rel="noreferrer"><input name='{"a":"' value='"}'></form>` // JSON, too

// Each way and the path that it calls. Its function runs in the page and waits for the answer.
const ways = {
  beacon: ['/beacon/v1/batch', async ([url]) => navigator.sendBeacon(url, '{"batch": []}')],
  fetch: ['/v1/track', ([url]) => fetch(url, { method: 'POST', body: '{}', credentials: 'include', referrerPolicy: 'no-referrer' }).catch(String)],
  'fetch, no-cors': ['/v1/t', ([url]) => fetch(url, { method: 'POST', body: '{}', mode: 'no-cors', credentials: 'include' }).catch(String)],
  XHR: ['/v1/page', ([url]) => new Promise((resolve) => {
    const request = new XMLHttpRequest()
    request.withCredentials = true
    request.onloadend = resolve
    request.open('POST', url)
    request.send('{}')
  })],
  image: ['/v1/pixel/page?userId=1', ([url]) => new Promise((resolve) => {
    const image = new Image()
    image.referrerPolicy = 'no-referrer'
    image.onload = image.onerror = resolve
    image.src = url
  })],
  frame: ['/v1/screen', ([url, form]) => new Promise((resolve) => {
    document.body.innerHTML = `<iframe name="frame"></iframe><form target="frame" action="${url}" ${form}`
    document.querySelector('iframe').onload = resolve
    document.querySelector('form').submit()
  })],
  form: ['/v1/identify', ([url, form]) => {
    document.body.innerHTML = `<form action="${url}" ${form}`
    document.querySelector('form').submit()
  }],
  'an address': ['/v1/pixel/track', ([url]) => void (location.href = url)],
}

const prompts = []
for (const [way, [path, call]] of Object.entries(ways)) {
  const page = await browser.newPage()
  const devtools = await page.context().newCDPSession(page)
  let answered
  const answer = new Promise((resolve) => (answered = resolve))
  devtools.on('Fetch.requestPaused', ({ requestId, responseStatusCode, request }) => {
    devtools.send('Fetch.continueRequest', { requestId }).catch(() => {})
    if (responseStatusCode && request.method !== 'OPTIONS' && request.url.endsWith(path)) answered()
  })
  devtools.on('Fetch.authRequired', ({ requestId }) => {
    prompts.push(way)
    devtools.send('Fetch.continueWithAuth', { requestId, authChallengeResponse: { response: 'CancelAuth' } }).catch(() => {})
  })
  await page.goto(site)
  const patterns = ['Request', 'Response'].map((requestStage) => ({ urlPattern: `${server}/*`, requestStage }))
  await devtools.send('Fetch.enable', { handleAuthRequests: true, patterns })
  await page.evaluate(call, [server + path, form])
  await answer
  await page.close()
}
console.log(JSON.stringify(prompts))
await browser.close()
