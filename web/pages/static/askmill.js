// Live progress, upload progress, search as it goes, and keys. Everything else works without this script.

const $ = (selector, root = document) => root.querySelector(selector)
const show = (element, visible = true) => { if (element) element.hidden = !visible }

// --- times ---------------------------------------------------------------------------------------------------
function ago(seconds) {
  for (const [size, unit] of [[86400, 'day'], [3600, 'h'], [60, 'min']]) {
    if (seconds >= size) {
      const count = Math.floor(seconds / size)
      return `${count} ${unit}${unit === 'day' && count > 1 ? 's' : ''} ago`
    }
  }
  return 'just now'
}
setInterval(() => {
  for (const time of document.querySelectorAll('time[datetime]')) {
    const past = (Date.now() - new Date(time.dateTime)) / 1000
    if (past >= 0) time.textContent = ago(past)
  }
}, 20000)

// --- live progress -------------------------------------------------------------------------------------------
const live = $('[data-live]')
let rowsAt = 0, rowsTimer = 0, searching = null

function refreshRows() {
  // At most every two seconds; a search's results and an open page of others stay as they are.
  clearTimeout(rowsTimer)
  rowsTimer = setTimeout(async () => {
    const rows = $('#rows')
    if (!rows || $('#search').value || document.hidden) return
    rowsAt = Date.now()
    const reply = await fetch(location.href, { headers: { 'x-fragment': 'rows' } }).catch(() => null)
    if (!reply?.ok || $('#search').value) return
    const at = current()?.dataset.row, focused = document.activeElement?.dataset?.open
    rows.innerHTML = await reply.text()
    mark(at)
    if (focused) $(`[data-open="${focused}"]`)?.focus()
  }, Math.max(0, rowsAt + 2000 - Date.now()))
}

if (live && live.dataset.state !== 'done') {
  const events = new EventSource(live.dataset.live)
  let state = live.dataset.state
  events.addEventListener('status', event => {
    const news = JSON.parse(event.data)
    live.innerHTML = news.html
    for (const [status, count] of Object.entries(news.counts)) {
      const option = $(`[data-count="${status}"]`)
      if (option) option.textContent = option.textContent.replace(/\([\d,]+\)$/, `(${count.toLocaleString('en')})`)
    }
    refreshRows()
    // Other buttons fit another state. Nothing that somebody is typing or reading is taken away.
    if (news.state !== state) {
      state = news.state
      if (!$('details.confirm[open]')) refreshActions()
    }
  })
  events.addEventListener('end', () => events.close())
}

async function refreshActions() {
  const reply = await fetch(location.href).catch(() => null)
  if (!reply?.ok) return
  const page = new DOMParser().parseFromString(await reply.text(), 'text/html')
  const [ours, theirs] = [$('.actions'), $('.actions', page)]
  if (ours && theirs) ours.replaceWith(theirs)
}

// --- rows ----------------------------------------------------------------------------------------------------
const lines = () => [...document.querySelectorAll('[data-rows] tbody tr')]
const current = () => $('[data-rows] tbody tr.at')

function mark(row) {
  const line = lines().find(candidate => candidate.dataset.row === String(row))
  current()?.classList.remove('at')
  line?.classList.add('at')
  return line
}

async function open(row) {
  const panel = $('#row-panel')
  const reply = await fetch(`${$('#rows').dataset.batch}/rows/${row}`).catch(() => null)
  if (!reply?.ok) return
  panel.innerHTML = await reply.text()
  panel.parentElement.classList.add('with-row')
  mark(row)?.scrollIntoView({ block: 'nearest' })
  const address = new URL(location)
  address.searchParams.set('row', row)
  history.replaceState(null, '', address)
  $('#row-title')?.focus({ preventScroll: true })
}

function close() {
  const panel = $('#row-panel')
  if (!panel?.firstElementChild) return false
  panel.replaceChildren()
  panel.parentElement.classList.remove('with-row')
  const address = new URL(location)
  address.searchParams.delete('row')
  history.replaceState(null, '', address)
  $('a', current() ?? document.createElement('tr'))?.focus()
  return true
}

document.addEventListener('click', event => {
  const link = event.target.closest?.('[data-open]')
  const line = event.target.closest?.('#rows tbody tr')
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return
  if (link || (line && !getSelection().toString())) {
    event.preventDefault()
    open((link ?? line).dataset.open ?? line.dataset.row)
  } else if (event.target.closest?.('[data-close]')) {
    event.preventDefault()
    close()
  } else if (!event.target.closest?.('details.confirm')) {
    for (const details of document.querySelectorAll('details.confirm[open]')) details.open = false
  }
})
mark(new URL(location).searchParams.get('row'))

// --- batches to compare: two or more -------------------------------------------------------------------------
const compare = $('[data-compare]')
if (compare) {
  const fit = () => { compare.disabled = document.querySelectorAll('[name=batch]:checked').length < 2 }
  document.addEventListener('change', fit)
  addEventListener('pageshow', fit)  // also after Back, when the browser has filled in the boxes
}

// --- search as it goes ---------------------------------------------------------------------------------------
const form = $('[data-search]')
form?.addEventListener('submit', event => {
  if (!$('#search').value.trim()) return
  event.preventDefault()
  search()
})
$('#status')?.addEventListener('change', () => form.requestSubmit())

async function search() {
  searching?.abort()
  searching = new AbortController()
  const query = new URLSearchParams(new FormData(form)), searched = $('[data-searched]')
  history.replaceState(null, '', `?${query}`)
  const body = $('.rows tbody')
  body.replaceChildren()
  $('[data-none]')?.remove()
  $('#rows .pages')?.replaceChildren()
  searched.textContent = 'Searching …'
  try {
    const reply = await fetch(`${form.dataset.search}?${query}`, { signal: searching.signal })
    if (!reply.ok) throw new Error(reply.statusText)
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader()
    let rest = '', step = null
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      const parts = (rest + value).split('\n')
      rest = parts.pop()
      for (const part of parts) {
        step = JSON.parse(part)
        if (step.html) body.insertAdjacentHTML('beforeend', step.html)
        const found = `${step.count.toLocaleString('en')} found`
        searched.textContent = step.full
          ? `The first ${found}, up to row ${step.searched.toLocaleString('en')}`
          : step.searched < step.of ? `${found}, ${Math.floor(100 * step.searched / step.of)} % searched` : found
      }
    }
    if (step?.full && step.searched < step.of) {
      query.set('after', step.searched)
      const more = Object.assign(document.createElement('a'), { href: `?${query}`, textContent: 'Search on' })
      $('#rows .pages').replaceChildren(more)
    }
  } catch (fault) {
    if (fault.name !== 'AbortError') searched.textContent = 'The search was interrupted. Press Enter to repeat it.'
  }
}

// --- upload --------------------------------------------------------------------------------------------------
const upload = $('[data-upload]')
if (upload) {
  const drop = $('[data-drop]'), input = $('#file'), bar = $('progress', upload)
  show($('[data-drop-hint]'))
  for (const name of ['dragenter', 'dragover']) addEventListener(name, event => {
    event.preventDefault()
    drop.classList.add('over')
  })
  addEventListener('dragleave', event => { if (!event.relatedTarget) drop.classList.remove('over') })
  addEventListener('drop', event => {
    event.preventDefault()
    drop.classList.remove('over')
    if (event.dataTransfer.files.length !== 1) return fail('Drop one file.')
    input.files = event.dataTransfer.files
    send()
  })
  input.addEventListener('change', () => { if (input.files.length) send() })
  upload.addEventListener('submit', event => { event.preventDefault(); send() })

  const fail = text => {
    const fault = $('[data-upload-fault]')
    fault.textContent = text
    show(fault)
    show(bar, false)
  }
  const send = () => {
    const request = new XMLHttpRequest()
    request.open('POST', upload.action)
    request.upload.onprogress = event => { show(bar); bar.value = 100 * event.loaded / event.total }
    request.onerror = () => fail('The upload was interrupted: the server went away, or the file is too large for it. Try again.')
    request.onload = () => {
      // A file with faults has a page too: there its rows can be skipped, or another column chosen.
      if (request.status < 400 || request.responseURL !== upload.action) return location.assign(request.responseURL)
      const page = new DOMParser().parseFromString(request.responseText, 'text/html')
      const problem = $('.problem', page)
      if (!problem) return fail('The file was refused.')
      $('.problem')?.remove()
      upload.before(problem)
      input.value = ''
      show(bar, false)
    }
    request.send(new FormData(upload))
  }
}

// --- keys ----------------------------------------------------------------------------------------------------
const help = $('#help'), helpButton = $('[data-help]')
show(helpButton)
helpButton?.addEventListener('click', () => help.showModal())

function step(by) {
  const all = lines(), at = all.indexOf(current())
  const line = all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + by))]
  if (!line) return
  current()?.classList.remove('at')
  line.classList.add('at')
  line.scrollIntoView({ block: 'nearest' })
  if ($('#row-panel')?.firstElementChild) open(line.dataset.row)
  else $('a', line)?.focus({ preventScroll: true })
}

addEventListener('keydown', event => {
  if (event.key === 'Escape') {
    if (document.activeElement?.id === 'search') document.activeElement.blur()
    else close()
    for (const details of document.querySelectorAll('details.confirm[open]')) details.open = false
    return
  }
  const typing = event.target.closest?.('input, textarea, select, dialog')
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return
  const prefix = document.body.dataset.prefix
  const keys = {
    '/': () => $('#search')?.focus(),
    j: () => step(1),
    k: () => step(-1),
    n: () => location.assign(`${prefix}/new`),
    b: () => location.assign(`${prefix}/`),
    '?': () => help.showModal(),
  }
  if (keys[event.key]) {
    event.preventDefault()
    keys[event.key]()
  }
})
