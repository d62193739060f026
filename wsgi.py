"""What `gunicorn wsgi:app` serves and `flask` commands run in."""

from app import create_app

app = create_app()
