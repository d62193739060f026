"""What surrounds a request: gunicorn, Flask, CORS, error answers, the OpenAPI document."""
