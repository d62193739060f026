"""Create the application that gunicorn serves and the flask commands run in."""

from app import create_app

app = create_app()
