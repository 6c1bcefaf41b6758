"""The API client, request parameters, uploads and prices."""
