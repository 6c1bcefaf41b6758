"""Requests and responses: who may send a request, errors as problem details."""
