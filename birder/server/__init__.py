"""The server behind `birder serve`: a collection's page, and the HTTP interface under /api/v1."""
