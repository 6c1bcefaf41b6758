"""`askmill web`: a page and an HTTP API over the batches of one Redis, for people without a terminal.

__main__.py, server.py   start Redis, emulator and server, and end them
app.py        the ASGI application: routes, error pages, headers
guard.py      who may send a request: token, cookie, Host, Origin, size
problems.py   exceptions → problem details (RFC 9457)
use_cases.py  submit and estimate, on top of jobs/submit
rows.py, downloads.py   what the page and the API read alike
api/          the HTTP API under /api, and its description
pages/        the page: its routes, templates, style and script
uploads/      a form → the options of `submit`; uploads between choosing and submitting
background/   keeps workers alive for the batches made here; one reader per batch, however many viewers
"""
