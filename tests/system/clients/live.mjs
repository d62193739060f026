// Read the live page in Chromium: live.mjs URL, and commands on standard input, one JSON object a line.
// {"run": "JavaScript"} prints its value as {"value"}, {"screenshot": PATH, "width", "height", "scheme"} takes a picture,
// {"hide": BOOLEAN} hides the tab or shows it. Prints {"failed"} for each error of the page.

import readline from 'node:readline'
import { chromium } from 'playwright-core'

const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking']
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: flags })
const page = await browser.newPage({ viewport: { width: 1280, height: 800 } })
const say = (words) => console.log(JSON.stringify(words))
page.on('pageerror', (error) => say({ failed: String(error) }))
page.on('console', (message) => message.type() === 'error' && say({ failed: message.text() }))
page.on('request', (request) => say({ requested: request.url() }))
page.on('dialog', (dialog) => say({ failed: dialog.message() }))
await page.goto(process.argv[2], { waitUntil: 'networkidle' })
say({ opened: true })

for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  if (command.run) say({ value: (await page.evaluate(command.run)) ?? null })
  if (command.hide !== undefined) {
    await page.evaluate((isHidden) => Object.defineProperty(document, 'hidden', { value: isHidden, configurable: true }), command.hide)
    say({ hidden: command.hide })
  }
  if (command.screenshot) {
    await page.setViewportSize({ width: command.width, height: command.height })
    await page.emulateMedia({ colorScheme: command.scheme })
    await page.screenshot({ path: command.screenshot })
    say({ taken: command.screenshot })
  }
}
await browser.close()
