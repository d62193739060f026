// Refresh the live page: get what is new every two seconds, and put it above the rows that are shown.
'use strict'

const REFRESH_MS = 2000
const MAX_ROWS = 300 // in a list; older ones are removed
const MAX_ROWS_WHILE_READ = 2000 // in a list that shows older ones
const seen = document.getElementById('seen').dataset
const state = document.getElementById('state')

/** Return whether the user has selected text in an element. */
function isSelected(element) {
  return !getSelection().isCollapsed && getSelection().containsNode(element, true)
}

/** Return whether the user is reading a list, so that its rows must stay where they are. */
function isRead(list) {
  return list.scrollTop > 0 || isSelected(list) || list.querySelector('details[open]') !== null
}

/** Put the new and the changed rows of a fetched list on top of the list that is shown. Return how many there are. */
function merge(list, fetched) {
  const isKept = isRead(list)
  const height = list.scrollHeight
  let place = list.firstElementChild
  let added = 0
  let changed = 0
  for (const row of [...fetched.children]) {
    const old = row.id && document.getElementById(row.id)
    if (old && old.dataset.version === row.dataset.version) continue
    row.classList.add('fresh')
    changed += 1
    if (old && isKept) {
      if (!isSelected(old)) {
        old.replaceChildren(...row.childNodes)
        old.dataset.version = row.dataset.version
      }
      continue
    }
    if (old) {
      if (old === place) place = old.nextElementSibling
      old.remove()
    }
    list.insertBefore(row, place)
    added += 1
  }
  if (isKept) list.scrollTop += list.scrollHeight - height
  while (list.children.length > (isKept ? MAX_ROWS_WHILE_READ : MAX_ROWS)) list.lastElementChild.remove()
  return { added, changed }
}

/** Show how many rows have arrived above the visible part of a list. */
function announce(list, added) {
  const button = list.parentElement.querySelector('.new')
  button.dataset.rows = list.scrollTop > 0 ? Number(button.dataset.rows || 0) + added : 0
  button.hidden = button.dataset.rows === '0'
  button.textContent = `${button.dataset.rows} new`
}

async function refresh() {
  const url = new URL(location.href)
  for (const name of Object.keys(seen)) url.searchParams.set(name, seen[name])
  const answer = await fetch(url, { signal: AbortSignal.timeout(10000) })
  if (!answer.ok) throw new Error(await answer.text())
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
  const now = page.getElementById('seen').dataset
  if (Number(now.event) < Number(seen.event)) location.reload() // another log
  for (const id of ['events', 'rejections']) {
    const list = document.getElementById(id)
    const { added, changed } = merge(list, page.getElementById(id))
    announce(list, added)
    if (id === 'rejections' && now.rejected !== seen.rejected) document.getElementById('again').hidden = changed > 0
  }
  for (const id of ['rejected-count', 'stored-count']) document.getElementById(id).replaceWith(page.getElementById(id))
  Object.assign(seen, now)
}

async function run() {
  if (!document.hidden) {
    try {
      await refresh()
      state.className = state.textContent = 'live'
    } catch (error) {
      if (state.className === 'live') state.textContent = `not live since ${new Date().toISOString().slice(11, 19)}: ${error.message}`
      state.className = ''
    }
  }
  setTimeout(run, REFRESH_MS)
}

for (const list of document.querySelectorAll('.rows')) {
  const button = list.parentElement.querySelector('.new')
  button.addEventListener('click', () => list.scrollTo(0, 0))
  list.addEventListener('scroll', () => list.scrollTop === 0 && announce(list, 0))
}
document.querySelector('select').addEventListener('change', (event) => event.target.form.submit())
setTimeout(run, REFRESH_MS)
