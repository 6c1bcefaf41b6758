"""`askmill web`: a page and an HTTP API over the batches of one Redis, for people without a terminal.

__main__.py, server.py   start Redis, emulator and server, and end them
app.py        the ASGI application: routes and error pages
context.py    what all requests share
api/          the HTTP API under /api, and its description
pages/        the page: its routes, templates, style and script
services/     what both do alike: submit, estimate, read rows, download
background/   keeps workers alive for the batches made here; one reader per batch, however many viewers
uploads/      a form → the options of `submit`; uploads between choosing and submitting
http/         who may send a request (token, cookie, Host, Origin, size); exceptions → problem details
"""
