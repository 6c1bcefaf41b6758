"""`askmill web`: a page and an HTTP API over the batches of one Redis, for people without a terminal.

__main__.py   starts Redis, emulator and server, and ends them
app.py        the ASGI application: routes, error pages, headers
guard.py      who may send a request: token, cookie, Host, Origin, size
problems.py   exceptions → problem details (RFC 9457)
forms.py      a form → the options of `submit`; uploads; what is refused
use_cases.py  submit and estimate, on top of jobs/submit
workers.py    keeps a worker alive for the batches made here
live.py       one reader per batch, however many viewers
api.py, api_docs.py       the HTTP API under /api, and its description
pages.py, drafts.py, text.py, templates/, static/   the page
"""
