// Look at pages in Chromium: browse.mjs URL FOLDER NAME=PATH...
// Prints for each page its requests, failures and words, and for each plot its words and the number of bars or points.
// Saves a screenshot as NAME.png.

import { chromium } from 'playwright-core'

const [url, folder, ...pages] = process.argv.slice(2)
const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking']
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [...flags, '--disable-component-update', '--disable-sync'],
})

for (const each of pages) {
  const [name, path] = [each.slice(0, each.indexOf('=')), each.slice(each.indexOf('=') + 1)]
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } })
  const requested = []
  const failed = []
  page.on('request', (request) => requested.push(request.url()))
  page.on('pageerror', (error) => failed.push(String(error)))
  page.on('console', (message) => message.type() === 'error' && failed.push(message.text()))
  page.on('response', (response) => response.status() >= 400 && failed.push(`${response.status()} ${response.url()}`))
  await page.goto(new URL(path, url).href, { waitUntil: 'networkidle' })
  const cards = page.locator('.dashboard-card')
  for (const card of await cards.all()) await card.locator('svg.marks, p.empty').waitFor()
  const plots = await cards.evaluateAll((all) =>
    all.map((card) => ({
      title: card.querySelector('.dashboard-card-title a')?.innerText.trim(),
      marks: card.querySelectorAll('.mark-rect.role-mark path, .mark-symbol.role-mark path').length,
      words: [...card.querySelectorAll('svg.marks text')].map((text) => text.textContent),
    })),
  )
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true })
  for (const card of await cards.all()) {
    const mark = card.locator('.mark-rect.role-mark path, .mark-symbol.role-mark path').first()
    if (await mark.count()) await mark.hover({ force: true }) // shows the words of a tooltip
  }
  console.log(JSON.stringify({ name, requested, failed, plots, words: await page.locator('body').innerText() }))
  await page.close()
}
await browser.close()
